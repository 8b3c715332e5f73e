"""The words of the page, in short."""

from __future__ import annotations

from diversity_spectra.report.section import Section

SECTION = Section("words", "The words")
