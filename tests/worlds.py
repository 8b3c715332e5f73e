"""Simulated experiments with a known answer: the six input tables of `compare`, for tests of it and of the report.

`world("supported")` gives a run in which every claim is true, `world("contradicted")` one in which every claim is
false, `world("inconclusive")` one in which nothing does anything, the positive controls included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

# Natural level and run-to-run standard deviation of each measure. Planted shifts are in units of that deviation, and the same
# in W and dW; stable_rank varies on the log scale, as the measured one does.
CORE = {"alpha_hill": (2.4, 0.03), "stable_rank": (12.0, 0.01), "entropy": (0.93, 0.002)}
ON_LOG_SCALE = {"stable_rank"}
MATRICES = ("W", "dW")

# family, kind, strength of every condition
CONDITIONS = {
    "baseline": ("baseline", "", np.nan),
    "dropout-0.1": ("dropout", "", 0.1),
    "dropout-0.3": ("dropout", "", 0.3),
    "dropout-0.5": ("dropout", "", 0.5),
    "weight_decay-0.1": ("weight_decay", "", 0.1),
    "weight_decay-0.5": ("weight_decay", "", 0.5),
    "weight_decay-1.0": ("weight_decay", "", 1.0),
    "steps-0.5x": ("optimisation", "steps", 0.5),
    "steps-1.5x": ("optimisation", "steps", 1.5),
    "lr-0.5x": ("optimisation", "lr", 0.5),
    "lr-2x": ("optimisation", "lr", 2.0),
    "augmentation-rotation-15": ("augmentation", "rotation", 15.0),
    "augmentation-rotation-30": ("augmentation", "rotation", 30.0),
    "augmentation-gaussian_noise-0.1": ("augmentation", "gaussian_noise", 0.1),
    "augmentation-gaussian_noise-0.2": ("augmentation", "gaussian_noise", 0.2),
    "synthetic-0.25": ("synthetic", "added", 0.25),
    "synthetic-0.5": ("synthetic", "added", 0.5),
    "synthetic-1.0": ("synthetic", "added", 1.0),
    "synthetic-replace-0.5": ("synthetic", "replaced", 0.5),
    "dropout-0.3+weight_decay-0.1": ("combinations", "", np.nan),
    "checkpoint-mine": ("checkpoint", "", np.nan),
}
# How far each condition goes along its family's direction, as a share of `length`.
AMOUNT = {
    "dropout-0.1": 0.2,
    "dropout-0.3": 0.6,
    "dropout-0.5": 1.0,
    "weight_decay-0.1": 0.1,
    "weight_decay-0.5": 0.5,
    "weight_decay-1.0": 1.0,
    "steps-0.5x": -1.0,
    "steps-1.5x": 0.8,
    "lr-0.5x": -0.8,
    "lr-2x": 1.0,
    "augmentation-rotation-15": 0.5,
    "augmentation-rotation-30": 1.0,
    "augmentation-gaussian_noise-0.1": 0.4,
    "augmentation-gaussian_noise-0.2": 0.8,
    "synthetic-0.25": 0.3,
    "synthetic-0.5": 0.6,
    "synthetic-1.0": 1.0,
    "synthetic-replace-0.5": 0.6,
}
DATA_FAMILIES = ("augmentation", "synthetic")


@dataclass(frozen=True)
class Truth:
    """What holds in a world.

    length: of the strongest shift of each family, in noise standard deviations per feature (root mean square).
    cosine_dropout, cosine_decay, cosine_steps: of every data condition's shift with the directions of dropout, of weight
    decay and of longer training, which lie at right angles, a higher rate at right angles to all of them.
    ln_vendi: gain in ln(Vendi) per unit of amount, of augmentation and of synthetic data.
    ood: gain in out-of-distribution accuracy per unit of amount, of augmentation and of synthetic data.
    collapse: change of test accuracy at the largest synthetic amount, against a rise of 0.02 per unit below it.
    """

    length: float
    cosine_dropout: float
    cosine_decay: float
    cosine_steps: float
    ln_vendi: tuple[float, float]
    ood: tuple[float, float]
    collapse: float


TRUTHS = {
    "supported": Truth(6.0, 0.9, 0.1, 0.0, (0.2, 0.8), (0.01, 0.08), -0.04),
    "contradicted": Truth(6.0, -0.4, 0.0, 0.87, (0.6, 0.1), (0.06, 0.0), 0.05),
    # Every data condition moves exactly as dropout at the rate 0.5 * amount does.
    "as_dropout": Truth(6.0, 1.0, 0.0, 0.0, (0.2, 0.8), (0.01, 0.08), -0.04),
    "inconclusive": Truth(0.0, 0.0, 0.0, 0.0, (0.0, 0.0), (0.0, 0.0), 0.0),
}


def world(
    name: str = "supported",
    *,
    seeds: int = 5,
    baseline_runs: int = 12,
    models: tuple[str, ...] = ("mlp",),
    layers: int = 4,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Tables `runs`, `conditions`, `diversity`, `evaluation`, `spectra` of one simulated experiment.

    name: of a truth in TRUTHS. seeds: runs of each condition. layers: per model, each with W and dW.
    Models are independent of each other.
    """
    truth = TRUTHS[name]
    tables = [_one_model(truth, model, seeds, baseline_runs, layers, [seed, k]) for k, model in enumerate(models)]
    joined = {key: pd.concat([table[key] for table in tables], ignore_index=True) for key in tables[0]}
    joined["diversity"] = _diversity(truth)
    return joined


