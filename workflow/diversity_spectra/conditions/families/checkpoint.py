"""The user's own trained weights: nothing is trained, they are evaluated and compared."""

from __future__ import annotations

from collections.abc import Iterator

from diversity_spectra.conditions.condition import Condition, Family
from diversity_spectra.settings import LocalPath, Name, Settings


def expand(checkpoints: dict[str, str], conditions: Settings) -> Iterator[Condition]:
    for name, path in checkpoints.items():
        yield Condition(f"checkpoint-{name}", "checkpoint", checkpoint=path)


FAMILY = Family(
    "checkpoint", "other", 7, expand, dict[Name, LocalPath], {},
    "your own trained weights by name (.safetensors, or .pth read with weights_only)", colour=5, marker="X",
)  # fmt: skip
