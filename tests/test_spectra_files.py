"""Files that people have: adapters, experts, weights in parts, nested and hostile checkpoints, damaged files."""

import io
import json
import pickle
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from diversity_spectra import cli
from diversity_spectra.errors import UserError
from diversity_spectra.spectra import decompose
from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.low_rank import Product
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.progress import Progress, processors
from diversity_spectra.spectra.table import analyse
from diversity_spectra.spectra.tensors import SafetensorsFile, open_model

PREFIX = "base_model.model."


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine the threads of BLAS wait for each other longer than they work."""
    with decompose.one_blas_thread():
        yield


def matrix(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def squared(array: np.ndarray) -> np.ndarray:
    return np.linalg.svd(array.astype(np.float64).reshape(len(array), -1), compute_uv=False)[::-1] ** 2


def rows_of(path, *arguments, **options) -> pd.DataFrame:
    return analyse(path, *arguments, options=Options(**options)).rows.set_index(["layer", "matrix"])


def adapter(folder, tensors: dict, config: dict | str | None, prefix: str = PREFIX):
    folder.mkdir(exist_ok=True)
    save_file({prefix + name: value for name, value in tensors.items()}, folder / "adapter_model.safetensors")
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "adapter_config.json").write_text(text)
    return folder


def pair(module: str, out: int, inner: int, rank: int = 4, seed: int = 0) -> dict:
    return {
        f"{module}.lora_A.weight": matrix(seed, rank, inner),
        f"{module}.lora_B.weight": matrix(seed + 1, out, rank),
    }


def product(tensors: dict, module: str) -> np.ndarray:
    return tensors[f"{module}.lora_B.weight"].astype(float) @ tensors[f"{module}.lora_A.weight"]


# ---------------------------------------------------------------- adapters


def test_patterns_of_rank_and_alpha_are_ends_of_paths_or_regular_expressions(tmp_path):
    ones = {"m.layers.1.q.lora_A.weight": np.ones((8, 16), np.float32)}
    ones |= {"m.layers.1.q.lora_B.weight": np.ones((16, 8), np.float32)}
    config = {"r": 4, "lora_alpha": 4, "rank_pattern": {"layers.1.q": 8}, "alpha_pattern": {"layers.1.q": 32}}
    found = rows_of(adapter(tmp_path / "a", ones, config), min_eigenvalues=1)
    assert found.loc[("m.layers.1.q", "dW"), "norm"] == pytest.approx(262144)
    config["alpha_pattern"] = {r"layers\.\d\.q": 64}
    found = rows_of(adapter(tmp_path / "a", ones, config), min_eigenvalues=1)
    assert found.loc[("m.layers.1.q", "dW"), "norm"] == pytest.approx(4 * 262144)
    config["alpha_pattern"] = {"1.k": 64, "ayers.1.q": 64}
    found = rows_of(adapter(tmp_path / "a", ones, config), min_eigenvalues=1)
    assert found.loc[("m.layers.1.q", "dW"), "norm"] == pytest.approx(262144 / 64)


def test_modules_to_save_stand_for_the_modules_of_the_base(tmp_path):
    tensors = pair("fc", 20, 16) | {"classifier.weight": matrix(5, 10, 20)}
    base = {"fc.weight": matrix(6, 20, 16), "classifier.weight": matrix(7, 10, 20)}
    save_file(base, tmp_path / "base.safetensors")
    folder = adapter(tmp_path / "a", tensors, {"r": 4, "lora_alpha": 4})
    alone = rows_of(folder)
    assert set(alone.index) == {("fc", "dW"), ("classifier", "W")}
    result = analyse(folder, tmp_path / "base.safetensors")
    saved = tensors["classifier.weight"]
    np.testing.assert_allclose(result.eigenvalues["classifier|W"], squared(saved), rtol=1e-9)
    difference = saved.astype(float) - base["classifier.weight"]
    np.testing.assert_allclose(result.eigenvalues["classifier|dW"], squared(difference), rtol=1e-9)


def test_transposed_layers_of_gpt2_get_a_transposed_update(tmp_path):
    tensors = pair("h.0.c_attn", 144, 48) | pair("h.0.c_proj", 48, 48, seed=2)
    base = {"h.0.c_attn.weight": matrix(8, 48, 144), "h.0.c_proj.weight": matrix(9, 48, 48)}
    save_file(base, tmp_path / "base.safetensors")
    folder = adapter(tmp_path / "a", tensors, {"r": 4, "lora_alpha": 8, "fan_in_fan_out": True})
    result = analyse(folder, tmp_path / "base.safetensors")
    expected = base["h.0.c_proj.weight"] + 2 * product(tensors, "h.0.c_proj").T
    np.testing.assert_allclose(result.eigenvalues["h.0.c_proj|W"], squared(expected), rtol=1e-9)
    whole = base["h.0.c_attn.weight"] + 2 * product(tensors, "h.0.c_attn").T
    for index, part in enumerate("qkv"):
        expected = squared(whole[:, 48 * index : 48 * (index + 1)])
        np.testing.assert_allclose(result.eigenvalues[f"h.0.c_attn[{part}]|W"], expected, rtol=1e-9)


def test_dora_scales_the_outputs_of_the_sum(tmp_path):
    magnitude = np.random.default_rng(3).uniform(1, 2, 20).astype(np.float32)
    tensors = pair("fc", 20, 16) | {"fc.lora_magnitude_vector": magnitude}
    base = {"fc.weight": matrix(6, 20, 16)}
    save_file(base, tmp_path / "base.safetensors")
    folder = adapter(tmp_path / "a", tensors, {"r": 4, "lora_alpha": 4, "use_dora": True})
    total = base["fc.weight"] + product(tensors, "fc")
    expected = magnitude[:, None] * total / np.linalg.norm(total, axis=1, keepdims=True)
    result = analyse(folder, tmp_path / "base.safetensors")
    np.testing.assert_allclose(result.eigenvalues["fc|W"], squared(expected), rtol=1e-9)
    np.testing.assert_allclose(result.eigenvalues["fc|dW"], squared(expected - base["fc.weight"]), rtol=1e-9)
    assert "give the base" in rows_of(folder)["reason"].iloc[0]


def test_adapters_that_cannot_be_right_say_so(tmp_path):
    fc = pair("fc", 20, 16)
    assert "scale is taken as 1" in rows_of(adapter(tmp_path / "none", fc, None)).loc[("fc", "dW"), "reason"]
    two = fc | {name.replace(".weight", ".second.weight"): value for name, value in fc.items()}
    folder = adapter(tmp_path / "two", two, {"r": 4, "lora_alpha": 4})
    with pytest.raises(UserError, match=r"2 adapters \(default, second\); name one with --key"):
        analyse(folder)
    assert rows_of(folder, key="second").loc[("fc", "dW"), "matrix_rank"] == 4
    with pytest.raises(UserError, match="no adapter third; there are: default, second"):
        rows_of(folder, key="third")
    with pytest.raises(UserError, match="not a readable configuration"):
        analyse(adapter(tmp_path / "broken", fc, '{"r": 4'))
    assert rows_of(adapter(tmp_path / "no_r", fc, {"lora_alpha": 8})).loc[("fc", "dW"), "norm"] == pytest.approx(
        4 * np.square(product(fc, "fc")).sum()
    )
    save_file({"other.weight": matrix(0, 20, 16)}, tmp_path / "base.safetensors")
    folder = adapter(tmp_path / "a", fc, {"r": 4, "lora_alpha": 4})
    with pytest.raises(UserError, match="none of its 1 modules is in the base"):
        analyse(folder, tmp_path / "base.safetensors")
    save_file({"fc.weight": matrix(0, 30, 16), "b.weight": matrix(0, 9, 9)}, tmp_path / "base.safetensors")
    rows = rows_of(folder, tmp_path / "base.safetensors")
    assert rows.loc[("fc", "W"), "reason"] == "update of shape 20x16, in the base 30x16"
    assert rows.loc[("b", "W"), "analysed"]
    half = {name: value for name, value in fc.items() if "lora_A" in name}
    with pytest.raises(UserError, match="without"):
        analyse(adapter(tmp_path / "half", half, {"r": 4}))
    with pytest.raises(UserError, match="only LoRA and DoRA are read"):
        analyse(adapter(tmp_path / "loha", fc | {"fc.hada_w1_a": matrix(0, 4, 4)}, {"r": 4}))


def test_convolutions_and_embeddings_have_adapters_too(tmp_path):
    tensors = {
        "conv.lora_A.weight": matrix(0, 4, 16, 3, 3),
        "conv.lora_B.weight": matrix(1, 24, 4, 1, 1),
        "emb.lora_embedding_A": matrix(2, 4, 50),
        "emb.lora_embedding_B": matrix(3, 16, 4),
    }
    base = {"conv.weight": matrix(4, 24, 16, 3, 3), "emb.weight": matrix(5, 50, 16)}
    save_file(base, tmp_path / "base.safetensors")
    folder = adapter(tmp_path / "a", tensors, {"r": 4, "lora_alpha": 4})
    result = analyse(folder, tmp_path / "base.safetensors")
    down, up = tensors["conv.lora_A.weight"].astype(float), tensors["conv.lora_B.weight"]
    update = np.einsum("or,rikl->oikl", up[:, :, 0, 0], down)
    np.testing.assert_allclose(result.eigenvalues["conv|W"], squared(base["conv.weight"] + update), rtol=1e-9)
    np.testing.assert_allclose(result.eigenvalues["conv|dW"], squared(update), rtol=1e-9, atol=1e-9)
    update = (tensors["emb.lora_embedding_B"].astype(float) @ tensors["emb.lora_embedding_A"]).T
    np.testing.assert_allclose(result.eigenvalues["emb|W"], squared(base["emb.weight"] + update), rtol=1e-9)


def test_names_of_kohya_and_diffusers_are_found_in_the_base(tmp_path):
    base = {"unet.down.0.to_q.weight": matrix(0, 32, 24), "down.0.to_k.weight": matrix(1, 32, 24)}
    save_file(base, tmp_path / "base.safetensors")
    down, up = matrix(2, 4, 24), matrix(3, 32, 4)
    kohya = {
        "lora_unet_down_0_to_k.lora_down.weight": down,
        "lora_unet_down_0_to_k.lora_up.weight": up,
        "lora_unet_down_0_to_k.alpha": np.array(2.0, np.float32),
    }
    save_file(kohya, tmp_path / "kohya.safetensors")
    result = analyse(tmp_path / "kohya.safetensors", tmp_path / "base.safetensors")
    update = 0.5 * up.astype(float) @ down
    np.testing.assert_allclose(
        result.eigenvalues["down.0.to_k|W"], squared(base["down.0.to_k.weight"] + update), rtol=1e-9
    )
    old = {"unet.down.0.to_q.lora.down.weight": down, "unet.down.0.to_q.lora.up.weight": up}
    save_file(old, tmp_path / "pytorch_lora_weights.safetensors")
    rows = rows_of(tmp_path / "pytorch_lora_weights.safetensors", tmp_path / "base.safetensors")
    assert rows.loc[("unet.down.0.to_q", "dW"), "matrix_rank"] == 4


def test_adapters_in_pytorch_files(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = pair("fc", 20, 16)
    (tmp_path / "a").mkdir()
    torch.save({PREFIX + k: torch.from_numpy(v) for k, v in tensors.items()}, tmp_path / "a/adapter_model.bin")
    (tmp_path / "a/adapter_config.json").write_text('{"r": 4, "lora_alpha": 4}')
    rows = rows_of(tmp_path / "a")
    assert rows.loc[("fc", "dW"), "norm"] == pytest.approx(np.square(product(tensors, "fc")).sum())


def test_a_low_rank_update_is_analysed_by_its_factors_as_the_dense_one_is(tmp_path):
    tensors = pair("fc", 300, 200, rank=8) | pair("attn.qkv", 120, 40, rank=12, seed=4)
    config = {"r": 8, "lora_alpha": 8, "rank_pattern": {"qkv": 12}, "alpha_pattern": {"qkv": 12}}
    folder = adapter(tmp_path / "a", tensors, config)
    dense = {f"{name}.weight": product(tensors, name) for name in ("fc", "attn.qkv")}
    save_file(dense, tmp_path / "dense.safetensors")
    thin, thick = analyse(folder), analyse(tmp_path / "dense.safetensors")
    assert set(thin.rows["method"]) == {"factors"}
    a, b = thin.rows.set_index("layer"), thick.rows.set_index("layer")
    assert list(a.index) == ["attn.qkv[q]", "attn.qkv[k]", "attn.qkv[v]", "fc"] or set(a.index) == set(b.index)
    for layer in a.index:
        for column in (
            "num_evals",
            "matrix_rank",
            "norm",
            "lambda_max",
            "entropy",
            "alpha",
            "alpha_hill",
            "stable_rank",
        ):
            assert a.loc[layer, column] == pytest.approx(b.loc[layer, column], rel=1e-9, nan_ok=True), (layer, column)
        np.testing.assert_allclose(
            thin.eigenvalues[f"{layer}|dW"], thick.eigenvalues[f"{layer}|W"], atol=1e-9 * a.loc[layer, "lambda_max"]
        )


def test_products_behave_as_the_matrices_that_they_are():
    left, right = matrix(0, 30, 3).astype(float), matrix(1, 3, 20).astype(float)
    thin, dense = Product(left, right), left @ right
    np.testing.assert_allclose(thin.T[2:5], dense.T[2:5])
    np.testing.assert_allclose(thin.part(1, 3, 0)[:], dense[10:20])
    np.testing.assert_allclose(thin.part(1, 2, 1)[:], dense[:, 10:])
    assert thin.mean_square() == pytest.approx(np.square(dense).mean())
    combination = Combination((-2.0, thin), (1.0, dense))
    np.testing.assert_allclose(combination.full(), -dense)
    assert combination.product is None
    np.testing.assert_allclose(Product(right.T, right).eigenvalues()[-3:], squared(right.T @ right)[-3:])
    wide = Product(matrix(2, 5, 9).astype(float), matrix(3, 9, 4).astype(float))
    np.testing.assert_allclose(wide.eigenvalues(), squared(wide[:]), rtol=1e-9)


# ---------------------------------------------------------------- names and shapes


def test_experts_are_matrices_of_their_own(tmp_path):
    tensors = {"mlp.experts.down_proj": matrix(0, 8, 64, 48), "experts.weight": matrix(1, 3, 64, 32)}
    save_file(tensors, tmp_path / "m.safetensors")
    result = analyse(tmp_path / "m.safetensors")
    assert len(result.rows) == 11
    np.testing.assert_allclose(
        result.eigenvalues["mlp.experts.down_proj[5]|W"], squared(tensors["mlp.experts.down_proj"][5]), rtol=1e-9
    )
    assert set(result.rows["view"]) == {"expert"}


def test_tables_of_positions_are_told_from_words_that_sound_alike(tmp_path):
    linear = [
        "composition",
        "decomposition_proj",
        "property_head",
        "propeller",
        "positionwise_ff",
        "rope_free_mixer.fc",
    ]
    tables = ["pos_embed", "embeddings.position_embeddings", "wpe", "encoder.pos_embedding", "positional_embedding"]
    tables += ["attn.relative_position_bias_table", "attn.rel_pos_h", "embed_positions", "absolute_pos_embed"]
    save_file({f"{name}.weight": matrix(0, 20, 20) for name in linear + tables}, tmp_path / "m.safetensors")
    rows = rows_of(tmp_path / "m.safetensors").reset_index().set_index("layer")
    assert rows.loc[linear, "analysed"].all()
    assert (rows.loc[tables, "reason"] == "a table of positions is not a linear map").all()


def test_groups_are_inferred_with_care_or_given(tmp_path):
    save_file(
        {"net.0.weight": matrix(0, 32, 1, 3, 3), "net.2.weight": matrix(1, 64, 32, 3, 3)}, tmp_path / "a.safetensors"
    )
    rows = rows_of(tmp_path / "a.safetensors")
    assert rows.loc[("net.0", "W"), ["N", "M", "groups", "groups_source"]].tolist() == [32, 9, 1, "inferred"]
    inception = {"mixed.branch1.weight": matrix(0, 64, 192, 1, 1), "mixed.branch2.weight": matrix(1, 96, 32, 3, 3)}
    save_file(inception, tmp_path / "b.safetensors")
    assert rows_of(tmp_path / "b.safetensors").loc[("mixed.branch2", "W"), "groups"] == 1
    rows = rows_of(tmp_path / "b.safetensors", groups=("*.branch2=2",))
    assert rows.loc[("mixed.branch2", "W"), ["num_matrices", "groups", "groups_source"]].tolist() == [2, 2, "given"]
    assert (
        "do not divide" in rows_of(tmp_path / "b.safetensors", groups=("*2=7",)).loc[("mixed.branch2", "W"), "reason"]
    )
    for wrong, told in (("*.branch2", "expected PATTERN=N"), ("*x=2", "no convolution has such a name")):
        with pytest.raises(UserError, match=told):
            rows_of(tmp_path / "b.safetensors", groups=(wrong,))


@pytest.mark.parametrize(
    "kind", ["weight_norm", "spectral_norm", "parametrized weight_norm", "parametrized spectral_norm"]
)
def test_weights_in_parts_are_put_together(tmp_path, kind):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Linear(30, 20),
        torch.nn.Conv2d(12, 16, 3),
        torch.nn.ConvTranspose2d(12, 16, 3),
        torch.nn.Linear(20, 10),
    )
    source = torch.nn.utils.parametrizations if "parametrized" in kind else torch.nn.utils
    for layer in layers[:3]:
        with pytest.warns() if kind == "weight_norm" else pytest.MonkeyPatch.context():
            getattr(source, kind.split()[-1])(layer)
        with torch.no_grad():
            for name, value in layer.named_parameters():
                if name.endswith(("weight_g", "original0")):
                    value *= 3
    layers[1](torch.zeros(1, 12, 5, 5))
    layers.eval()
    torch.save(layers.state_dict(), tmp_path / "m.pt")
    layers[0](torch.zeros(1, 30)), layers[2](torch.zeros(1, 12, 5, 5))
    result = analyse(tmp_path / "m.pt")
    assert [row for row in result.rows["layer"] if "bias" not in row] == ["0", "1", "2", "3"]
    for index, layer in enumerate(layers):
        values = result.eigenvalues[f"{index}|W"]
        np.testing.assert_allclose(values, squared(layer.weight.detach().numpy())[-len(values) :], rtol=2e-5)


# ---------------------------------------------------------------- files


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_state_dicts_are_found_wherever_they_stand(tmp_path, torch):
    state = {"fc.weight": torch.from_numpy(matrix(0, 20, 16))}
    other = {"fc.weight": torch.from_numpy(matrix(1, 20, 16))}
    path = tmp_path / "m.pt"
    for content in (
        {"net": state},
        {"ema": state},
        {"model": state, "ema": other},
        {"state_dict": state, "optimizer_states": [{"state": {0: {"exp_avg": other["fc.weight"]}}}], "epoch": 3},
        {"trainer": {"model": state}, "optimizer": {"state": other}},
        {"hyper_parameters": {"lr": 1}, "state_dict": state},
        {"state_dict": state, "best_acc1": torch.tensor(71.3)},  # as PyTorch's own example of ImageNet
    ):
        torch.save(content, path)
        np.testing.assert_allclose(analyse(path).eigenvalues["fc|W"], squared(matrix(0, 20, 16)), rtol=1e-9)
    torch.save({"encoder": state, "decoder": other}, path)
    with pytest.raises(UserError, match=r"several state dicts: encoder \(1 tensors\), decoder \(1 tensors\); name one"):
        analyse(path)
    found = analyse(path, options=Options(key="decoder"))
    np.testing.assert_allclose(found.eigenvalues["fc|W"], squared(matrix(1, 20, 16)), rtol=1e-9)
    with pytest.raises(UserError, match="no tensors under --key absent; there are: encoder, decoder"):
        analyse(path, options=Options(key="absent"))
    torch.save({"lr": 3}, path)
    with pytest.raises(UserError, match="holds no tensors"):
        analyse(path)


def test_modules_and_views_in_pytorch_files_are_read_without_pytorch(tmp_path, torch):
    module = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Sequential(torch.nn.Conv2d(12, 16, 3)))
    torch.save(module, tmp_path / "module.pt")
    shared = torch.from_numpy(matrix(0, 40, 30))
    state = {
        "transposed.weight": shared.T,
        "part.weight": shared[5:25, ::2],
        "half.weight": shared.half(),
        "brain.weight": shared.bfloat16(),
        "double.weight": shared.double(),
        "expanded.weight": shared[:1].expand(12, 30),
    }
    for legacy in (False, True):
        torch.save(state, tmp_path / f"state{legacy}.pt", _use_new_zipfile_serialization=not legacy)
        tensors = open_model(tmp_path / f"state{legacy}.pt")
        for name, value in state.items():
            assert np.array_equal(tensors.read(name).astype(np.float64), value.double().numpy()), name
    program = f"""
