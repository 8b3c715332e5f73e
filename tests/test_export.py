"""Images that come in another way than as class folders, made class folders."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from diversity_spectra.cli import main
from diversity_spectra.data.job import ImageFolder
from diversity_spectra.data.tree import counts


def picture(shade: int) -> bytes:
    saved = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(saved, "PNG")
    return saved.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (folder := tmp_path / "all/deep").mkdir(parents=True)
    for index in range(6):
        (folder / f"{index}.png").write_bytes(picture(index))
    return folder


LABELS = ["nan", "007", "nan", "a cat, or two", "007", ""]


def shades(out: Path) -> dict[str, list[int]]:
    """Of the images in every class folder, in order."""
    return {
        folder.name: [int(np.asarray(Image.open(file))[0, 0, 0]) for file in sorted(folder.iterdir())]
        for folder in sorted(out.iterdir())
    }


def test_a_table_of_paths_and_labels(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [{"species": label, "path": f"deep/{index}.png", "other": 1} for index, label in enumerate(LABELS)]
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "all/t.csv", index=False, encoding="utf-8-sig")
    table.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    table.to_json(tmp_path / "all/t.jsonl", lines=True, orient="records")
    table.to_parquet(tmp_path / "all/t.parquet")
    for number, name in enumerate(("all/t.csv", "t.tsv", "all/t.jsonl", "all/t.parquet")):
        out, root = tmp_path / f"out{number}", [] if name.startswith("all") else ["--root", str(tmp_path / "all")]
        assert main(["folders", str(tmp_path / name), str(out), *root]) == 0
        assert shades(out) == {"007": [1, 4], "a cat, or two": [3], "nan": [0, 2]}
        assert (
            "5 images of 3 classes, from 1 of a cat, or two to 2 of nan; 1 without a label" in capsys.readouterr().out
        )
        assert next((out / "nan").iterdir()).resolve().parent == photos, "nothing is copied"
    assert ImageFolder(kind="image_folder", path=str(out)).names() == ["007", "a cat, or two", "nan"]


def test_parquet_files_of_hugging_face_hold_images_and_names_of_classes(tmp_path: Path) -> None:
    features = {
        "info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}
    }
    for shard in range(2):
        images = [{"bytes": picture(10 * shard + index), "path": f"{index}.jpg"} for index in range(3)]
        table = pa.table({"image": images, "label": [0, 1, -1]})
        parquet.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / f"{shard}.parquet"
        )
    assert main(["folders", *(str(tmp_path / f"{shard}.parquet") for shard in range(2)), str(tmp_path / "out")]) == 0
    assert shades(tmp_path / "out") == {"cat": [0, 10], "dog": [1, 11]}


def test_a_folder_with_metadata(photos: Path, tmp_path: Path) -> None:
    rows = [{"file_name": f"{index}.png", "label": label or "ox"} for index, label in enumerate(LABELS)]
    pd.DataFrame(rows).to_csv(photos / "metadata.csv", index=False)
    assert main(["folders", str(photos), str(tmp_path / "out")]) == 0
    assert counts(tmp_path / "out") == {"007": 2, "a cat, or two": 1, "nan": 2, "ox": 1}


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_tars_of_webdataset(tmp_path: Path) -> None:
    numbered = {
        f"x/{k}.{kind}": content for k in range(3) for kind, content in (("png", picture(k)), ("cls", b"%d" % (k % 2)))
    }
    named = {
        f"../../{k}.{kind}": content
        for k in range(3)
        for kind, content in (("json", json.dumps({"species": "wren", "label": k}).encode()), ("seg.png", picture(k)))
    }
    files = [packed(tmp_path / "a.tar", numbered), packed(tmp_path / "b.tar", named)]
    assert main(["folders", str(files[0]), str(tmp_path / "one")]) == 0
    assert shades(tmp_path / "one") == {"0": [0, 2], "1": [1]}
    assert main(["folders", str(files[1]), str(tmp_path / "two/in"), "--label", "species"]) == 0
    assert shades(tmp_path / "two/in") == {"wren": [0, 1, 2]}, "and nothing outside of it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar", "one", "two"]


@pytest.mark.parametrize(
    ("label", "path", "options", "message"),
    [
        ("cat", "0.png", ("--image", "file"), "no column of the image; name one of path, label with --image"),
        ("cat", "7.png", (), "row 1: no file"),
        ("../cat", "0.png", (), "the class '../cat' cannot be the name of a folder"),
        (".cat", "0.png", (), "the class '.cat' cannot be the name of a folder"),
        ("", "0.png", (), "no image with a label"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    label: str, path: str, options: tuple, message: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pd.DataFrame([{"path": path, "label": label}]).to_csv(photos / "t.csv", index=False)
    assert main(["folders", str(photos / "t.csv"), str(tmp_path / "out"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line and not (tmp_path / "out").exists()


def test_what_is_there_is_left_alone(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "broken.tar").write_bytes(b"no tar")
    torn = packed(tmp_path / "torn.tar", {"0.png": picture(0), "0.json": b"{"})
    for source, out, message in (
        (photos, photos, "is there already; name a new folder"),
        (photos, tmp_path / "out", "a folder without metadata.csv or"),
        (tmp_path / "broken.tar", tmp_path / "out", "cannot be read as a tar"),
        (torn, tmp_path / "out", "the label of 0 cannot be read"),
        (photos / "0.png", tmp_path / "out", "none of .csv, .tsv"),
    ):
        assert main(["folders", str(source), str(out)]) == 2
        assert message in capsys.readouterr().err
    assert len(list(photos.iterdir())) == 6
