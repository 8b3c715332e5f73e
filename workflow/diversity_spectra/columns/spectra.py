"""Columns of the spectra; docs/spectra.md says what takes more than a line.

W is N x M with N >= M, s its singular values, λ = s² the eigenvalues of WᵀW, n their number in the row.
"""

from __future__ import annotations

from diversity_spectra.columns.common import CONDITION, DEPTH, LAYER, MATRIX, MODEL, SEED, Column

FITTED = "spectra.measures.tail_columns"
BULK = "spectra.measures.bulk_columns"
NORMS = "spectra.measures.norms"
WEIGHTWATCHER = "convention `weightwatcher`"
STRICT = "convention `strict`"
RANDOMIZE = "`--randomize`"

SPECTRA = {
    "model": MODEL,
    "condition": CONDITION,
    "seed": SEED,
    "layer": LAYER,
    "depth": DEPTH,
    "matrix": MATRIX,
    "kappa": Column(
        "1",
        "what decoupled weight decay alone multiplies the layer's matrix by: that of `runs`, or nearer to 1 where the layer"
        " has a lower learning rate, is frozen or does not decay",
        "finetune.training.decay_factors",
    ),
    "convention": Column("", "`strict` or `weightwatcher`", "spectra.table.analyse"),
    "parameter": Column("", "name of the tensor in the file of weights", "spectra.matrices.plan"),
    "{shape,dtype}": Column("", "of the stored tensor", "spectra.table.analyse"),
    "view": Column(
        "",
        "how the matrix is cut out: `dense`, `expert` (one of a stack), `unfolded`, `groups`, `position`, `none`",
        "spectra.matrices.View",
        weightwatcher="convolutions: `slices`, the kernel positions pooled; with `--no-pool` `position`",
    ),
    "analysed": Column("", "the row has eigenvalues; if not, `reason` says why", "spectra.table.analyse"),
    "{N,M}": Column(
        "count",
        "longer and shorter side of one matrix",
        "spectra.matrices.View",
        weightwatcher="swapped for even kernels with out < in",
    ),
    "Q": Column("1", "N / M", "spectra.table.analyse"),
    "rf": Column("count", "positions of the convolution's kernel; 1 for a dense layer", "spectra.matrices.View"),
    "groups": Column("count", "groups of a convolution", "spectra.groups.convolution_groups", STRICT),
    "groups_source": Column(
        "",
        "`inferred` from shapes and names, since a file of weights does not state groups, or `given` by `--groups`",
        "spectra.groups.convolution_groups",
        STRICT,
    ),
    "num_matrices": Column("count", "matrices whose eigenvalues are pooled in the row", "spectra.matrices.View"),
    "num_evals": Column("count", "n", "spectra.table.analyse"),
    "method": Column(
        "",
        "`gram`: eigenvalues of WᵀW; `svd`: squared singular values, of float64 weights with min λ < 1e-9 max λ; `factors`: of "
        "a low-rank update from its factors",
        "spectra.decompose.eigenvalues",
    ),
    "norm": Column(
        "λ",
        "Σλ, the squared Frobenius norm",
        NORMS,
        weightwatcher="pooled λ of convolutions are halved, with `--no-pool` multiplied by rf / 2",
    ),
    "log_norm": Column("log10 λ", "log10 norm", NORMS),
    "{spectral_norm,lambda_max}": Column("λ", "max λ, the squared operator norm", NORMS),
    "log_spectral_norm": Column("log10 λ", "log10 max λ", NORMS),
    "sv_max": Column("s", "max s", NORMS),
    "sv_min": Column("s", "min s", NORMS, weightwatcher="the largest over slices of each slice's smallest"),
    "stable_rank": Column("1", "Σλ / max λ", NORMS),
    "matrix_rank": Column(
        "count",
        "number of λ above the rounding floor of the stored weights, and above 1e-13 max λ for weights of 32 bits or fewer",
        "spectra.measures.strict_measures",
        weightwatcher="number of s > max s x N x 2.2e-16",
    ),
    "rank_loss": Column(
        "count", "n - matrix_rank", "spectra.measures.strict_measures", weightwatcher="summed over slices"
    ),
    "entropy": Column(
        "0 to 1",
        "-Σ p ln p / ln(matrix_rank), p = λ / Σλ over the λ that matrix_rank counts",
        "spectra.measures.entropy",
        weightwatcher="over all λ, p + 1e-10 for p, rank + 1e-10",
    ),
    "alpha": Column(
        "1",
        "exponent of the tail, density ~ λ^-alpha from `xmin` on: 1 + n_t / Σ ln(λ / xmin) over its n_t values",
        "spectra.powerlaw.fit_tail",
        weightwatcher="λ > 1e-5 only; below 20 values n_t - 1 for n_t; -1 where the fit failed",
    ),
    "alpha_{low,high}": Column(
        "1",
        "95 % interval of alpha, by the way that `alpha_interval` names",
        FITTED,
        STRICT,
    ),
    "alpha_interval": Column(
        "",
        "`bootstrap` (`spectra.bootstrap` above 0): synthetic samples with xmin chosen anew in each, pivot (alpha* - 1) / "
        "(alpha - 1); `fixed xmin`: the exact gamma interval if xmin "
        "had been known, so too narrow",
        FITTED,
        STRICT,
    ),
    "goodness_p": Column(
        "0 to 1",
        "share of synthetic samples, the data counted as one, that fit as badly as the data; small speaks against a power "
        "law. With `alpha_interval` = `fixed xmin` by 100 samples at that xmin, which is too large",
        "spectra.tails.goodness",
        STRICT,
    ),
    "alpha_hill": Column(
        "1",
        "exponent over the upper half: 1 + k / Σ ln(λ / λ_(n-k)) over the k = n // 2 largest of the λ that matrix_rank counts",
        "spectra.tails.hill",
        STRICT,
    ),
    "alpha_farms": Column(
        "1",
        "the same over the pooled λ of square windows of side min(M, 128), at most 2 along either side: independent of "
        "the matrix's shape",
        "spectra.tails.farms",
        STRICT,
    ),
    "alpha_xmin_{low,high}": Column(
        "1", "range of alpha over tails of half to twice the length: how far it hangs on xmin", FITTED, STRICT
    ),
    "D": Column(
        "0 to 1",
        "Kolmogorov-Smirnov distance of the tail to its power law, to the upper and lower step",
        "spectra.powerlaw.tail_distance",
        weightwatcher="to the lower step only",
    ),
    "sigma": Column("1", "(alpha - 1) / √n_t, the standard error of alpha", "spectra.powerlaw.fit_tail"),
    "xmin": Column(
        "λ",
        "start of the tail: the λ above the rounding floor with the smallest D, of those with 8 values or more from it on",
        "spectra.powerlaw.fit_tail",
    ),
    "xmax": Column("λ", "end of the tail, max λ", FITTED),
    "num_pl_spikes": Column("count", "number of λ >= xmin", FITTED),
    "alpha_weighted": Column("1", "alpha log10(max λ)", "spectra.measures.strict_measures"),
    "log_alpha_norm": Column("1", "log10 Σ λ^alpha over all λ", "spectra.measures.log_alpha_norm"),
    "lr_{exponential,lognormal,truncated}": Column(
        "1",
        "normalised log-likelihood ratio of the power law against the alternative; positive favours the power law",
        "spectra.alternatives.likelihood_ratios",
        "`--alternatives`, strict",
    ),
    "lr_{exponential,lognormal,truncated}_p": Column(
        "0 to 1", "its two-sided p", "spectra.alternatives.likelihood_ratios", "`--alternatives`, strict"
    ),
    "sigma_mp": Column(
        "entry of W",
        "root mean square entry of the noise, from the λ between the tenth and the fiftieth percentile of the bulk",
        "spectra.marchenko_pastur.fit_bulk",
        "strict, or `--mp`",
        "in units of λ scaled to mean 1",
    ),
    "bulk_{min,max}": Column(
        "λ",
        "edges of the Marchenko-Pastur bulk for rows and columns of the variances that the matrix shows",
        "spectra.marchenko_pastur.fit_bulk",
        "strict, or `--mp`",
        "all entries of one variance",
    ),
    "spike_edge": Column(
        "λ",
        "bulk_max with the margin of the Tracy-Widom law's 99 % quantile",
        "spectra.marchenko_pastur.fit_bulk",
        STRICT,
    ),
    "num_spikes": Column(
        "count", "number of λ > spike_edge", BULK, "strict, or `--mp`", "number above bulk_max and a margin of its own"
    ),
    "mp_softrank": Column("1", "bulk_max / max λ; above 1 where nothing leaves the bulk", BULK, "strict, or `--mp`"),
    "mp_holds": Column(
        "true or false",
        "the Marchenko-Pastur columns may be used: mp_D <= 0.05, mp_shoulder <= 0.5, 20 λ or more, no entry so large that "
        "it makes a spike alone",
        BULK,
        STRICT,
    ),
    "mp_reason": Column("", "why it does not hold; else empty", BULK, STRICT),
    "mp_D": Column(
        "0 to 1",
        "Kolmogorov-Smirnov distance to the Marchenko-Pastur law of the λ that are no spikes",
        "spectra.marchenko_pastur.fit_bulk",
        STRICT,
    ),
    "mp_shoulder": Column(
        "1",
        "number of λ just above spike_edge over that just below bulk_max, in windows as wide as the top tenth of the law: 0 "
        "where the bulk ends, near 1 where it has no edge",
        "spectra.marchenko_pastur.fit_bulk",
        STRICT,
    ),
    "mp_{row,column}_spread": Column(
        "1",
        "standard deviation of the logarithm of the noise's scale (root mean square) over rows and columns; 0 for equal ones",
        "spectra.variance_profile.variance_profile",
        STRICT,
    ),
    "max_rand_eval": Column(
        "λ", "max λ of W with its elements shuffled, seeded by layer", "spectra.measures.strict_measures", RANDOMIZE
    ),
    "rand_distance": Column(
        "√nats",
        "Jensen-Shannon distance of sorted λ to shuffled λ, each of sum 1",
        "spectra.measures.shannon_distance",
        RANDOMIZE,
        "from a second shuffle",
    ),
    "ww_softrank": Column(
        "1", "max_rand_eval / max λ", "spectra.measures.strict_measures", RANDOMIZE, "from a second shuffle"
    ),
    "ww_maxdist": Column(
        "λ", "max λ - max_rand_eval", "spectra.measures.strict_measures", RANDOMIZE, "from a second shuffle"
    ),
    "rand_alpha": Column(
        "1", "alpha of W with its elements shuffled", "spectra.powerlaw.fit_tail", "`--randomize`, strict"
    ),
    "num_traps": Column("count", "rand_num_spikes", "spectra.measures.strict_measures", RANDOMIZE),
    "rand_{sigma_mp,bulk_min,bulk_max,num_spikes,mp_softrank}": Column(
        "as without `rand_`", "the same of W with its elements shuffled", BULK, RANDOMIZE
    ),
    "rand_{spike_edge,mp_D,mp_holds}": Column(
        "as without `rand_`", "the same, shuffled", BULK, "`--randomize`, strict"
    ),
    "subspace_k": Column(
        "count", "k = min(10, M // 2)", "spectra.parameter.Parameter", "rows `W` with a reference, strict"
    ),
    "subspace_overlap_{long,short}": Column(
        "0 to 1",
        "mean cos² of the principal angles between the k leading singular subspaces of W and W_pretrained, on the longer "
        "and shorter side; two random subspaces give k / N and k / M",
        "spectra.parameter.Parameter",
        "rows `W` with a reference, strict",
    ),
    "status": Column("", "`success` or `failed`: of the power-law fit", "spectra.compatible.power_law", WEIGHTWATCHER),
    "warning": Column(
        "",
        "what speaks against reading alpha as an exponent: no power law (goodness_p <= 0.01), narrow tail (max λ < 2 xmin), "
        "tail truncated above, fingers (a few λ far above the rest)",
        "spectra.tails.warnings",
        weightwatcher="`over-trained` for alpha < 2, `under-trained` for alpha > 6",
    ),
    "weak_rank_loss": Column("count", "number of λ < 1e-6", "spectra.compatible.measures", WEIGHTWATCHER),
    "W_scale": Column(
        "1", "√(n / Σλ): brings λ to mean 1", "spectra.compatible.marchenko_pastur_fit", "weightwatcher with `--mp`"
    ),
    "rand_W_scale": Column(
        "1", "the same, shuffled", "spectra.compatible.marchenko_pastur_fit", "weightwatcher with `--randomize`"
    ),
    "{detX_num,num_ERG_spikes}": Column(
        "count",
        "length of the tail whose product of λ, scaled to mean 1, first drops below 1",
        "spectra.compatible.trace_log",
        WEIGHTWATCHER,
    ),
    "detX_val": Column("λ", "the smallest λ of that tail", "spectra.compatible.trace_log", WEIGHTWATCHER),
    "ERG_gap": Column("count", "detX_num - num_pl_spikes", "spectra.compatible.measures", WEIGHTWATCHER),
    "reason": Column("", "why a row is not analysed, or a fit is missing; else empty", "spectra.table.analyse"),
    "versions": Column("", "of this package and NumPy", "spectra.table.analyse"),
}
