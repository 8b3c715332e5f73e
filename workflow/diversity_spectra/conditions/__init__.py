"""Conditions: what is compared. Each family has a module in `families/` that is all of it.

To add a family is to add a module there: its key in the configuration, how its values become conditions, its role, its
place among the others and its look in figures. Configuration, plan, comparison and report take all that from this registry.
A name of a condition is stable, readable and safe in a path: `dropout-0.3`, `augmentation-rotation-30`, `synthetic-0.5`,
`dropout-0.3+weight_decay-0.1`.
"""

from __future__ import annotations

import importlib
import pkgutil

from pydantic import create_model

from diversity_spectra.conditions import families
from diversity_spectra.conditions.condition import Condition, Family, Role
from diversity_spectra.settings import Settings, key

__all__ = ["FAMILIES", "MODULES", "Condition", "Conditions", "Family", "Role", "expand", "of_role"]


# Of the families, below the package: code of whatever reads the registry.
MODULES = tuple(f"conditions.families.{module.name}" for module in pkgutil.iter_modules(families.__path__))


def _registered() -> dict[str, Family]:
    """Families by name, in their order."""
    found = [importlib.import_module(f"diversity_spectra.{module}").FAMILY for module in MODULES]
    return {family.name: family for family in sorted(found, key=lambda family: family.rank)}


FAMILIES = _registered()

Conditions = create_model(
    "Conditions",
    __base__=Settings,
    __doc__="Families of conditions; the plain fine-tune `baseline` is always there.",
    __module__=__name__,
    **{
        family.name: (family.values, key(family.default, description=family.description))
        for family in FAMILIES.values()
        if family.values
    },
)


def of_role(*roles: Role) -> tuple[str, ...]:
    """Names of the families with such a role, in their order."""
    return tuple(family.name for family in FAMILIES.values() if family.role in roles)


def expand(conditions: Settings) -> list[Condition]:
    """All conditions of one model, baseline first, in the order of the families; each once."""
    found = [
        condition
        for family in FAMILIES.values()
        for condition in family.expand(getattr(conditions, family.name, None), conditions)
    ]
    return list({condition.name: condition for condition in found}.values())
