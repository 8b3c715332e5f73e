"""Families of conditions, one module each with its `FAMILY`; see `diversity_spectra.conditions`."""
