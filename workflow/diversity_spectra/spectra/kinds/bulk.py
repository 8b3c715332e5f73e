"""The Marchenko-Pastur fit: the noise in a matrix whose rows and columns have scales of their own, and what leaves it."""

from __future__ import annotations

import numpy as np

from diversity_spectra.spectra import marchenko_pastur
from diversity_spectra.spectra.decompose import GRAM_NOISE, Combination
from diversity_spectra.spectra.kind import STRICT, STRICT_OR_MP, Kind, Measure, Spectrum
from diversity_spectra.spectra.variance_profile import variance_profile

FULL_RANK_SHARE = 0.9
# When the fit holds: eigenvalues, distance to the law, shoulder beyond its edge, largest single entry. docs/spectra.md
# shows what planted worlds give.
MP_LEAST, MP_DISTANCE, MP_SHOULDER, MP_ENTRY = 20, 0.05, 0.5, 1.0


def measure(spectrum: Spectrum) -> dict:
    columns, reason = bulk_columns(spectrum.above, spectrum.parts)
    return columns | {"reason": reason}


def bulk_columns(values: np.ndarray, parts: list[Combination]) -> tuple[dict, str]:
    """Columns of the Marchenko-Pastur fit, and why there is none, if so.

    Args:
        values: (n,) eigenvalues of all `parts` above rounding error, ascending.
    """
    size = sum(min(part.shape) for part in parts)
    missing = f"no Marchenko-Pastur fit: rank {len(values)} of {size}"
    # A law for noise of full rank says nothing of a matrix that is mostly zeros, such as a low-rank update.
    if len(values) < size / 2:
        return {"mp_holds": False, "mp_reason": missing}, missing
    # Its resolvents are those of the Gram matrix, in which smaller eigenvalues are rounding.
    if np.median(values) < GRAM_NOISE * values[-1]:
        missing = f"no Marchenko-Pastur fit: the median eigenvalue is below {GRAM_NOISE:g} of the largest"
        return {"mp_holds": False, "mp_reason": missing}, missing
    parts = [part for part in parts if part.gram.any()]
    profile = variance_profile(parts, values)
    size = round(min(profile.N, profile.M) * len(parts))
    if len(values) < FULL_RANK_SHARE * size:
        return {"mp_holds": False, "mp_reason": missing}, missing
    values = values[-size:]
    bulk = marchenko_pastur.fit_bulk(values, profile.law, len(parts))
    if bulk is None:
        missing = "no bulk: half of the eigenvalues or more lie beyond any edge"
        return {"mp_holds": False, "mp_reason": missing}, f"no Marchenko-Pastur fit: {missing}"
    objections = []
    if len(values) < MP_LEAST:
        objections.append(f"{len(values)} eigenvalues, fewer than {MP_LEAST}")
    if bulk.distance > MP_DISTANCE:
        objections.append(f"no such bulk: distance {bulk.distance:.2g} to the law, more than {MP_DISTANCE}")
    if bulk.shoulder > MP_SHOULDER:
        objections.append(f"no edge: {bulk.shoulder:.0%} of the density goes on beyond it")
    if profile.largest_entry > MP_ENTRY:
        objections.append("single entries large enough for spikes of their own")
    rows, columns = profile.spreads(bulk.spikes / len(parts))
    return {
        "sigma_mp": bulk.sigma,
        "bulk_min": bulk.low,
        "bulk_max": bulk.high,
        "spike_edge": bulk.spike_edge,
        "num_spikes": bulk.spikes,
        "mp_softrank": bulk.high / float(values[-1]),
        "mp_D": bulk.distance,
        "mp_shoulder": bulk.shoulder,
        "mp_row_spread": rows,
        "mp_column_spread": columns,
        "mp_holds": not objections,
        "mp_reason": "; ".join(objections),
    }, ""


FIT = "spectra.marchenko_pastur.fit_bulk"
KIND = Kind(
    4,
    {
        "sigma_mp": Measure(
            "entry of W",
            meaning="root mean square entry of the noise, from the λ between the tenth and the fiftieth percentile of the bulk",
            source=FIT,
            when=STRICT_OR_MP,
            weightwatcher="in units of λ scaled to mean 1",
        ),
        "bulk_{min,max}": Measure(
            "λ",
            meaning="edges of the Marchenko-Pastur bulk for rows and columns of the variances that the matrix shows",
            source=FIT,
            when=STRICT_OR_MP,
            weightwatcher="all entries of one variance",
        ),
        "spike_edge": Measure(
            "λ", meaning="bulk_max with the margin of the Tracy-Widom law's 99 % quantile", source=FIT, when=STRICT
        ),
        "num_spikes": Measure(
            "count",
            meaning="number of λ > spike_edge",
            when=STRICT_OR_MP,
            weightwatcher="number above bulk_max and a margin of its own",
            label="number of spikes",
            holds="mp_holds",
        ),
        "mp_softrank": Measure(
            "1",
            meaning="bulk_max / max λ; above 1 where nothing leaves the bulk",
            when=STRICT_OR_MP,
            label="MP soft rank",
            log=True,
            holds="mp_holds",
            beside=True,
        ),
        "mp_holds": Measure(
            "true or false",
            meaning="the Marchenko-Pastur columns may be used: mp_D <= 0.05, mp_shoulder <= 0.5, 20 λ or more, no entry so large that "
            "it makes a spike alone",
            when=STRICT,
        ),
        "mp_reason": Measure("", meaning="why it does not hold; else empty", when=STRICT),
        "mp_D": Measure(
            "0 to 1",
            meaning="Kolmogorov-Smirnov distance to the Marchenko-Pastur law of the λ that are no spikes",
            source=FIT,
            when=STRICT,
        ),
        "mp_shoulder": Measure(
            "1",
            meaning="number of λ just above spike_edge over that just below bulk_max, in windows as wide as the top tenth of the law: 0 "
            "where the bulk ends, near 1 where it has no edge",
            source=FIT,
            when=STRICT,
        ),
        "mp_{row,column}_spread": Measure(
            "1",
            meaning="standard deviation of the logarithm of the noise's scale (root mean square) over rows and columns; 0 for equal ones",
            source="spectra.variance_profile.variance_profile",
            when=STRICT,
        ),
    },
    measure,
    failed=("mp_softrank", -1),
)
