"""The subcommand `diversity`: Vendi scores of an image set and, for a synthetic one, its quality."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.diversity import inputs
from diversity_spectra.diversity.job import MeasureDiversity
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, log, publish, read_job
from diversity_spectra.finetune.job import Precision
from diversity_spectra.imageset import ImageSet
from diversity_spectra.tables import check_name, write_table

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """\
Scores depend on the number of images: give every set that is to be compared the same --per-class. An embedding is
named ARCHITECTURE[:WEIGHTS] with WEIGHTS one of hub (default), embedded, none (random) or a path.

A folder of images, one folder per class or all in one, is read at --image-size (224 px where it is embedded, else 32).

examples:
  diversity-spectra diversity photos/ --embedding none
  diversity-spectra diversity results/cache/data/digits-train-0123456789ab --embedding none --out vendi.csv
  diversity-spectra diversity results/cache/generate/ddpm-0123456789ab --per-class 80 \\
      --reference results/cache/data/digits-train-0123456789ab --test results/cache/data/digits-test-0123456789ab \\
      --out vendi.parquet --quality quality.parquet --copies copies.parquet
"""
THUMBNAIL = 16  # pixels of a side at which test images are looked for among training images

NEAR = 16  # images per class behind the nearness of two sets, in each draw
QUALITY = ["measure", "label", "value", "low", "high", "n"]

Embed = Callable[[ImageSet, np.ndarray], np.ndarray]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add = parser.add_argument
    add_job(parser, alone=False)
    add("image_set", type=Path, nargs="?", metavar="IMAGE_SET", help="image set, or a folder of images")
    add("--out", type=Path, metavar="SCORES", help="Vendi scores, .parquet or .csv (default: printed)")
    add("--embedding", default="tf_efficientnet_lite0:embedded", help="timm model, or none (default: %(default)s)")
    add("--image-size", type=_positive, metavar="PX", help="side for the embedding (default: their own, at least 32)")
    add("--precision", choices=get_args(Precision), default="float32", help="of the embedding (default: %(default)s)")
    add("--orders", type=_order, nargs="+", default=[1.0, 2.0, np.inf], metavar="Q", help="default: 1 2 inf")
    add("--per-class", type=_positive, metavar="N", help="images per class (default: 80 %% of the smallest class)")
    add("--subsamples", type=_positive, default=5, metavar="K", help="draws behind the interval (default: %(default)s)")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--device", default="cpu", help="where the embedding runs: auto, cpu, cuda or cuda:N (default: %(default)s)")
    add("--jobs-per-gpu", type=_positive, default=1, metavar="N", help="that may share it (default: %(default)s)")
    add("--threads", type=_positive, default=1, help="CPU threads of the embedding (default: %(default)s)")
    add("--reference", type=Path, metavar="REAL_SET", help="training images that a synthetic set is judged against")
    add(
        "--plain",
        type=Path,
        metavar="REAL_SET",
        help="training images as they are: adds weighted Vendi scores to --quality",
    )
    add("--test", type=Path, metavar="TEST_SET", help="test images, searched for near-copies as well")
    add("--logits", type=Path, metavar="FILE.npy", help="a classifier's logits (N, C) for the images: label agreement")
    add("--quality", type=Path, help="quality against --reference, .parquet or .csv")
    add("--copies", type=Path, help="nearest real image of each image, .parquet or .csv")


def run(arguments: argparse.Namespace) -> None:
    if arguments.job:
        return _run_job(arguments)
    if arguments.embedding != "none":
        arguments.device = _device(arguments)
    written = [f"{rows} rows to {path}" for path, rows in measure(arguments).items()]
    if written:
        print(f"wrote {', '.join(written)}", file=sys.stderr)


def _run_job(arguments: argparse.Namespace) -> None:
    """The subcommand with the job's settings.

    `quality.parquet` judges synthetic images by real ones, and test images by training images; else it is empty.
    """
    import pandas as pd

    job = read_job(arguments, MeasureDiversity)
    how = job.measured
    device = _device(arguments) if job.takes_device() else "cpu"
    with publish(job, device=_told(device), threads=arguments.threads) as result:
        compared = job.reference is not None
        measure(
            argparse.Namespace(
                image_set=job.images,
                out=result.folder / "scores.parquet",
                embedding=how.embedding,
                image_size=how.image_size,
                precision=how.precision,
                orders=[float(order) for order in how.orders],
                per_class=_for_all(how.per_class, job.plain),
                subsamples=how.subsamples,
                seed=job.seed,
                device=device,
                threads=arguments.threads,
                reference=job.reference,
                test=job.test,
                logits=None,
                plain=job.plain,
                quality=result.folder / "quality.parquet",
                copies=result.folder / "copies.parquet" if compared else None,
            )
        )
        if job.test and not compared:
            table = pd.read_parquet(result.folder / "quality.parquet")
            table = pd.concat([pd.DataFrame(_leaked(job.images, job.test)), table], ignore_index=True)
            table.to_parquet(result.folder / "quality.parquet", index=False)


def _leaked(train: str, test: str) -> list[dict]:
    """Rows of the quality table: test images that look like training images, by their means over blocks of pixels.

    So a picture that was saved anew, in another format or size, is found too.
    """
    from diversity_spectra.diversity import quality, vendi

    known, tested = imageset.load(train), imageset.load(test)
    rows, others = (vendi.pixel_rows(images.images, side=THUMBNAIL) for images in (tested, known))
    found = quality.near_copies(rows, others)
    log.info(
        "%d of %d test images lie as near to a training image as the nearest 1 %% of these to each other",
        found.flagged.sum(), len(tested),
    )  # fmt: skip
    return quality.share_table("near_copies_train_pixel", found.flagged, tested.labels, tested.classes)


def _for_all(per_class: int, plain: str | None) -> int:
    """Images per class that every training set can give, files that could not be read left out."""
    if plain is None:
        return per_class
    images = imageset.load(plain)
    smallest = min(imageset.per_class(images.labels, images.classes).values())
    if smallest < per_class:
        log.warning("the smallest class has %d training images: scores are taken at %d", smallest, smallest)
    return min(per_class, smallest)


def _device(arguments: argparse.Namespace) -> str:
    from diversity_spectra import devices

    return str(devices.choose(arguments.device, arguments.threads, arguments.jobs_per_gpu))


def _told(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    from diversity_spectra import devices

    return devices.describe(torch.device(device))


def measure(arguments: argparse.Namespace) -> dict[Path, int]:
    """Write the tables that are asked for; returns how many rows each has. Raises `UserError` for wrong arguments.

    Without a file for the scores they are printed.
    """
    with ExitStack() as opened:
        return _measure(arguments, opened)


def _measure(arguments: argparse.Namespace, opened: ExitStack) -> dict[Path, int]:
    import pandas as pd

    from diversity_spectra.diversity import vendi

    if not arguments.image_set:
        raise UserError("name the image set, or a folder of images; see --help")
    wanted = [path for path in (arguments.quality, arguments.copies) if path]
    if wanted and not (arguments.reference or (arguments.plain and not arguments.copies)):
        raise UserError("--quality and --copies compare with real images: name them with --reference")
    for path in (arguments.out, *wanted):
        if path:
            check_name(path)
    images = inputs.load(arguments.image_set, arguments, opened)
    real = inputs.load_real(arguments, images, opened)
    logits = inputs.load_logits(arguments.logits, images) if arguments.logits else None
    embed = _embedder(arguments, images)
    kernels, sampling = _kernels(arguments, images, embed)
    compared = {"synthetic": images, **real} if arguments.reference and embed else {}
    embedded = {name: embed(members, np.arange(len(members))) for name, members in compared.items()}
    near = _nearness(arguments, images, embed, sampling) if arguments.quality and arguments.plain else {}
    if embed and arguments.device.startswith("cuda"):
        from diversity_spectra import devices

        devices.release()  # the rest is work for the CPU
    scores = pd.DataFrame(vendi.score_table(kernels, *sampling))
    if not arguments.out:
        print(summary(scores))
    tables = {arguments.out: scores}
    if wanted:
        quality, copies = _quality(arguments, images, real, logits, embedded) if arguments.reference else ([], [])
        quality += _weighted(near, scores)
        tables[arguments.quality] = pd.DataFrame(quality, columns=QUALITY)
        if copies:
            tables[arguments.copies] = pd.concat(map(pd.DataFrame, copies), ignore_index=True)
    tables.pop(None, None)  # what was not asked for
    for path, table in tables.items():
        write_table(path, table)
    return {path: len(table) for path, table in tables.items()}


def _kernels(arguments: argparse.Namespace, images: ImageSet, embed: Embed | None) -> tuple[dict, tuple]:
    """What `vendi.score_table` takes; reads and embeds only the images that the subsamples use."""
    from diversity_spectra.diversity import vendi

    sources = inputs.sources_of(arguments.image_set, images)
    per_class = arguments.per_class or inputs.largest_sample(images, sources)
    sampled = images.labels, images.classes, per_class
    draws = range(arguments.subsamples)
    try:
        chosen = [vendi.subsample(*sampled, arguments.seed, draw, sources) for draw in draws]
    except ValueError as error:
        raise UserError(f"{arguments.image_set}: {error}; lower --per-class (diversity.per_class)") from None
    used = np.unique(chosen)
    pixels = vendi.pixel_rows(images.images, used, workers=arguments.threads - 1)

    def raw(indices: np.ndarray) -> tuple[np.ndarray, None]:
        return pixels[np.searchsorted(used, indices)], None

    def centred(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The mean image over all classes, which weigh the same in a subsample.
        rows, _ = raw(indices)
        return rows, rows.mean(axis=0, dtype=np.float64)

    kernels = {"pixel": raw, "pixel_centred": centred}
    if embed:
        features = embed(images, used)
        kernels["embedding"] = lambda indices: (features[np.searchsorted(used, indices)], None)
    return kernels, (*sampled, arguments.subsamples, arguments.seed, arguments.orders, sources)


def _quality(
    arguments: argparse.Namespace,
    images: ImageSet,
    real: dict[str, ImageSet],
    logits: np.ndarray | None,
    embedded: dict[str, np.ndarray],
) -> tuple[list[dict], list[dict]]:
    """Rows of the quality table, and columns of the nearest real images for each set of real images.

    embedded: features (N, d) of the set, as `synthetic`, and of every set in `real`; empty without an embedding.
    """
    from diversity_spectra.diversity import quality, vendi

    def spaces(name: str, members: ImageSet) -> dict[str, np.ndarray]:
        pixels = vendi.pixel_rows(members.images)
        return {"pixel": pixels} | ({"embedding": embedded[name]} if embedded else {})

    features, table, copies = spaces("synthetic", images), [], []
    for name, reference in real.items():
        others = spaces(name, reference)
        if name == "train" and embedded:
            sources = inputs.sources_of(arguments.reference, reference), inputs.sources_of(arguments.image_set, images)
            largest = map(inputs.largest_sample, (reference, images), sources)
            per_class = min(*largest, arguments.per_class or len(images))
            sides = (others["embedding"], reference.labels, features["embedding"], images.labels)
            sampling = (images.classes, per_class, arguments.subsamples, arguments.seed)
            table += quality.distance_table(*sides, *sampling, *sources)
        columns = {"image": np.arange(len(images)), "label": np.array(images.classes)[images.labels], "set": name}
        for space, rows in features.items():
            found = quality.near_copies(*(_comparable(side, space) for side in (rows, others[space])))
            table += quality.share_table(f"near_copies_{name}_{space}", found.flagged, images.labels, images.classes)
            columns |= {f"{space}_nearest": found.nearest, f"{space}_distance": found.distance}
            columns |= {f"{space}_threshold": found.threshold, f"{space}_copy": found.flagged}
        copies.append(columns)
    if logits is not None:
        agree = quality.label_agreement(logits, images.labels)
        table += quality.share_table("label_agreement", agree, images.labels, images.classes)
    return table, copies


def _nearness(
    arguments: argparse.Namespace, images: ImageSet, embed: Embed | None, sampling: tuple
) -> dict[str, list[tuple[float, float, float]]]:
    """rho of the set with the plain one, with its interval and the images per class: of the study by space, and by class.

    Of the same number of images per class in every set, drawn anew from each of the two.
    """
    from diversity_spectra.diversity import vendi, weighted
    from diversity_spectra.seeds import derive_seed

    labels, classes, per_class, draws, seed, _, sources = sampling
    plain = imageset.load(arguments.plain)
    size = min(NEAR, per_class, *vendi.class_sizes(plain.labels, classes))
    origin, copy, picture = inputs.origins_of(
        arguments.image_set, images, same=Path(arguments.plain) == Path(arguments.image_set)
    )
    if plain.classes != images.classes or picture.max() >= len(plain):
        raise UserError(
            f"{arguments.image_set} was not made of {arguments.plain}: name the set that it was made of with --plain"
        )
    opposite = weighted.compared_rows(origin, copy, picture, plain.labels)
    spaces = {"pixel": lambda members, chosen: vendi.pixel_rows(members.images, chosen)}
    if embed:
        spaces["embedding"] = embed
    found: dict[str, list[float]] = {f"{form}{space}": [] for space in spaces for form in ("wvs_", "wvs_by_class_")}
    for draw in range(draws):
        own = vendi.subsample(plain.labels, classes, size, derive_seed(seed, "plain"), draw)
        chosen = vendi.subsample(labels, classes, size, seed, draw, sources)
        paired = opposite[own.ravel()]
        for space, features in spaces.items():
            first = features(plain, own.ravel())
            there = features(images, paired[paired >= 0])
            found[f"wvs_{space}"].append(weighted.by_index(first[paired >= 0], there))
            second = features(images, chosen.ravel())
            shaped = (part.reshape(len(classes), size, -1) for part in (first, second))
            found[f"wvs_by_class_{space}"].append(weighted.by_class(*shaped, (own, picture[chosen])))
    available = int(min(vendi.class_sizes(plain.labels, classes)))
    return {
        name: (float(np.mean(values)), *vendi.interval(np.array(values), size, available), size)
        for name, values in found.items()
    }


def _weighted(near: dict, scores: pd.DataFrame) -> list[dict]:
    """Weighted Vendi scores, as rows of the quality table: order 1, classes pooled; errors of the factors add in squares."""
    rows = []
    known = scores[(scores["order"] == "1") & (scores["label"] == "overall")].set_index("kernel")
    for name, (rho, low, high, size) in near.items():
        kernel = name.rsplit("_", 1)[1]
        if kernel not in known.index:
            continue
        score = known.loc[kernel]
        kept = np.maximum(rho, 0.0)
        value = score["score"] * kept
        half = np.hypot(kept * (score["high"] - score["low"]) / 2, score["score"] * (high - low) / 2)
        ends = np.maximum(value - half, 0.0), value + half
        for measure, number, bounds in ((name, value, ends), (name.replace("wvs", "rho", 1), rho, (low, high))):
            row = {"measure": measure, "label": "overall", "value": number}
            rows.append(row | {"low": bounds[0], "high": bounds[1], "n": size})
    return rows


def _comparable(rows: np.ndarray, space: str) -> np.ndarray:
    """Features at length 1, where the Euclidean distance r stands for the cosine 1 - r^2 / 2; pixels as they are."""
    from diversity_spectra.diversity.vendi import unit_rows

    return unit_rows(rows, None)[0] if space == "embedding" else rows


def _embedder(arguments: argparse.Namespace, images: ImageSet) -> Embed | None:
    """A function from an image set and indices to features (n, d), or None for --embedding none."""
    if arguments.embedding == "none":
        return None
    from diversity_spectra.diversity import embedding

    size = arguments.image_size or embedding.default_size(images.images)
    model, mean, std = embedding.load(arguments.embedding, size, arguments.device)
    how = (model, size, mean, std, arguments.device, arguments.threads - 1, arguments.precision)
    return lambda members, indices: embedding.embed(members.images, indices, *how)


def summary(scores: pd.DataFrame) -> str:
    """The scores over classes as text: their mean, and all classes pooled."""
    n = scores["n"].iloc[0]
    lines = [f"Vendi scores at {n} images per class, mean over subsamples [95 % interval]:"]
    lines.append(f"  {'kernel':<14}{'order':<7}{'mean over classes':<28}all pooled")
    for (kernel, order), rows in scores.groupby(["kernel", "order"], sort=False):
        cells = rows.set_index("label")[["score", "low", "high"]]
        told = [_told_score(*cells.loc[label]) for label in ("mean", "overall")]
        lines.append(f"  {kernel:<14}{order:<7}{told[0]:<28}{told[1]}")
    return "\n".join(lines)


def _told_score(score: float, low: float, high: float) -> str:
    return f"{score:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite(low) else f"{score:.2f}"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _order(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value
