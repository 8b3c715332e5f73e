"""What a column of a table is, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """unit: empty for names and words. source: function below the package that computes it.

    when: empty where every run writes it. weightwatcher: how it differs in the convention of that name.
    """

    unit: str
    meaning: str
    source: str
    when: str = ""
    weightwatcher: str = ""


def expand(name: str) -> list[str]:
    """Names that a name with alternatives in braces stands for, as in a shell."""
    braces = re.search(r"\{([^{}]*)\}", name)
    if not braces:
        return [name]
    head, tail = name[: braces.start()], name[braces.end() :]
    return [full for part in braces[1].split(",") for full in expand(f"{head}{part}{tail}")]