import sys
from diversity_spectra.cli import main
assert main(["spectra", {str(tmp_path / "module.pt")!r}, "--out", {str(tmp_path / "rows.csv")!r}]) == 0
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    found = pd.read_csv(tmp_path / "rows.csv").set_index("layer")
    assert found.loc["1.0", "norm"] == pytest.approx(float(module[1][0].weight.double().square().sum()))


class Hostile:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def test_nothing_in_a_pickle_is_run(tmp_path, torch, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fine = torch.from_numpy(matrix(0, 20, 16))
    hooks = [Hostile(open, "executed", "w"), Hostile(eval, "open('executed', 'w')"), Hostile(getattr, "a", "upper")]
    for name, content in enumerate(({"fc.weight": fine, "hook": hook}) for hook in hooks):
        torch.save(content, f"{name}.pt")
        assert analyse(f"{name}.pt").rows["analysed"].sum() == 1
    torch.save({"fc.weight": Hostile(open, "executed", "w")}, "worse.pt")
    with pytest.raises(UserError, match="holds no tensors"):
        analyse("worse.pt")
    # Attributes set on and items added to what it built.
    building = b"cos\nsystem\n(S'touch executed'\ntR(dS'x'\nS'y'\nsb."
    (tmp_path / "built.pt").write_bytes(building)
    with pytest.raises(UserError):
        analyse("built.pt")
    assert not (tmp_path / "executed").exists()


def test_tensors_that_hold_no_values_never_cost_the_table(tmp_path, torch):
    state = {
        "fine.weight": torch.from_numpy(matrix(0, 20, 16)),
        "sparse.weight": torch.eye(20).to_sparse(),
        "csr.weight": torch.eye(20).to_sparse_csr(),
        "meta.weight": torch.empty(20, 20, device="meta"),
        "quantised.weight": torch.quantize_per_tensor(torch.eye(20), 0.1, 0, torch.qint8),
        "eight.weight": torch.eye(20).to(torch.float8_e4m3fn),
        "complex.weight": torch.zeros(20, 20, dtype=torch.complex64),
        7: torch.from_numpy(matrix(1, 20, 16)),
    }
    torch.save(state, tmp_path / "m.pt")
    for convention in ("strict", "weightwatcher"):
        rows = analyse(tmp_path / "m.pt", options=Options(convention=convention)).rows.set_index("layer")
        assert rows.loc["fine", "analysed"]
        for layer, told in (
            ("sparse", "sparse"),
            ("csr", "sparse"),
            ("meta", "no values"),
            ("quantised", "dequantize"),
        ):
            assert told in rows.loc[layer, "reason"], layer
        for layer in ("eight", "complex"):
            assert rows.loc[layer, "reason"], layer
        assert ("7" in rows.index) and (rows.loc["7", "analysed"] or convention == "weightwatcher")
    assert "dequantise" in analyse(tmp_path / "m.pt").rows.set_index("layer").loc["eight", "reason"]


def edited(content: bytes, change) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def test_damaged_safetensors_are_refused(tmp_path):
    save_file({"a.weight": matrix(0, 16, 16), "b.weight": matrix(1, 16, 16)}, tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()

    def overlap(header):
        header["b.weight"]["data_offsets"] = [0, 1024]

    def negative(header):
        header["a.weight"]["data_offsets"] = [-8, 1016]

    def shape(header):
        header["a.weight"]["shape"] = [-16, -16]

    for damaged, told in (
        (content + b"1234", "something follows"),
        (edited(content, overlap), "begins at byte 0"),
        (edited(content, negative), "begins at byte -8"),
        (edited(content, shape), "not a valid safetensors header"),
    ):
        (tmp_path / "d.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match=told):
            SafetensorsFile(tmp_path / "d.safetensors")


def test_pointers_folders_and_indices(tmp_path):
    (tmp_path / "p.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="Git LFS pointer"):
        open_model(tmp_path / "p.safetensors")
    (tmp_path / "p.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="Git LFS pointer"):
        open_model(tmp_path / "p.bin")
    for name in ("diffusion_pytorch_model", "open_clip_model", "some_name"):
        folder = tmp_path / name
        folder.mkdir()
        save_file({"a.weight": matrix(0, 16, 16)}, folder / f"{name}.safetensors")
        assert list(open_model(folder).entries) == ["a.weight"]
    save_file({"b.weight": matrix(0, 16, 16)}, folder / "another.safetensors")
    with pytest.raises(UserError, match=r"another\.safetensors, some_name\.safetensors; name one"):
        open_model(folder)
    index = folder / "model.safetensors.index.json"
    for places, told in (
        ({"a.weight": "some_name.safetensors", "c.weight": "another.safetensors"}, "c.weight is not in another"),
        ({"a.weight": "../open_clip_model/open_clip_model.safetensors"}, "outside its folder"),
        ({"a.weight": 3}, "not a shard index"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(UserError, match=told):
            open_model(index)


def test_truncated_and_compressed_pytorch_files_end_in_one_line(tmp_path, torch):
    torch.save({"a.weight": torch.from_numpy(matrix(0, 64, 64))}, tmp_path / "m.pt")
    with zipfile.ZipFile(tmp_path / "m.pt") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    data = next(name for name in contents if name.endswith("data/0"))
    for name, change, told in (("short", contents[data][:100], "beyond its values"), ("gone", None, "missing")):
        with zipfile.ZipFile(tmp_path / f"{name}.pt", "w") as archive:
            for key, value in (contents | {data: change}).items():
                if value is not None:
                    archive.writestr(key, value)
        assert told in analyse(tmp_path / f"{name}.pt").rows["reason"].iloc[0]
    (tmp_path / "cut.pt").write_bytes((tmp_path / "m.pt").read_bytes()[:3000])
    (tmp_path / "list.pt").write_bytes(pickle.dumps([1, 2, 3]))
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    (tmp_path / "empty.pt").write_bytes(stream.getvalue())
    for name in ("cut", "list", "empty"):
        with pytest.raises(UserError):
            open_model(tmp_path / f"{name}.pt")


def test_parts_of_quantised_weights_are_no_layers(tmp_path):
    tensors = {
        "q.qweight": np.zeros((32, 64), np.int32),
        "q.qzeros": np.zeros((16, 8), np.int32),
        "q.scales": matrix(0, 16, 64).astype(np.float16),
        "int.weight": np.zeros((32, 64), np.int8),
        "norm_scales.weight": matrix(1, 16, 64),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    rows = rows_of(tmp_path / "m.safetensors").reset_index().set_index("parameter")
    assert list(rows[rows["analysed"]].index) == ["norm_scales.weight"]
    assert "dequantise" in rows.loc["q.scales", "reason"]
    assert "dequantise" in rows.loc["int.weight", "reason"]


def test_wrappers_prefixes_are_nothing_to_pairing(tmp_path):
    state = {"fc.weight": matrix(0, 20, 16), "head.weight": matrix(1, 20, 16)}
    save_file({f"module._orig_mod.{name}": value for name, value in state.items()}, tmp_path / "a.safetensors")
    save_file({f"model.{name}": value for name, value in state.items()}, tmp_path / "b.safetensors")
    rows = rows_of(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert rows.loc[("fc", "dW"), "norm"] == 0
    save_file({f"other.{name}": value for name, value in state.items()}, tmp_path / "c.safetensors")
    with pytest.raises(UserError, match="none of the 2 matrices is in it by name"):
        analyse(tmp_path / "a.safetensors", tmp_path / "c.safetensors")


# ---------------------------------------------------------------- numbers at the edge


@pytest.mark.filterwarnings("error")
def test_values_whose_squares_leave_float64_are_told_from_infinite_ones_and_zeros(tmp_path):
    scales = {"large": 1e160, "small": 1e-170, "fine": 1e-140, "none": 0.0}
    values = {f"{name}.weight": matrix(0, 20, 16).astype(np.float64) * scale for name, scale in scales.items()}
    save_file(values, tmp_path / "m.safetensors")
    rows = rows_of(tmp_path / "m.safetensors").xs("W", level="matrix")
    assert "squares overflow" in rows.loc["large", "reason"] and "squares underflow" in rows.loc["small", "reason"]
    assert rows.loc["fine", "reason"] == "" and rows.loc["none", "reason"] == "all values are zero"


def test_no_difference_has_a_norm_of_zero(tmp_path):
    save_file({"a.weight": matrix(0, 20, 16)}, tmp_path / "m.safetensors")
    row = rows_of(tmp_path / "m.safetensors", tmp_path / "m.safetensors").loc[("a", "dW")]
    assert row[["norm", "spectral_norm", "sv_max", "matrix_rank", "rank_loss"]].tolist() == [0, 0, 0, 0, 16]
    assert row["reason"] == "all values are zero"


# ---------------------------------------------------------------- the command


@pytest.fixture
def model(tmp_path):
    save_file({"a.weight": matrix(0, 20, 16), "b.weight": matrix(1, 12, 16)}, tmp_path / "m.safetensors")
    return str(tmp_path / "m.safetensors")


def test_what_would_be_ignored_is_refused(model, tmp_path, capsys):
    out = str(tmp_path / "x.csv")
    for arguments, told in (
        ([model, "--out", out, "--kappa", "0.9"], "needs --reference"),
        ([model, "--out", out, "--convention", "weightwatcher", "--bootstrap", "5"], "--bootstrap"),
        ([model, "--out", out, "--convention", "weightwatcher", "--conv", "unfolded"], "--conv"),
        ([model, "--out", out, "--mp"], "--mp"),
        ([model, "--out", out, "--no-pool"], "--no-pool"),
        ([model, model, "--out", out, out], "named twice"),
        ([model, "--out", model], ".parquet or .csv"),
        ([model, "--out", out, "--eigenvalues", model], "named twice"),
        ([model, "--out", out, "--exclude", "c"], "no parameter or layer matches c"),
        ([model, "--out", str(tmp_path)], ".parquet or .csv"),
    ):
        assert cli.main(["spectra", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and told in error
    assert not (tmp_path / "x.csv").exists()


def test_layers_as_the_table_shows_them_can_be_left_out(model, tmp_path):
    assert cli.main(["spectra", model, "--out", str(tmp_path / "x.csv"), "--exclude", "a"]) == 0
    rows = pd.read_csv(tmp_path / "x.csv").set_index("layer")
    assert rows.loc["a", "reason"] == "not selected"
    assert rows.loc["b", "analysed"]


def test_a_model_without_a_matrix_to_analyse_is_an_error(tmp_path, capsys):
    save_file({"a.weight": matrix(0, 4, 4), "b.weight": matrix(0, 3, 4)}, tmp_path / "m.safetensors")
    assert cli.main(["spectra", str(tmp_path / "m.safetensors"), "--out", str(tmp_path / "x.csv")]) == 2
    assert "no matrix could be analysed (4 eigenvalues, fewer than 8" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "x.csv")) == 2


def test_the_table_can_be_printed(model, capsys):
    assert cli.main(["spectra", model, "--out", "-"]) == 0
    assert list(pd.read_csv(io.StringIO(capsys.readouterr().out))["layer"]) == ["a", "b"]


def test_the_tables_place_is_tried_before_the_work(model, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("diversity_spectra.spectra.table.analyse", None)
    assert cli.main(["spectra", model, "--out", str(tmp_path / "file" / "x.csv")]) == 1
    assert "error: " in capsys.readouterr().err


def test_what_is_done_is_kept_when_the_analysis_is_stopped(model, tmp_path, monkeypatch, capsys):
    def stop(progress, share):
        raise KeyboardInterrupt

    codes = []
    monkeypatch.setattr("diversity_spectra.spectra.progress.Progress.__call__", stop)
    monkeypatch.setattr("os._exit", lambda code: codes.append(code) or sys.exit(code))
    with pytest.raises(SystemExit):
        cli.main(["spectra", model, "--threads", "1", "--out", str(tmp_path / "x.csv")])
    assert codes == [130]
    assert "stopped after 1 matrices; wrote 2 rows" in capsys.readouterr().err
    rows = pd.read_csv(tmp_path / "x.csv").set_index("layer")
    assert rows.loc["a", "analysed"]
    assert rows.loc["b", "reason"] == "stopped before it was analysed"


# A thread inside of LAPACK can be told nothing, nor can one that sleeps.
SLOW = """
import signal, sys, time
from diversity_spectra import cli
from diversity_spectra.spectra import lapack

def eigvalsh(matrix):
    print("decomposing", file=sys.stderr, flush=True)
    time.sleep(120)

lapack.eigvalsh = eigvalsh
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "command",
    [
        ["spectra", "baseline-0.safetensors", "--out", "x.csv"],
        ["diff", "baseline-0.safetensors", "baseline-0.safetensors"],
        ["collect", ".", "--pattern", "{condition}-{seed}.safetensors", "--out", "collected"],
    ],
    ids=lambda command: command[0],
)
def test_control_c_does_not_wait_for_lapack(tmp_path, command):
    save_file({f"{name}.weight": matrix(0, 400, 400) for name in "ab"}, tmp_path / "baseline-0.safetensors")
    arguments = [sys.executable, "-c", SLOW, *command, "--threads", "1"]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert "decomposing" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    assert process.returncode == 130
    assert process.stderr.read().startswith("stopped")
    assert command[0] != "spectra" or len(pd.read_csv(tmp_path / "x.csv")) == 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_progress_tells_the_time_left_and_is_quiet_for_short_work(stream):
    now, out = [0.0], stream()
    progress = Progress("m", out, lambda: now[0])
    for seconds, share in ((1, 0.1), (4, 0.3), (40, 0.5), (41.5, 0.51), (200, 0.6), (300, 1.0)):
        now[0] = seconds
        progress(share)
    progress.close()
    shown = out.getvalue()
    assert "m: 50%, 40 s left" in shown
    assert "m: 60%, 2 min left" in shown
    assert "10%" not in shown
    assert ("51%" in shown) == (stream is Terminal), "a line a second on a terminal, every half minute elsewhere"


def test_processors_follow_the_control_groups_quota(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert processors(tmp_path) == 8
    for text, expected in (("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("900000 100000", 8)):
        (tmp_path / "cpu.max").write_text(text)
        assert processors(tmp_path) == expected
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert processors(tmp_path) == 2
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1")
    assert processors(tmp_path) == 8
