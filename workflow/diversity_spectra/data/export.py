"""`diversity-spectra folders`: class folders from images that come in another way.

Tables of paths and labels (CSV, TSV, JSON lines, Parquet), Parquet files that hold the images themselves, folders with
Hugging Face's `metadata.csv`, and tars of webdataset. Files that are there already are linked to, not copied.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from diversity_spectra.contents import IMAGES
from diversity_spectra.errors import UserError

EXAMPLE = """examples:
  diversity-spectra folders train.csv photos/train --image path --label species
  diversity-spectra folders data/train-*.parquet photos/train
  diversity-spectra folders imagefolder/test photos/test          # with a metadata.csv in it
  diversity-spectra folders shard-{000..015}.tar photos/train --label cls
"""
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
METADATA = tuple(f"metadata{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))
COLUMNS = {
    "image": ("image", "file_name", "filename", "file", "path", "image_path", "img"),
    "label": ("label", "class", "class_name", "category", "species", "target", "cls"),
}


class Item(NamedTuple):
    """An image: its label as text, empty where there is none, the name it goes by, and its file or its bytes."""

    label: str
    name: str
    content: Path | bytes


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="tables, Parquet files, tars, or a folder with metadata"
    )
    add("out", type=Path, metavar="FOLDER", help="new folder, which gets one folder per class")
    add("--image", metavar="COLUMN", help=f"of the path or the image (default: one of {', '.join(COLUMNS['image'])})")
    add(
        "--label",
        metavar="COLUMN",
        help=f"of the class, or a tar's file of it (default: {', '.join(COLUMNS['label'])})",
    )
    add("--root", type=Path, metavar="FOLDER", help="what paths in a table start from (default: the table's folder)")


def run(arguments: argparse.Namespace) -> None:
    if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
        raise UserError(f"{arguments.out}: is there already; name a new folder")
    found: Counter[str] = Counter()
    try:
        for source in arguments.sources:
            for item in items(source, arguments.image, arguments.label, arguments.root):
                if item.label:
                    place(item, arguments.out, found.total())
                found[item.label] += 1
        without = found.pop("", 0)
        if not found:
            raise UserError(f"{arguments.sources[0]}: no image with a label")
    except BaseException:
        shutil.rmtree(arguments.out, ignore_errors=True)
        raise
    few, many = min(found, key=found.get), max(found, key=found.get)
    print(
        f"{arguments.out}: {found.total()} images of {len(found)} classes, from {found[few]} of {few} to {found[many]} of"
        f" {many}" + (f"; {without} without a label left out" if without else "")
    )


def items(source: Path, image: str | None, label: str | None, root: Path | None) -> Iterator[Item]:
    """The images of one source. Raises `UserError` for one that cannot be read."""
    if source.is_dir():
        tables = [source / name for name in METADATA if (source / name).is_file()]
        if not tables:
            raise UserError(f"{source}: a folder without {' or '.join(METADATA)}")
        source = tables[0]
    if source.suffix == ".tar" or source.name.endswith((".tar.gz", ".tgz")):
        yield from of_tar(source, label)
    elif source.suffix in TABLES:
        yield from of_table(source, image, label, root or source.parent)
    else:
        raise UserError(f"{source}: none of {', '.join(TABLES)}, .tar, .tar.gz, and no folder with metadata")


def of_table(path: Path, image: str | None, label: str | None, root: Path) -> Iterator[Item]:
    """Rows of a table. An image is a path below `root`, or what Hugging Face stores: bytes, and a path."""
    columns, rows, names = _read(path)
    image, label = (_column(path, columns, what, given) for what, given in (("image", image), ("label", label)))
    for number, row in enumerate(rows):
        value = row[image]
        content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (None, value)
        if content is None:
            if not name or not (root / name).is_file():
                raise UserError(
                    f"{path}: row {number + 1}: no file {root / str(name)}; --root says where paths start from"
                )
            content = (root / name).resolve()
        yield Item(_class(row[label], names.get(label)), str(name or "image"), content)


def of_tar(path: Path, label: str | None) -> Iterator[Item]:
    """Samples of a webdataset tar: members whose names are alike up to the first dot, the class in .cls, .txt or .json."""
    sample: dict[str, bytes] = {}
    key = None
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, file = member.name.rpartition("/")
                stem, _, kind = file.partition(".")
                if (folder, stem) != key:
                    yield from _sample(path, key, sample, label)
                    key, sample = (folder, stem), {}
                sample[kind.lower()] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as a tar ({error})") from None
    yield from _sample(path, key, sample, label)


def _sample(path: Path, key: tuple[str, str] | None, sample: dict[str, bytes], label: str | None) -> Iterator[Item]:
    image = next((kind for kind in sample if f".{kind.rpartition('.')[2]}" in IMAGES), None)
    if image is None:
        return
    image_name = "/".join(filter(None, key))
    try:
        fields: dict[str, Any] = dict(json.loads(sample.get("json", b"{}")))
        fields |= {kind: sample[kind].decode().strip() for kind in ("cls", "txt") if kind in sample}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: the label of {image_name} cannot be read ({error})") from None
    wanted = (label,) if label else (*COLUMNS["label"], "txt")
    found = next((fields[name] for name in wanted if name in fields), None)
    if found is None:
        raise UserError(f"{path}: {image_name} has no {' or '.join(wanted)}; name it with --label")
    yield Item(_class(found), f"{key[1]}.{image}", sample[image])


def place(item: Item, out: Path, number: int) -> None:
    """Lay an image into the folder of its class. Raises `UserError` for a class that cannot be a folder's name."""
    if item.label.startswith(".") or "/" in item.label or not item.label.isprintable():
        raise UserError(f"the class {item.label!r} cannot be the name of a folder; rename it")
    name = PurePosixPath(item.name.replace("\\", "/"))
    suffix = name.suffix.lower() if name.suffix.lower() in IMAGES else ".png"  # readers go by the content
    target = out / item.label / f"{number:07d}-{name.stem if name.stem.isprintable() else 'image'}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(item.content, Path):
        target.symlink_to(item.content)
    else:
        target.write_bytes(item.content)


def _read(path: Path) -> tuple[list[str], Iterator[dict[str, Any]], dict[str, list[str]]]:
    """Columns, rows, and of columns with numbers for classes the classes' names. Text stays text: `nan`, `007`."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            file = parquet.ParquetFile(path)
            features = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
            named = {name: of["names"] for name, of in features.get("features", {}).items() if "names" in of}
            batches = file.iter_batches(batch_size=256)
            return file.schema_arrow.names, (row for batch in batches for row in batch.to_pylist()), named
        import pandas as pd

        if path.suffix == ".jsonl":
            table = pd.read_json(path, lines=True, dtype=False)
        else:
            separator = "\t" if path.suffix == ".tsv" else ","
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # of pandas and pyarrow too
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    return list(table), (dict(zip(table, row, strict=True)) for row in table.itertuples(index=False)), {}


def _column(path: Path, columns: list[str], what: str, given: str | None) -> str:
    found = [name for name in ([given] if given else COLUMNS[what]) if name in columns]
    if not found:
        raise UserError(f"{path}: no column of the {what}; name one of {', '.join(columns)} with --{what}")
    return found[0]


def _class(value: Any, names: list[str] | None = None) -> str:
    """A label as text; empty for one that is missing."""
    if value is None or value != value or value == -1:  # -1: Hugging Face's for none
        return ""
    return names[value] if names and isinstance(value, int) else str(value).strip()
