"""Likelihood ratios of a power-law tail against other distributions (Vuong, Econometrica 57, 1989).

All densities are written for y = ln(x / xmin) >= 0, where a power law is an exponential: ratios of likelihoods do not
depend on the variable, and sums of logarithms do not overflow.
"""

from __future__ import annotations

import numpy as np

GRID = 4000


def likelihood_ratios(values: np.ndarray, alpha: float) -> dict[str, float]:
    """Normalised log-likelihood ratio R / sqrt(n var) and its two-sided p, per alternative.

    Positive ratios favour the power law. A p above 0.1 says that the data cannot tell. The truncated power law contains
    the power law, so its ratio is at most 0 and its p that of the chi-squared law of 2 |R|.

    Args:
        values: (n,) the tail, ascending, its first value being xmin.
        alpha: exponent of the fitted power law.
    """
    from scipy.special import erfc

    y = np.log(values / values[0])
    power_law = np.log(alpha - 1) - (alpha - 1) * y
    columns = {}
    for name, logs in (
        ("exponential", exponential(y)),
        ("lognormal", lognormal(y)),
        ("truncated", truncated(y, alpha)),
    ):
        difference = power_law - logs
        total, spread = difference.sum(), difference.std()
        ratio = total / (np.sqrt(len(y)) * spread) if spread > 0 else 0.0
        p = erfc(np.sqrt(max(-total, 0.0))) if name == "truncated" else erfc(abs(ratio) / np.sqrt(2))
        columns |= {f"lr_{name}": float(ratio), f"lr_{name}_p": float(p)}
    return columns


def exponential(y: np.ndarray) -> np.ndarray:
    """Log density of the best exponential law of x above xmin."""
    excess = np.expm1(y)
    rate = 1 / excess.mean()
    return np.log(rate) - rate * excess + y


def lognormal(y: np.ndarray) -> np.ndarray:
    """Log density of the best lognormal law above xmin: in y a normal law cut at 0, density ~ exp(-p y - q y^2)."""
    from scipy.optimize import minimize
    from scipy.special import erfcx

    first, second = y.mean(), np.square(y).mean()

    def cost(parameters: np.ndarray) -> float:
        p, q = parameters[0], np.exp(parameters[1])
        # log of the integral of exp(-p y - q y^2) over y > 0; erfcx overflows where p is very negative.
        argument = p / (2 * np.sqrt(q))
        log_erfcx = np.log(erfcx(argument)) if argument > -25 else argument**2 + np.log(2)
        return p * first + q * second + 0.5 * np.log(np.pi / (4 * q)) + log_erfcx

    starts = [(1 / first, -4 - 2 * np.log(first)), (0.0, -np.log(2 * second)), (-1 / first, -2 * np.log(first))]
    options = {"xatol": 1e-8, "fatol": 1e-12, "maxiter": 2000}
    best = min(
        (minimize(cost, start, method="Nelder-Mead", options=options) for start in starts), key=lambda fit: fit.fun
    )
    p, q = best.x[0], np.exp(best.x[1])
    return -p * y - q * y**2 - (best.fun - p * first - q * second)


def truncated(y: np.ndarray, alpha: float) -> np.ndarray:
    """Log density of the best power law with exponential cut-off, x^-a exp(-b x) above xmin."""
    from scipy.optimize import minimize

    excess = np.expm1(y)

    def log_integral(a: float, b: float) -> float:
        # Beyond `end` the integrand is below exp(-40) of its largest value.
        end = min(np.log1p(40 / b) + 1, 40 / (a - 1) if a > 1 else np.inf)
        grid = np.linspace(0, end, GRID)
        integrand = np.exp(-(a - 1) * grid - b * np.expm1(grid))
        return float(np.log((integrand.sum() - 0.5 * (integrand[0] + integrand[-1])) * end / (GRID - 1)))

    def cost(parameters: np.ndarray) -> float:
        a, b = parameters[0], np.exp(parameters[1])
        if not -20 < a < 50 or b > 50:
            return np.inf
        return (a - 1) * y.mean() + b * excess.mean() + log_integral(a, b)

    starts = [(alpha, -6.0), (max(alpha - 0.5, 1.05), np.log(0.5 / excess.mean()))]
    options = {"xatol": 1e-7, "fatol": 1e-11, "maxiter": 2000}
    best = min(
        (minimize(cost, start, method="Nelder-Mead", options=options) for start in starts), key=lambda fit: fit.fun
    )
    pure = -np.log(alpha - 1) + (alpha - 1) * y.mean()
    if pure <= best.fun:
        return np.log(alpha - 1) - (alpha - 1) * y
    a, b = best.x[0], np.exp(best.x[1])
    return -(a - 1) * y - b * excess - log_integral(a, b)
