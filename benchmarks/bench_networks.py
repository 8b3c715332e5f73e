"""One network of each of timm's modules through what a run asks of it: `python benchmarks/bench_networks.py`.

Writes benchmarks/networks.md. Nothing is downloaded. Networks are on the meta device, where shapes are worked out and nothing
is calculated, but for a training step that asks for values; those take it on the CPU.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from timm.models._registry import _model_to_module

from diversity_spectra.errors import UserError
from diversity_spectra.finetune import layerwise, models
from diversity_spectra.finetune.job import WITHOUT_BLOCKS, WITHOUT_LAYERS, Network, Training

OUT = Path(__file__).with_name("networks.md")
CLASSES = 7
RECIPE = Training(steps=1, batch_size=2, lr=1e-3, weight_decay=0.1)
HEAD = """# Networks of timm

One network of each of timm's {count} modules (timm {version}), the smallest by its name, through what a run asks of it; made by
`python benchmarks/bench_networks.py`. *other classes*: weights of 1000 classes fit one of {classes}, but for the classifier.
*head*, *blocks*: in how many places dropout acts on an image with `where: head` and `where: blocks`; without residual
branches `check` refuses `blocks`. *step*: forward, backward and AdamW. *layers*: groups of layers that timm tells apart, for
`layer_decay` and `trained_blocks`; without them `check` refuses these. *matrices*: what stage spectra has to analyse.

{works} of {count} train; {fit} take weights of other classes; dropout acts in the blocks of {blocks} and before the classifier
of {head}.

| module | network | side, px | other classes | head | blocks | step | layers | matrices |
|---|---|---|---|---|---|---|---|---|
"""


def representatives() -> dict[str, str]:
    """The shortest name in each module; timm's own test networks are too small to have all parts."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models(exclude_filters="test_*"):
        found[_model_to_module[name]].append(name)
    return {module: min(names, key=lambda name: (len(name), name)) for module, names in sorted(found.items())}


def row(module: str, name: str) -> dict[str, str]:
    side = max(timm.models.get_pretrained_cfg(name).input_size[1:]) if timm.models.get_pretrained_cfg(name) else 224
    network = Network(architecture=name, image_size=side)
    with torch.device("meta"):
        own, other = models.create(network, CLASSES), models.create(network, 1000)
    fits = "yes" if not models.misfits(own, other.state_dict()) else "no"
    heads = tried(lambda: str(places(network, "head")))
    blocks = "none" if module in WITHOUT_BLOCKS else tried(lambda: str(places(network, "blocks")))
    layers = "none" if module in WITHOUT_LAYERS else str(max(layerwise.groups(own).values()) + 1)
    matrices = sum(tensor.ndim > 1 for tensor in own.state_dict().values())
    return {
        "module": module, "network": name, "side": str(side), "other classes": fits, "head": heads, "blocks": blocks,
        "step": tried(lambda: step(network)), "layers": layers, "matrices": str(matrices),
    }  # fmt: skip


def places(network: Network, where: str) -> int:
    with torch.device("meta"):
        return len(models.dropout_places(models.create(network, CLASSES, None, 0.1, where), network))


def step(network: Network) -> str:
    try:
        with torch.device("meta"):
            learn(network)
    except (NotImplementedError, RuntimeError):
        learn(network)
        return "yes (CPU)"
    return "yes"


def learn(network: Network) -> None:
    model = models.create(network, CLASSES).train()
    optimiser = torch.optim.AdamW(layerwise.parameter_groups(model, RECIPE), lr=RECIPE.lr, foreach=False)
    logits = model(torch.zeros(2, 3, network.image_size, network.image_size))
    if logits.shape != (2, CLASSES):
        raise ValueError(f"logits {tuple(logits.shape)}")
    torch.nn.functional.cross_entropy(logits, torch.zeros(2, dtype=torch.long)).backward()
    optimiser.step()


def tried(what: Callable[[], str]) -> str:
    try:
        return what()
    except UserError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"**{type(error).__name__}: {str(error).splitlines()[0][:60] if str(error) else ''}**"


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    rows = []
    for module, name in representatives().items():
        try:
            rows.append(row(module, name))
        except Exception as error:
            reason = f"**{str(error).splitlines()[0][:80]}**"
            rows.append({"module": module, "network": name, "side": "", "other classes": reason, "head": "", "blocks": "",
                         "step": "", "layers": "", "matrices": ""})  # fmt: skip
        print(" | ".join(rows[-1].values()), file=sys.stderr, flush=True)
    numbers = {
        "count": len(rows), "version": timm.__version__, "classes": CLASSES,
        "works": sum(row["step"].startswith("yes") for row in rows),
        "fit": sum(row["other classes"] == "yes" for row in rows),
        "blocks": sum(row["blocks"].isdigit() and row["blocks"] != "0" for row in rows),
        "head": sum(row["head"].isdigit() and row["head"] != "0" for row in rows),
    }  # fmt: skip
    OUT.write_text(HEAD.format(**numbers) + "".join(f"| {' | '.join(row.values())} |\n" for row in rows))


if __name__ == "__main__":
    main()
