"""The plain fine-tune, with which every condition is compared."""

from __future__ import annotations

from diversity_spectra.conditions.condition import Condition, Family

FAMILY = Family("baseline", "baseline", 0, lambda value, conditions: [Condition("baseline", "baseline")])
