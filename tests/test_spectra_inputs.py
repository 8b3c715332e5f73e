"""Reading weights: formats, laziness, pairing, adapters, and damaged or hostile files."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from diversity_spectra import cli
from diversity_spectra.errors import UserError
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.table import analyse
from diversity_spectra.spectra.tensors import SafetensorsFile, open_model


def matrix(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def weights():
    return {"fc1.weight": matrix(0, 40, 30), "fc1.bias": matrix(1, 40), "head.weight": matrix(2, 10, 40)}


def numbers(rows):
    return rows[rows.analysed].sort_values(["layer", "matrix"]).drop(columns=["dtype"]).reset_index(drop=True)


def test_all_formats_give_the_same_rows(tmp_path, weights):
    torch = pytest.importorskip("torch")
    save_file(weights, tmp_path / "model.safetensors")
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    torch.save(state, tmp_path / "model.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "nested.pt")
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    shards = tmp_path / "sharded"
    shards.mkdir()
    names = {"fc1.weight": "a.safetensors", "fc1.bias": "a.safetensors", "head.weight": "b.safetensors"}
    for file in ("a.safetensors", "b.safetensors"):
        save_file({name: weights[name] for name in names if names[name] == file}, shards / file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    expected = numbers(analyse(tmp_path / "model.safetensors").rows)
    assert len(expected) == 2
    for path in (tmp_path / "model.pth", tmp_path / "nested.pt", tmp_path / "legacy.bin", shards, tmp_path):
        assert numbers(analyse(path).rows).equals(expected), path


def test_16_bit_weights_are_read_without_loss(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    value = torch.from_numpy(matrix(0, 20, 30))
    for dtype in (torch.bfloat16, torch.float16):
        save_torch({"a.weight": value.to(dtype)}, tmp_path / "m.safetensors")
        read = SafetensorsFile(tmp_path / "m.safetensors").read("a.weight")
        assert np.array_equal(read.astype(np.float32), value.to(dtype).float().numpy())
        assert np.array_equal(read[3:5].T.astype(np.float64), value.to(dtype)[3:5].T.double().numpy())
        row = analyse(tmp_path / "m.safetensors").rows.iloc[0]
        assert row["dtype"] == str(dtype).removeprefix("torch.")
        assert row["analysed"]


def test_safetensors_need_no_torch(tmp_path, weights):
    save_file(weights, tmp_path / "m.safetensors")
    program = f"""
import sys
from diversity_spectra.cli import main
code = main(["spectra", {str(tmp_path / "m.safetensors")!r}, "--reference", {str(tmp_path / "m.safetensors")!r},
             "--bootstrap", "2", "--alternatives", "--randomize", "--out", {str(tmp_path / "rows.csv")!r}])
assert code == 0
sys.exit(any(name.split(".")[0] in ("torch", "sklearn", "matplotlib") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_pairing_is_by_name_and_shape_and_a_new_head_is_reported(tmp_path, weights):
    reference = {"head.weight": matrix(5, 100, 40), "fc1.weight": matrix(6, 40, 30), "other.weight": matrix(7, 40, 30)}
    save_file(weights | {"new.weight": matrix(8, 12, 12)}, tmp_path / "m.safetensors")
    save_file(reference, tmp_path / "r.safetensors")
    result = analyse(tmp_path / "m.safetensors", tmp_path / "r.safetensors")
    rows = result.rows.set_index(["layer", "matrix"])
    delta = np.linalg.svd(weights["fc1.weight"].astype(float) - reference["fc1.weight"], compute_uv=False)
    np.testing.assert_allclose(result.eigenvalues["fc1|dW"][::-1], delta**2, rtol=1e-9)
    assert rows.loc[("head", "dW"), "reason"] == "shape 10x40, in the reference 100x40"
    assert rows.loc[("new", "dW"), "reason"] == "not in the reference"
    assert np.isnan(rows.loc[("head", "dW"), "norm"])
    assert rows.loc[("head", "W"), "analysed"]


def test_decay_corrected_difference(tmp_path, weights):
    pretrained = {name: value + np.float32(0.1) * matrix(9, *value.shape) for name, value in weights.items()}
    save_file(weights, tmp_path / "m.safetensors")
    save_file(pretrained, tmp_path / "r.safetensors")
    paths = tmp_path / "m.safetensors", tmp_path / "r.safetensors"
    result = analyse(*paths, kappa=0.9)
    expected = weights["fc1.weight"].astype(float) - 0.9 * pretrained["fc1.weight"].astype(float)
    found = result.eigenvalues["fc1|dW_corrected"]
    np.testing.assert_allclose(found, np.sort(np.linalg.svd(expected, compute_uv=False) ** 2), rtol=1e-9)
    assert set(analyse(*paths, kappa=1.0).rows.matrix) == {"W", "dW"}


def test_lora_adapter_with_and_without_its_base(tmp_path):
    base = {"model.layers.0.q_proj.weight": matrix(0, 48, 32), "lm_head.weight": matrix(1, 60, 32)}
    down, up = matrix(2, 4, 32), matrix(3, 48, 4)
    prefix = "base_model.model.model.layers.0.q_proj"
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({f"{prefix}.lora_A.weight": down, f"{prefix}.lora_B.weight": up}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8}))
    save_file(base, tmp_path / "base.safetensors")
    update = 2.0 * up.astype(float) @ down
    alone = analyse(adapter)
    assert list(alone.rows.matrix) == ["dW"]
    assert alone.rows.loc[0, "matrix_rank"] == 4
    merged = analyse(adapter, tmp_path / "base.safetensors")
    expected = np.linalg.svd(base["model.layers.0.q_proj.weight"] + update, compute_uv=False)
    np.testing.assert_allclose(merged.eigenvalues["model.layers.0.q_proj|W"][::-1], expected**2, rtol=1e-9)
    rows = merged.rows.set_index(["layer", "matrix"])
    assert rows.loc[("model.layers.0.q_proj", "dW"), "matrix_rank"] == 4
    assert rows.loc[("lm_head", "dW"), "reason"] == "all values are zero"


