"""Training on new variants in every epoch (`copies: fresh`), beside stored ones and timm's loader; writes benchmarks/fresh.md.

python benchmarks/bench_fresh.py            # about 5 minutes on 2 cores
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_train import CASES, REPEATS, THREADS, WORKERS, Run, machine, ours, usual, write_tree

from diversity_spectra import imageset
from diversity_spectra.augment.job import Augment, DataRecipe, Step
from diversity_spectra.augment.variants import Variants
from diversity_spectra.data import folder

CROP = 0.7
COPIES = 8
PAGE = """# Variants that are new in every epoch: throughput

    python benchmarks/bench_fresh.py

{machine}
{repeats} repeats of each loop, alternating in one process; torch has {threads} thread. 5,000 digits as RGB files; each image is cropped to
{crop} to 1 of its area, aspect 3/4 to 4/3, and scaled back. Loops are those of [train.md](train.md).

*Stored*: `copies: {copies}`, made beforehand (stage `augment`), in the memory map. *Fresh*: `copies: fresh`, made by so many processes ahead of the
training, seeded by image and epoch. *timm*: the same crop in its loader, with so many workers.

{table}
"""


def variants(real: imageset.ImageSet, copies: int | str) -> imageset.ImageSet:
    recipe = DataRecipe(augmentations=[Step(kind="resized_crop", level=CROP)])
    made = Variants(Augment(recipe=recipe, copies=copies, images="none"), real, None)
    return imageset.ImageSet(made if copies == "fresh" else np.array(made), made.labels, real.meta)


def main() -> None:
    torch.set_num_threads(THREADS)
    described, table = machine(), ["| | images/s: median (all) | stored over it |", "|---|---|---|"]
    for architecture, side, batch, steps, _ in CASES:
        with tempfile.TemporaryDirectory() as place:
            tree, prepared = Path(place) / "tree", Path(place) / "set"
            write_tree(tree, side)
            prepared.mkdir()
            classes = sorted(entry.name for entry in tree.iterdir())
            files, labels = folder.list_images(tree, classes)
            images, _ = folder.read_images(files, side, prepared)
            real = imageset.ImageSet(images, labels, {"classes": classes})
            few = imageset.ImageSet(
                images[::COPIES], labels[::COPIES], real.meta
            )  # as many rows in all as there are files
            stored, fresh = variants(few, COPIES), variants(real, "fresh")
            case = (architecture, batch, steps)
            loops: dict[str, Callable[[int], Run]] = {
                "stored": lambda seed, c=case, d=stored: ours(c[0], d, c[1], c[2], seed),
            }
            for workers in (0, *WORKERS):
                loops[f"fresh, {workers} process(es)"] = lambda seed, c=case, d=fresh, w=workers: ours(
                    c[0], d, c[1], c[2], seed, workers=w
                )
            for workers in WORKERS:
                loops[f"timm, {workers} worker(s)"] = lambda seed, c=case, w=workers, t=tree, s=side: usual(
                    c[0], t, s, c[1], c[2], seed, w, CROP
                )
            rates: dict[str, list[float]] = {name: [] for name in loops}
            for repeat in range(REPEATS):
                for name, loop in loops.items():
                    rates[name].append(loop(repeat)[0])
                    print(architecture, name, f"{rates[name][-1]:.1f} images/s", flush=True)
        best = statistics.median(rates["stored"])
        for name, of in rates.items():
            median, listed = statistics.median(of), ", ".join(f"{rate:.0f}" for rate in of)
            table.append(
                f"| {architecture}, {side} px, batch {batch}: {name} | {median:.0f} ({listed}) | {best / median:.2f} |"
            )
    page = PAGE.format(
        machine=described, repeats=REPEATS, threads=THREADS, crop=CROP, copies=COPIES, table="\n".join(table)
    )
    (Path(__file__).parent / "fresh.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
