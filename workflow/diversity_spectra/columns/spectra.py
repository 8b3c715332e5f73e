"""Columns of the spectra; docs/spectra.md says what takes more than a line.

Those of measures stand with their functions, in `spectra/kinds/`. W is N x M with N >= M, s its singular values, λ = s² the
eigenvalues of WᵀW, n their number in the row.
"""

from __future__ import annotations

from diversity_spectra.columns.common import CONDITION, DEPTH, LAYER, MATRIX, MODEL, SEED, Column
from diversity_spectra.spectra import compatible
from diversity_spectra.spectra.kind import STRICT
from diversity_spectra.spectra.kinds import MEASURES

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
    **MEASURES,
    **compatible.COLUMNS,
    "reason": Column("", "why a row is not analysed, or a fit is missing; else empty", "spectra.table.analyse"),
    "versions": Column("", "of this package and NumPy", "spectra.table.analyse"),
}
