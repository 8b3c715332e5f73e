"""Conditions: families in the configuration, expanded to named conditions.

A name is stable, readable and safe in a path: `dropout-0.3`, `augmentation-rotation-30`, `synthetic-0.5`,
`dropout-0.3+weight_decay-0.1`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from diversity_spectra.config import Combination, Conditions


@dataclass(frozen=True)
class DataRecipe:
    """What is done to the training images: augmentations as (kind, level), synthetic images per real image."""

    augmentations: tuple[tuple[str, float], ...] = ()
    synthetic: float = 0.0
    mode: str = "added"

    @property
    def name(self) -> str:
        """Name of the training set; `plain` for the real images as they are."""
        parts = [f"{kind}-{level:g}" for kind, level in self.augmentations]
        if self.synthetic:
            parts.append(synthetic_name(self.synthetic, self.mode))
        return "+".join(parts) or "plain"

    def settings(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Condition:
    """One technique, or several, at one strength. `strength` is None where the family has no single one."""

    name: str
    family: str
    kind: str = ""
    strength: float | None = None
    dropout: float = 0.0
    dropout_where: str = "blocks"
    weight_decay: float = 0.0
    recipe: DataRecipe = DataRecipe()
    checkpoint: str | None = None


BASELINE = Condition("baseline", "baseline")


def synthetic_name(ratio: float, mode: str) -> str:
    return f"synthetic-{ratio:g}" if mode == "added" else f"synthetic-replaced-{ratio:g}"


def expand(families: Conditions) -> list[Condition]:
    """All conditions of one model, baseline first, in the order of the families."""
    where = families.dropout.where if families.dropout else "blocks"
    conditions = [BASELINE]
    if families.dropout:
        conditions += [
            Condition(f"dropout-{rate:g}", "dropout", strength=rate, dropout=rate, dropout_where=where)
            for rate in families.dropout.rates
        ]
    if families.weight_decay:
        conditions += [
            Condition(f"weight_decay-{decay:g}", "weight_decay", strength=decay, weight_decay=decay)
            for decay in families.weight_decay.values
        ]
    for kind in type(families.augmentation).model_fields:
        for level in getattr(families.augmentation, kind):
            recipe = DataRecipe(augmentations=((kind, float(level)),))
            conditions.append(
                Condition(f"augmentation-{recipe.name}", "augmentation", kind, float(level), recipe=recipe)
            )
    for synthetic in families.synthetic:
        for ratio in synthetic.ratios:
            recipe = DataRecipe(synthetic=ratio, mode=synthetic.mode)
            conditions.append(Condition(recipe.name, "synthetic", synthetic.mode, ratio, recipe=recipe))
    conditions += [_combine(combination, where) for combination in families.combinations]
    conditions += [
        Condition(f"checkpoint-{name}", "checkpoint", checkpoint=path) for name, path in families.checkpoint.items()
    ]
    return list({condition.name: condition for condition in conditions}.values())


def _combine(combination: Combination, where: str) -> Condition:
    recipe = DataRecipe(
        augmentations=tuple((kind, float(combination.augmentation[kind])) for kind in sorted(combination.augmentation)),
        synthetic=combination.synthetic or 0.0,
    )
    parts = []
    if combination.dropout:
        parts.append(f"dropout-{combination.dropout:g}")
    if combination.weight_decay:
        parts.append(f"weight_decay-{combination.weight_decay:g}")
    parts += [f"augmentation-{kind}-{level:g}" for kind, level in recipe.augmentations]
    if recipe.synthetic:
        parts.append(synthetic_name(recipe.synthetic, recipe.mode))
    return Condition(
        "+".join(parts),
        "combinations",
        dropout=combination.dropout or 0.0,
        dropout_where=where,
        weight_decay=combination.weight_decay or 0.0,
        recipe=recipe,
    )
