"""Kinds of generators, one module each, which is all of it: settings, training if any, drawing, words for the report.

To add a kind is to add a module here with a class `KIND` (`generate.kind.Generator`), told apart by the literal of its key
`kind`. Planning reads these modules, so torch and diffusers are imported inside the functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import Annotated

from pydantic import Field, TypeAdapter

from diversity_spectra.generate.kind import Generator

_modules = [importlib.import_module(module.name) for module in pkgutil.iter_modules(__path__, f"{__name__}.")]
KINDS: dict[str, type[Generator]] = {
    module.KIND.model_fields["kind"].annotation.__args__[0]: module.KIND
    for module in _modules
    if hasattr(module, "KIND")
}
AnyGenerator = Annotated[reduce(or_, KINDS.values()), Field(discriminator="kind")]


def parse(values: dict) -> Generator:
    """A generator from the mapping of a configuration that was validated before."""
    return TypeAdapter(AnyGenerator).validate_python(values)