def directions(truth: Truth, features: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Unit vectors (features,) by family, or kind of optimisation: the data families have the truth's cosines."""
    basis = np.linalg.qr(rng.standard_normal((features, 6)))[0].T
    dropout, decay, steps, lr = basis[:4]
    planted = np.array([truth.cosine_dropout, truth.cosine_decay, truth.cosine_steps])
    rest = np.sqrt(max(0.0, 1 - (planted**2).sum()))
    data = {family: planted @ basis[:3] + rest * other for family, other in zip(DATA_FAMILIES, basis[4:], strict=True)}
    return {"dropout": dropout, "weight_decay": decay, "steps": steps, "lr": lr, **data}


def _one_model(truth, model, seeds, baseline_runs, layers, entropy):
    rng = np.random.default_rng(entropy)
    shape = (layers, len(MATRICES), len(CORE))
    features = layers * len(CORE)
    unit = directions(truth, features, rng)
    length = truth.length * np.sqrt(features)
    runs, evaluation, spectra = [], [], []
    for condition, (family, _, strength) in CONDITIONS.items():
        shift = _shift(condition, unit) * length
        kappa = float(np.exp(-0.4 * strength)) if family == "weight_decay" else 1.0
        kappa = float(np.exp(-0.04)) if family == "combinations" else kappa
        count = {"baseline": baseline_runs, "checkpoint": 1}.get(family, seeds)
        for run_seed in range(count):
            run = {"model": model, "condition": condition, "seed": run_seed}
            # A factor common to all features and one per layer: measured features are strongly correlated.
            noise = rng.standard_normal(shape) * 0.7 + rng.standard_normal() * 0.5
            noise += rng.standard_normal((layers, 1, 1)) * 0.5
            latent = noise + shift.reshape(layers, 1, len(CORE))
            runs.append({**run, "kappa": kappa, "train_loss": 0.01, "train_accuracy": 0.99, "steps": 1200})
            evaluation += _evaluation(truth, run, condition, rng)
            spectra += _spectra(run, latent, kappa)
    conditions = [
        {
            "model": model,
            "condition": name,
            "family": family,
            "kind": kind,
            "strength": strength,
            "training_set": name if family in DATA_FAMILIES else "real",
        }
        for name, (family, kind, strength) in CONDITIONS.items()
    ]
    frames = {"runs": runs, "conditions": conditions, "evaluation": evaluation, "spectra": spectra}
    return {key: pd.DataFrame(rows) for key, rows in frames.items()}


def _shift(condition: str, unit: dict[str, np.ndarray]) -> np.ndarray:
    """Planted shift (features,) in units of `length`; a combination is the sum of its parts."""
    if "+" in condition:
        return sum(_shift(part, unit) for part in condition.split("+"))
    family, kind, _ = CONDITIONS[condition]
    return AMOUNT.get(condition, 0.0) * unit.get(
        kind if family == "optimisation" else family, np.zeros_like(unit["dropout"])
    )


def _spectra(run: dict, latent: np.ndarray, kappa: float) -> list[dict]:
    rows = []
    for layer in range(len(latent)):
        for which, matrix in enumerate(MATRICES):
            measures = {}
            for (measure, (level, deviation)), value in zip(CORE.items(), latent[layer, which], strict=True):
                measures[measure] = (
                    level * np.exp(deviation * value) if measure in ON_LOG_SCALE else level + deviation * value
                )
            shrinking = 2 * np.log10(kappa) if matrix == "W" else 0.0
            log_norm = 1.5 + 0.01 * latent[layer, which].mean() + shrinking
            derived = {
                "log_norm": log_norm,
                "log_spectral_norm": log_norm - np.log10(measures["stable_rank"]),
                "alpha": 3.5 + 0.05 * latent[layer, which, 0],
                "alpha_farms": 2.1 + 0.02 * latent[layer, which, 0],
                "mp_softrank": 0.3 * np.exp(0.02 * latent[layer, which, 1]),
                "mp_holds": True,
                "D": 0.05,
                "num_spikes": 5.0,
                "num_pl_spikes": 20.0,
                "xmin": 10.0**shrinking * 0.5,
                "log_alpha_norm": measures["alpha_hill"] * log_norm,
                "alpha_weighted": measures["alpha_hill"] * (log_norm - np.log10(measures["stable_rank"])),
                "subspace_overlap_long": 0.9 if matrix == "W" else np.nan,
                "subspace_overlap_short": 0.8 if matrix == "W" else np.nan,
                "reason": "",
            }
            row = {**run, "layer": f"fc{layer + 1}", "depth": layer, "matrix": matrix, **measures, **derived}
            rows.append(row)
            if matrix == "dW":
                rows.append({**row, "matrix": "dW_corrected"})
                if kappa != 1.0:
                    rows[-2] = {**row, "stable_rank": 3.0 * row["stable_rank"], "alpha_hill": row["alpha_hill"] + 0.8}
    return rows


def _evaluation(truth: Truth, run: dict, condition: str, rng: np.random.Generator) -> list[dict]:
    family = CONDITIONS[condition][0]
    amount = AMOUNT.get(condition, 0.0) if family in DATA_FAMILIES else 0.0
    gain_ood = dict(zip(DATA_FAMILIES, truth.ood, strict=True)).get(family, 0.0) * amount
    gain_id = (0.02 if truth.length else 0.0) * amount
    if condition == "synthetic-1.0" and truth.length:
        gain_id = truth.collapse
    luck = rng.standard_normal() * 0.004
    rows = []
    for name, shift, level in (
        ("test", "none", 0.92),
        ("uci_digits", "natural", 0.70),
        ("test-gaussian_noise-1", "corruption", 0.85),
        ("test-gaussian_noise-3", "corruption", 0.70),
    ):
        gain = gain_id if shift == "none" else gain_ood
        accuracy = level + gain + luck + rng.standard_normal() * (0.003 if shift == "none" else 0.008)
        error = 1 - accuracy
        ece = 0.03 - 0.3 * gain + rng.standard_normal() * 0.003
        scores = {"nll": 3 * error, "brier": 1.5 * error, "ece": ece, "adaptive_ece": ece + 0.001, "n": 1000}
        rows.append({**run, "set": name, "shift": shift, "accuracy": accuracy, **scores})
    return rows


def _diversity(truth: Truth) -> pd.DataFrame:
    """Vendi scores: the pixel kernels see half the gain of the embedding kernel; intervals of +-1 %."""
    gains = dict(zip(DATA_FAMILIES, truth.ln_vendi, strict=True))
    sets = {"real": 0.0}
    for condition, (family, _, _) in CONDITIONS.items():
        if family in DATA_FAMILIES:
            sets[condition] = gains[family] * AMOUNT[condition]
    rows = []
    for training_set, gain in sets.items():
        for kernel, level, share in (("pixel", 9.8, 0.5), ("pixel_centred", 40.0, 0.5), ("embedding", 2.6, 1.0)):
            for order, factor in (("1", 1.0), ("2", 0.6), ("inf", 0.3)):
                for label in [*map(str, range(10)), "mean", "overall"]:
                    score = level * factor * np.exp(share * gain)
                    interval = {"score": score, "low": score * 0.99, "high": score * 1.01}
                    rows.append(
                        {
                            "training_set": training_set,
                            "kernel": kernel,
                            "order": order,
                            "label": label,
                            **interval,
                            "n": 100,
                        }
                    )
    return pd.DataFrame(rows)
