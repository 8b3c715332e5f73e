"""The convention `weightwatcher` against the installed WeightWatcher, and its optional columns."""

import contextlib
import io
import logging
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file

from diversity_spectra.spectra import compatible, decompose, powerlaw
from diversity_spectra.spectra.kind import generator
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.table import analyse

weightwatcher = pytest.importorskip("weightwatcher")
torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine the threads of BLAS wait for each other longer than they work."""
    with decompose.one_blas_thread():
        yield


SAME = 1e-6
SAME_FIT = 1e-2
NOT_COMPARED = {"layer_id", "name", "longname", "layer_type", "has_esd", "slice_id", "detX_val_unrescaled", "xmax"}
FITTED = {"sigma_mp", "mp_softrank", "bulk_min", "bulk_max"} | {f"rand_{name}" for name in ("sigma_mp", "mp_softrank")}
FITTED |= {"rand_bulk_min", "rand_bulk_max"}


def heavy(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (0.05 * rng.standard_t(3, shape)).astype(np.float32)


@pytest.fixture(scope="module")
def weights():
    """Every case that its definitions treat in a way of their own."""
    rng = np.random.default_rng(0)
    low_rank = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 40))
    state = {
        "tall": heavy(rng, 120, 60),
        "wide": heavy(rng, 40, 90),
        "square": heavy(rng, 70, 70),
        "small_sample": heavy(rng, 10, 64),
        "low_rank": low_rank.astype(np.float32),
        "tiny_scale": heavy(rng, 50, 30) * np.float32(1e-5),
        "seven_left": np.diag([*[1e-4] * 20, *range(1, 8)]).astype(np.float32) @ heavy(rng, 27, 27),
        "equal": np.eye(64, dtype=np.float32),
        "few_equal": np.eye(12, dtype=np.float32),
        "two_values": np.diag([*[1.0] * 30, *[2.0] * 30]).astype(np.float32),
        "zeros": np.zeros((20, 16), np.float32),
        "conv3": heavy(rng, 24, 16, 3, 3),
        "conv3_wide": heavy(rng, 12, 20, 3, 3),
        "conv2_wide": heavy(rng, 12, 20, 2, 2),
        "conv1": heavy(rng, 30, 20, 1, 1),
        "depthwise": heavy(rng, 32, 1, 3, 3),
        "large_kernel": heavy(rng, 4, 6, 7, 7),
        "too_few": heavy(rng, 7, 100),
        "norm": heavy(rng, 64),
    }
    return {f"{name}.weight": value for name, value in state.items()} | {"square.bias": heavy(rng, 70)}


def theirs(weights, **options):
    logging.getLogger("weightwatcher").setLevel(logging.CRITICAL)
    state = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return weightwatcher.WeightWatcher(model=state).analyze(ERG=True, **options)


def ours(folder, weights, **options):
    save_file(weights, folder / "model.safetensors")
    return analyse(folder / "model.safetensors", options=Options(convention="weightwatcher", **options)).rows


def assert_same(a, b, names):
    """Every column of `a` (theirs) is one of `b` (ours), layer by layer."""
    for column in set(a.columns) - NOT_COMPARED:
        for layer, x, y in zip(names, a[column], b[column], strict=True):
            if isinstance(x, str):
                assert x == y, (column, layer)
            else:
                tolerance = SAME_FIT if column in FITTED else SAME
                assert float(y) == pytest.approx(float(x), rel=tolerance, abs=1e-12, nan_ok=True), (column, layer)


@pytest.mark.filterwarnings("ignore")
def test_every_column_of_every_layer_is_equal(tmp_path, weights):
    a = theirs(weights, mp_fit=True)
    rows = ours(tmp_path, weights, mp=True)
    b = rows[rows.analysed].set_index("layer")
    assert set(a.name) == set(b.index)
    assert_same(a, b.loc[a.name], a.name)


@pytest.mark.filterwarnings("ignore")
def test_every_slice_is_equal_without_pooling(tmp_path, weights):
    a = theirs(weights, pool=False)
    rows = ours(tmp_path, weights, pool=False)
    b = rows[rows.analysed]
    # Both count the positions of a kernel row by row.
    b = b.assign(slice_id=b.groupby("parameter").cumcount(), name=b.parameter.str.removesuffix(".weight"))
    b = b.set_index(["name", "slice_id"])
    keys = list(zip(a.name, a.slice_id, strict=True))
    assert set(keys) == set(b.index)
    assert_same(a, b.loc[keys], keys)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["tall", "wide", "conv3_wide"])
def test_randomised_control_is_equal_for_equal_shuffles(tmp_path, weights, monkeypatch, name):
    one = {f"{name}.weight": weights[f"{name}.weight"]}
    rng = generator(5, name, "W", "shuffle")

    stored = one[f"{name}.weight"].shape[:2]

    def shuffle(values):
        # Ours stand upright, and so do its convolutions; its dense matrices stay as they are stored. The same
        # permutation must start from the same order.
        if name == "wide":
            flat = values.reshape(stored).T.flatten()
            rng.shuffle(flat)
            values[:] = flat.reshape(stored[::-1]).T.flatten()
        else:
            rng.shuffle(values)

    monkeypatch.setattr(np.random, "shuffle", shuffle)
    a = theirs(one, randomize=True)
    monkeypatch.undo()
    rows = ours(tmp_path, one, randomize=True, seed=5)
    assert_same(a, rows[rows.analysed], [name])


def test_power_law_rule_for_small_samples_is_that_of_0_7_7():
    from weightwatcher.WW_powerlaw import WWFit

    for seed in range(100):
        values = np.sort(np.random.default_rng(seed).pareto(2, 2 + seed % 18) + 1)
        with contextlib.redirect_stdout(io.StringIO()):
            fit = WWFit(values)
        row = compatible.power_law(values)
        assert (row["alpha"], row["xmin"]) == pytest.approx((fit.alpha, fit.xmin), rel=1e-9)
        assert row["D"] == pytest.approx(fit.D, rel=1e-9)


def test_product_of_eigenvalues_underflows_as_theirs_does():
    from weightwatcher.RMT_Util import detX_constraint

    for seed in range(3):
        values = np.sort(np.random.default_rng(seed).gamma(0.05, size=3000)) + 1e-30
        assert compatible.trace_log(values)["detX_num"] == detX_constraint(values)[0]


def test_linear_kernel_density_is_scikit_learns():
    neighbors = pytest.importorskip("sklearn.neighbors")
    rng = np.random.default_rng(0)
    points, x = np.sort(rng.gamma(2, size=300)), np.linspace(0, 8, 500)
    density = neighbors.KernelDensity(kernel="linear", bandwidth=0.1).fit(points[:, None]).score_samples(x[:, None])
    np.testing.assert_allclose(compatible.linear_kernel_density(points, x, 0.1), np.exp(density), atol=1e-9)


def test_one_sided_distance_is_used_only_here():
    values = np.sort(np.random.default_rng(0).pareto(2, 60) + 1)
    assert powerlaw.fit_tail(values, two_sided=False).D <= powerlaw.fit_tail(values).D