class Hostile:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_damaged_and_hostile_files_end_in_one_line(tmp_path, weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(weights, tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-100])
    (tmp_path / "header.safetensors").write_bytes(content[:40])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "other.safetensors").write_bytes(b"\x10" + b"\0" * 7 + b"not a json header, really")
    (tmp_path / "fields.safetensors").write_bytes(b"\x0d" + b"\0" * 7 + b'{"a": [1, 2]}')
    (tmp_path / "hostile.pth").write_bytes(pickle.dumps({"a.weight": Hostile()}))
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "weights.txt").write_text("no weights")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a.weight": "gone.safetensors"}}')
    for name in (
        "cut.safetensors",
        "header.safetensors",
        "empty.safetensors",
        "other.safetensors",
        "fields.safetensors",
        "hostile.pth",
        "noise.bin",
        "weights.txt",
        "model.safetensors.index.json",
        "absent.safetensors",
    ):
        assert cli.main(["spectra", name, "--out", "rows.csv"]) == 2, name
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "rows.csv").exists()


def test_unusual_tensors_get_a_row_with_a_reason(tmp_path):
    nan = matrix(0, 20, 20)
    nan[3, 4] = np.nan
    infinite = matrix(1, 20, 20)
    infinite[0, 0] = np.inf
    tensors = {
        "nan.weight": nan,
        "infinite.weight": infinite,
        "column.weight": matrix(2, 30, 1),
        "zeros.weight": np.zeros((20, 20), np.float32),
        "one_rank.weight": np.ones((20, 20), np.float32),
        "empty.weight": np.zeros((0, 5), np.float32),
        "counter": np.zeros((), np.int64),
        "integers.weight": np.ones((20, 20), np.int8),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    for convention in ("strict", "weightwatcher"):
        rows = analyse(tmp_path / "m.safetensors", options=Options(convention=convention)).rows.set_index("layer")
        assert set(rows.index) == {name.removesuffix(".weight") for name in tensors}
        for layer in ("nan", "infinite"):
            assert rows.loc[layer, "reason"] == "holds NaN or infinite values"
            assert np.isnan(rows.loc[layer, "alpha"])
        for layer in set(rows.index) - {"zeros", "one_rank"}:
            assert rows.loc[layer, "reason"], layer
    strict = analyse(tmp_path / "m.safetensors").rows.set_index("layer")
    assert strict.loc["column", "reason"] == "1 eigenvalues, fewer than 8"
    assert strict.loc["zeros", "reason"] == "all values are zero"
    assert strict.loc["one_rank", "reason"].startswith("rank below 2")
    assert strict["alpha"].isna().all()


def test_selection_by_pattern(tmp_path, weights):
    save_file(weights, tmp_path / "m.safetensors")
    rows = analyse(tmp_path / "m.safetensors", options=Options(include=("fc*",))).rows.set_index("layer")
    assert rows.loc["fc1", "analysed"]
    assert rows.loc["head", "reason"] == "not selected"
    with pytest.raises(UserError, match="no parameter or layer matches nothing"):
        analyse(tmp_path / "m.safetensors", options=Options(include=("nothing",)))


def test_names_are_selected_as_they_are(tmp_path):
    save_file({"qkv.weight": matrix(0, 60, 20), "q.weight": matrix(1, 20, 20)}, tmp_path / "m.safetensors")
    for include in ("qkv[[]k]", "qkv[k]", ["qkv[k]"]):
        rows = analyse(tmp_path / "m.safetensors", options=Options(include=include)).rows
        assert rows.loc[rows["analysed"], "layer"].tolist() == ["qkv[k]"], include


def test_reading_is_lazy(tmp_path, weights, monkeypatch):
    save_file(weights, tmp_path / "m.safetensors")
    read = []
    original = SafetensorsFile.read
    monkeypatch.setattr(SafetensorsFile, "read", lambda self, name: read.append(name) or original(self, name))
    open_model(tmp_path / "m.safetensors")
    assert read == []
    analyse(tmp_path / "m.safetensors", options=Options(include=("head.weight",)))
    assert read == ["head.weight"]
