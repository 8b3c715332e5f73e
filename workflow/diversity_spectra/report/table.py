"""A table of the page: text in rows, ready to print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """head: above the columns. rows: cells as text. words: leading columns that hold words; the rest are numbers."""

    head: list[str]
    rows: list[list[str]]
    words: int = 1

    def __bool__(self) -> bool:
        return bool(self.rows)
