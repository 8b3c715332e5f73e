"""The strict convention: views, decompositions, invariances, determinism, plots."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import reference_spectra as reference
from safetensors.numpy import save_file

from diversity_spectra import cli
from diversity_spectra.spectra import decompose, lapack
from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.groups import convolution_groups
from diversity_spectra.spectra.matrices import plan
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.safetensors_file import Entry
from diversity_spectra.spectra.table import Reference, analyse


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine the threads of BLAS wait for each other longer than they work."""
    with decompose.one_blas_thread():
        yield


def matrix(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conditioned(seed: int, N: int, M: int, smallest: float) -> np.ndarray:
    """A float64 matrix with singular values from 1 to `smallest`, evenly spaced in logarithm."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((N, M)))[0]
    right = np.linalg.qr(rng.standard_normal((M, M)))[0]
    return (left * np.geomspace(1, smallest, M)) @ right


@pytest.fixture
def model(tmp_path):
    tensors = {
        "conv_stem.weight": matrix(0, 32, 3, 3, 3),
        "block.conv_dw.weight": matrix(1, 32, 1, 3, 3),
        "block.conv1.weight": matrix(2, 32, 32, 1, 1),
        "block.conv2.weight": matrix(3, 32, 8, 3, 3),
        "block.attn.qkv.weight": matrix(4, 96, 32),
        "block.fc.weight": matrix(5, 64, 32),
        "block.fc.bias": matrix(6, 64),
        "pos_embed": matrix(7, 1, 50, 32),
        "positional_embedding": matrix(8, 50, 32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", tensors


def test_mistakes_are_one_line(model, tmp_path, capsys):
    path, out = str(model[0]), str(tmp_path / "rows.csv")
    assert cli.main(["spectra", path, "--out", out, "--threads", "0"]) == 2
    import torch

    if not torch.cuda.is_available():
        assert cli.main(["spectra", path, "--out", out, "--device", "cuda"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert cli.main(["spectra", path, "--out", out, "--eigenvalues", str(tmp_path / "e.npz")]) == 0
    assert (
        capsys.readouterr().err == f"wrote {len(pd.read_csv(out))} rows to {out}, eigenvalues to {tmp_path / 'e.npz'}\n"
    )
    whole = (tmp_path / "e.npz").read_bytes()
    for size in (0, 10, len(whole) // 2):
        (tmp_path / "e.npz").write_bytes(whole[:size])
        figure = ["--layer", "block.fc", "--out", str(tmp_path / "esd.png")]
        assert cli.main(["plot-esd", str(tmp_path / "e.npz"), *figure]) == 2
    lines += capsys.readouterr().err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert sum("damaged" in line for line in lines) == 3


def test_which_matrices_are_analysed_does_not_move_a_fit(model):
    path, _ = model
    rows = [analyse(path, options=Options(min_eigenvalues=least)).rows.set_index("layer") for least in (8, 32)]
    assert list(rows[0].loc["block.fc", ["alpha", "xmin"]]) == list(rows[1].loc["block.fc", ["alpha", "xmin"]])


def test_every_parameter_has_a_row_and_every_view_its_spectrum(model):
    path, tensors = model
    result = analyse(path)
    rows = result.rows.set_index("layer")
    assert set(rows.parameter) == set(tensors)
    expected = {
        "conv_stem": [tensors["conv_stem.weight"].reshape(32, 27)],
        "block.conv1": [tensors["block.conv1.weight"].reshape(32, 32)],
        "block.conv2": [tensors["block.conv2.weight"][8 * g : 8 * g + 8].reshape(8, 72) for g in range(4)],
        "block.attn.qkv[q]": [tensors["block.attn.qkv.weight"][:32]],
        "block.attn.qkv[k]": [tensors["block.attn.qkv.weight"][32:64]],
        "block.attn.qkv[v]": [tensors["block.attn.qkv.weight"][64:]],
        "block.fc": [tensors["block.fc.weight"]],
    }
    assert set(rows.index[rows.analysed]) == set(expected)
    for layer, matrices in expected.items():
        values = np.sort(np.concatenate([reference.eigenvalues(part) for part in matrices]))
        np.testing.assert_allclose(result.eigenvalues[f"{layer}|W"], values, rtol=1e-8)
        assert rows.loc[layer, "entropy"] == pytest.approx(reference.entropy(values, len(values)), rel=1e-9)
        alpha, xmin, distance = reference.fit_tail(values, True, 8)
        assert rows.loc[layer, ["alpha", "xmin", "D"]].tolist() == pytest.approx([alpha, xmin, distance], rel=1e-7)
    assert rows.loc["block.conv2", ["view", "num_matrices", "N", "M"]].tolist() == ["groups", 4, 72, 8]
    assert rows.loc["block.conv_dw", "reason"].startswith("depthwise convolution: 32 matrices of 1 x 9")
    assert "positions" in rows.loc["positional_embedding", "reason"]
    assert rows.versions.str.contains("numpy").all()


def test_convolutions_per_position(model):
    path, tensors = model
    result = analyse(path, options=Options(conv="positions", min_eigenvalues=3))
    rows = result.rows.set_index("layer")
    positions = [layer for layer in rows.index if layer.startswith("conv_stem[")]
    assert len(positions) == 9
    expected = reference.eigenvalues(tensors["conv_stem.weight"][:, :, 1, 2])
    np.testing.assert_allclose(result.eigenvalues["conv_stem[1,2]|W"], expected, rtol=1e-9)
    assert rows.loc["conv_stem[1,2]", "view"] == "position"


def test_groups_are_inferred_for_known_architectures():
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    for name in ("regnety_004", "resnext50_32x4d", "resnet50", "tf_efficientnet_lite0", "convnext_atto", "densenet121"):
        with torch.device("meta"):
            network = timm.create_model(name)
        entries = {key: Entry(tuple(value.shape), "float32") for key, value in network.state_dict().items()}
        found = convolution_groups(entries)
        for layer, module in network.named_modules():
            if isinstance(module, torch.nn.Conv2d):
                assert found[f"{layer}.weight"] == (module.groups, "inferred"), (name, layer)


def test_a_stem_of_one_channel_is_not_taken_for_depthwise():
    entries = {
        "conv1.weight": Entry((64, 1, 7, 7), "float32"),
        "blocks.0.conv_dw.weight": Entry((64, 1, 3, 3), "float32"),
    }
    first, second = plan(entries)
    assert (first.view, first.N, first.M) == ("unfolded", 64, 49)
    assert second.reason.startswith("depthwise")


@pytest.mark.parametrize("shape", [(90, 40), (40, 90), (50, 50)])
def test_blocks_and_orientation_do_not_change_the_spectrum(shape, monkeypatch):
    a, b = matrix(0, *shape), matrix(1, *shape)
    expected = reference.eigenvalues(a.astype(np.float64) - 0.5 * b)
    for block in (decompose.BLOCK, 300):
        monkeypatch.setattr(decompose, "BLOCK", block)
        (values,), method = decompose.eigenvalues([Combination((1.0, a), (-0.5, b))])
        np.testing.assert_allclose(values, expected, rtol=1e-8)
        assert method == "gram"
        singular = decompose.singular_values(Combination((1.0, a), (-0.5, b)))
        np.testing.assert_allclose(np.sort(singular**2), expected, rtol=1e-10)


@pytest.mark.parametrize(("smallest", "method"), [(1e-3, "gram"), (1e-4, "gram"), (1e-5, "svd"), (1e-9, "svd")])
def test_gram_is_used_only_where_it_is_accurate(smallest, method):
    """Its error is about 1e-16 of the largest eigenvalue: 1e-8 of one that is 1e-8 of it, all of one that is 1e-18."""
    matrices = conditioned(0, 200, 80, smallest)
    exact = np.geomspace(smallest**2, 1, 80)
    (values,), used = decompose.eigenvalues([Combination((1.0, matrices))])
    assert used == method
    np.testing.assert_allclose(values, exact, rtol=1e-6)
    alone = np.linalg.eigvalsh(matrices.T @ matrices)
    if smallest == 1e-9:
        assert abs(alone[0] / exact[0] - 1) > 1, "the Gram matrix alone is not enough here"


@pytest.mark.parametrize("size", [2, 3, 65, 130, 400])
def test_two_stage_tridiagonalisation_gives_the_same_eigenvalues(size):
    assert lapack.two_stage() is not None, "NumPy's own OpenBLAS has the routines"
    square = conditioned(size, 2 * size, size, 1e-3)
    square = square.T @ square
    np.testing.assert_allclose(lapack.two_stage()(square), np.linalg.eigvalsh(square), atol=1e-14)


def test_two_stages_are_taken_for_large_matrices_where_there_are_such_routines(monkeypatch):
    square = np.diag(np.arange(1.0, 9.0))
    monkeypatch.setattr(lapack, "SMALLEST", 8)
    monkeypatch.setattr(lapack, "two_stage", lambda: lambda matrix: np.full(len(matrix), 7.0))
    assert lapack.eigvalsh(square)[0] == 7
    assert lapack.eigvalsh(square[:7, :7])[0] == 1
    monkeypatch.setattr(lapack, "two_stage", lambda: None)
    assert lapack.eigvalsh(square)[0] == 1


@pytest.mark.parametrize("library", [[], [{"user_api": "openmp"}], [{"user_api": "blas", "filepath": "/absent.so"}]])
def test_without_the_routines_there_are_none(monkeypatch, library):
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: library)
    assert lapack.two_stage.__wrapped__() is None


def test_weights_in_32_bits_take_no_singular_values_and_no_column_changes(tmp_path):
    """lambda_min is 1e-10 of lambda_max: what the Gram matrix gets wrong there, no measure sees."""
    values = conditioned(3, 90, 60, 1e-5)
    save_file({"a.weight": values.astype(np.float32)}, tmp_path / "a.safetensors")
    save_file({"a.weight": values.astype(np.float32).astype(np.float64)}, tmp_path / "b.safetensors")
    a, b = (analyse(tmp_path / f"{name}.safetensors").rows.iloc[0] for name in "ab")
    assert (a["method"], b["method"]) == ("gram", "svd")
    for column in ("norm", "lambda_max", "entropy", "alpha", "alpha_hill", "xmin", "D"):
        assert a[column] == pytest.approx(b[column], rel=1e-7), column
    assert a["sv_min"] == pytest.approx(b["sv_min"], rel=1e-4)
    assert a["matrix_rank"] == b["matrix_rank"] == 60


def test_ten_thousand_tensors_are_planned_in_a_moment():
    entries = {f"blocks.{i}.conv{j}.weight": Entry((64, 16, 3, 3), "float32") for i in range(50) for j in range(200)}
    start = time.process_time()
    assert len(plan(entries)) == 10_000
    # It took half a minute where every convolution looked through all others.
    assert time.process_time() - start < 2


def test_torch_gives_the_same_numbers(model, tmp_path):
    torch = pytest.importorskip("torch")
    # The name with an index takes the path of a device also where there is no GPU.
    devices = ["cpu:0", *(["cuda"] if torch.cuda.is_available() else [])]
    matrices = [Combination((1.0, matrix(seed, 70, 40))) for seed in range(4)]
    expected, _ = decompose.eigenvalues(matrices)
    for device in devices:
        found, _ = decompose.eigenvalues(matrices, device)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_measures_do_not_depend_on_scale(tmp_path, seed):
    values = (np.random.default_rng(seed).standard_t(3, (120, 60))).astype(np.float64)
    save_file({"a.weight": values}, tmp_path / "a.safetensors")
    save_file({"a.weight": values * 1e-6}, tmp_path / "b.safetensors")
    a, b = (analyse(tmp_path / f"{name}.safetensors").rows.iloc[0] for name in "ab")
    for column in ("alpha", "alpha_low", "alpha_high", "stable_rank", "entropy", "D", "mp_softrank", "mp_D"):
        assert b[column] == pytest.approx(a[column], rel=1e-9), column
    for column in ("num_pl_spikes", "num_spikes", "matrix_rank"):
        assert a[column] == b[column]
    assert b["log_norm"] == pytest.approx(a["log_norm"] - 12)


def test_rounding_of_stored_weights_is_not_taken_for_rank(tmp_path):
    """A rank-5 update that was added to float32 weights and subtracted again comes back with rounding noise."""
    pretrained = matrix(0, 100, 60)
    update = 0.01 * matrix(1, 100, 5) @ matrix(2, 5, 60)
    save_file({"a.weight": pretrained + update}, tmp_path / "m.safetensors")
    save_file({"a.weight": pretrained}, tmp_path / "r.safetensors")
    rows = analyse(tmp_path / "m.safetensors", tmp_path / "r.safetensors").rows.set_index("matrix")
    assert rows.loc["dW", "matrix_rank"] == 5
    assert rows.loc["W", "matrix_rank"] == 60


def test_subspace_overlap_is_the_mean_squared_cosine_of_principal_angles(tmp_path):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    a = conditioned(0, 60, 40, 0.1).astype(np.float32)
    b = a + np.float32(0.02) * matrix(1, 60, 40)
    save_file({"a.weight": a, "b.weight": a}, tmp_path / "m.safetensors")
    save_file({"a.weight": b, "b.weight": a}, tmp_path / "r.safetensors")
    rows = analyse(tmp_path / "m.safetensors", tmp_path / "r.safetensors", Options(subspace=7)).rows
    rows = rows[rows.matrix == "W"].set_index("layer")
    (u, _, v), (x, _, y) = np.linalg.svd(a.astype(float)), np.linalg.svd(b.astype(float))
    long = np.cos(scipy_linalg.subspace_angles(u[:, :7], x[:, :7])) ** 2
    short = np.cos(scipy_linalg.subspace_angles(v[:7].T, y[:7].T)) ** 2
    assert rows.loc["a", "subspace_overlap_long"] == pytest.approx(long.mean(), rel=1e-5)
    assert rows.loc["a", "subspace_overlap_short"] == pytest.approx(short.mean(), rel=1e-5)
    assert rows.loc["b", ["subspace_overlap_long", "subspace_overlap_short"]].tolist() == pytest.approx(
        [1, 1], abs=1e-9
    )


def test_threads_order_and_company_do_not_change_a_byte(model, tmp_path):
    path, tensors = model
    options = Options(bootstrap=5, randomize=True)
    one, four = (analyse(path, path, options, 0.9, threads) for threads in (1, 4))
    pd.testing.assert_frame_equal(one.rows, four.rows, check_exact=True)
    assert all(np.array_equal(one.eigenvalues[key], four.eigenvalues[key]) for key in one.eigenvalues)
    save_file({"block.fc.weight": tensors["block.fc.weight"]}, tmp_path / "alone.safetensors")
    alone = analyse(tmp_path / "alone.safetensors", options=options).rows.iloc[0]
    together = one.rows.query("layer == 'block.fc' and matrix == 'W'").iloc[0]
    for column in ("alpha_low", "goodness_p", "rand_distance", "entropy"):
        assert alone[column] == together[column]


def test_command_with_several_models_writes_the_same_bytes_again(model, tmp_path):
    path, _ = model
    arguments = ["--reference", str(path), "--kappa", "0.9", "1"]
    for attempt in "ab":
        out = [str(tmp_path / f"{attempt}{index}.csv") for index in (0, 1)]
        eigenvalues = [str(tmp_path / f"{attempt}{index}.npz") for index in (0, 1)]
        threads = {"a": "1", "b": "2"}[attempt]
        command = ["spectra", str(path), str(path), *arguments, "--threads", threads]
        assert cli.main([*command, "--out", *out, "--eigenvalues", *eigenvalues]) == 0
    for name in ("0.csv", "1.csv", "0.npz", "1.npz"):
        assert (tmp_path / f"a{name}").read_bytes() == (tmp_path / f"b{name}").read_bytes()
    assert set(pd.read_csv(tmp_path / "a0.csv").matrix) == {"W", "dW", "dW_corrected"}
    assert set(pd.read_csv(tmp_path / "a1.csv").matrix) == {"W", "dW"}
    assert cli.main(["spectra", str(path), str(path), "--out", str(tmp_path / "one.csv")]) == 2


def test_every_blas_is_held_to_one_thread(model, tmp_path):
    """Also SciPy's own, in a process that had not loaded it before."""
    program = f"""
import threadpoolctl
from diversity_spectra.spectra import decompose, lapack
from diversity_spectra.spectra.table import analyse
found = []
original = decompose.top_vectors
def watched(*arguments):
    found.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
    return original(*arguments)
decompose.top_vectors = watched
analyse({str(model[0])!r}, {str(model[0])!r})
assert len(found) > 1 and set(found) == {{1}}, found
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_reference_vectors_are_computed_once_for_several_models(model, monkeypatch):
    path, _ = model
    calls = []
    original = decompose.top_vectors
    monkeypatch.setattr(decompose, "top_vectors", lambda *a: calls.append(1) or original(*a))
    shared = Reference.open(path)
    analyse(path, shared)
    first = len(calls)
    analyse(path, shared)
    assert first - (len(calls) - first) == first // 2


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot_of_one_layer(model, tmp_path, suffix, capsys):
    path, _ = model
    rows, eigenvalues = str(tmp_path / "rows.parquet"), str(tmp_path / "eigs.npz")
    assert cli.main(["spectra", str(path), "--out", rows, "--eigenvalues", eigenvalues]) == 0
    figures = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for figure in figures:
        command = ["plot-esd", eigenvalues, "--layer", "block.fc", "--rows", rows, "--out", str(figure)]
        assert cli.main(command) == 0
    assert figures[0].read_bytes() == figures[1].read_bytes()
    assert len(figures[0].read_bytes()) > 5000
    assert cli.main(["plot-esd", eigenvalues, "--layer", "absent", "--out", str(figures[0])]) == 2
    assert "no absent|W; there are" in capsys.readouterr().err
