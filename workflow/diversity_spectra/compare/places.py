"""Where runs were made: what was never made as the baseline was may differ from it for that reason alone."""

from __future__ import annotations

import pandas as pd

PLACES = ("device", "machine", "torch")  # columns of the table `runs`


def apart(runs: pd.DataFrame, baseline: str) -> dict[str, list[str]]:
    """Conditions of one model of which no run shares its device, machine or version with any run of the baseline, by column.

    runs: with the columns of PLACES, as far as they are known; an empty text is not.
    """
    found = {}
    for place in [name for name in PLACES if name in runs]:
        known = runs[runs[place].fillna("") != ""]
        plain = known.loc[known["condition"] == baseline, place]
        shared = known[place].isin(plain).groupby(known["condition"], sort=False).any()
        if len(plain) and not shared.all():
            found[place] = list(shared.index[~shared])
    return found
