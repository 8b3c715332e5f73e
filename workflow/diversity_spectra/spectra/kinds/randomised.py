"""What the values of a matrix alone, without their places, give."""

from __future__ import annotations

import numpy as np

from diversity_spectra.spectra import decompose, powerlaw
from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.kind import RANDOMIZE, Kind, Measure, Spectrum
from diversity_spectra.spectra.kinds.bulk import bulk_columns

# Columns of the Marchenko-Pastur fit that are told of the shuffled matrix too.
RANDOMISED = ("sigma_mp", "bulk_min", "bulk_max", "spike_edge", "num_spikes", "mp_softrank", "mp_D", "mp_holds")


def shuffled(matrix: np.ndarray, rng: np.random.Generator) -> Combination:
    """The matrix with its elements shuffled: what its values alone, without their places, give."""
    flat = matrix.flatten()
    rng.shuffle(flat)
    return Combination((1.0, flat.reshape(matrix.shape)))


def shannon_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Square root of the Jensen-Shannon divergence (nats) of two vectors, each normalised to sum 1."""
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2

    def divergence(x: np.ndarray) -> float:
        some = x > 0
        return float((x[some] * np.log(x[some] / middle[some])).sum())

    return max((divergence(p) + divergence(q)) / 2, 0.0) ** 0.5


def measure(spectrum: Spectrum) -> dict:
    if not spectrum.options.randomize:
        return {}
    values, rng = spectrum.values, spectrum.generator("shuffle")
    matrices = [shuffled(part.full(), rng) for part in spectrum.parts]
    random = np.sort(np.concatenate(decompose.eigenvalues(matrices)[0]))
    above = random[random > spectrum.floor]
    fit, _ = bulk_columns(above, matrices)
    tail = powerlaw.fit_tail(above)
    return {
        "max_rand_eval": random[-1],
        "rand_distance": shannon_distance(values, random),
        "ww_softrank": random[-1] / values[-1],
        "ww_maxdist": values[-1] - random[-1],
        "num_traps": fit.get("num_spikes"),
        "rand_alpha": tail.alpha if tail else np.nan,
        **{f"rand_{name}": value for name, value in fit.items() if name in RANDOMISED},
    }


SHUFFLED = "W with its elements shuffled"
SECOND = "from a second shuffle"
KIND = Kind(
    5,
    {
        "max_rand_eval": Measure("λ", meaning=f"max λ of {SHUFFLED}, seeded by layer", when=RANDOMIZE),
        "rand_distance": Measure(
            "√nats",
            meaning="Jensen-Shannon distance of sorted λ to shuffled λ, each of sum 1",
            source="spectra.kinds.randomised.shannon_distance",
            when=RANDOMIZE,
            weightwatcher=SECOND,
        ),
        "ww_softrank": Measure("1", meaning="max_rand_eval / max λ", when=RANDOMIZE, weightwatcher=SECOND),
        "ww_maxdist": Measure("λ", meaning="max λ - max_rand_eval", when=RANDOMIZE, weightwatcher=SECOND),
        "rand_alpha": Measure(
            "1", meaning=f"alpha of {SHUFFLED}", source="spectra.powerlaw.fit_tail", when="`--randomize`, strict"
        ),
        "num_traps": Measure("count", meaning="rand_num_spikes", when=RANDOMIZE),
        "rand_num_spikes": Measure("count", meaning=f"num_spikes of {SHUFFLED}", when=RANDOMIZE),
        "rand_{sigma_mp,bulk_min,bulk_max,mp_softrank}": Measure(
            "as without `rand_`", meaning=f"the same of {SHUFFLED}", when=RANDOMIZE
        ),
        "rand_{spike_edge,mp_D}": Measure(
            "as without `rand_`", meaning="the same, shuffled", when="`--randomize`, strict"
        ),
        "rand_mp_holds": Measure("true or false", meaning="the same, shuffled", when="`--randomize`, strict"),
    },
    measure,
)
