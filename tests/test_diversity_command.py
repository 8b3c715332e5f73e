"""The subcommand `diversity` from image sets on disk to its tables, and the embedding of images."""

import io
import sys
import types

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from diversity_spectra import cli, devices, imageset
from diversity_spectra.diversity import embedding, vendi
from diversity_spectra.errors import UserError
from diversity_spectra.jobs import canonical

CLASSES = ["one", "two"]


def write_set(folder, per_class=12, seed=0, classes=CLASSES, side=8, images=None):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), per_class)
    if images is None:
        images = rng.integers(0, 256, (len(labels), side, side, 1), dtype=np.uint8)
    folder.mkdir()
    imageset.save(folder, images, labels, pd.DataFrame({"source": np.arange(len(labels))}), {"classes": list(classes)})
    return folder


@pytest.fixture
def stub(monkeypatch):
    """Stands in for the loader of models; records what it was asked for and what its network was shown."""
    import torch

    seen = types.SimpleNamespace(asked=None, batches=[])

    class Network(torch.nn.Module):
        def forward(self, pixels):
            seen.batches.append(pixels)
            return torch.nn.functional.adaptive_avg_pool2d(pixels, 3).flatten(1)

    def create(network, classes, weights):
        seen.asked = (network.architecture, weights, classes, network.channels, network.image_size)
        return Network()

    module = types.ModuleType("models")
    module.create, module.normalisation = create, lambda model: ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    monkeypatch.setitem(sys.modules, "diversity_spectra.finetune.models", module)
    return seen


def run(*arguments):
    return cli.main(["diversity", *map(str, arguments)])


def test_scores_without_an_embedding(tmp_path, capsys):
    folder = write_set(tmp_path / "set")
    assert run(folder, "--embedding", "none", "--per-class", 8, "--out", tmp_path / "out.parquet") == 0
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert capsys.readouterr().err == f"wrote {len(table)} rows to {tmp_path / 'out.parquet'}\n"
    assert list(table) == ["kernel", "order", "label", "score", "low", "high", "n"]
    assert list(table["kernel"].unique()) == ["pixel", "pixel_centred"]
    assert list(table["order"].unique()) == ["1", "2", "inf"]
    assert list(table["label"].unique()) == [*CLASSES, "mean", "overall"]
    assert (table["n"] == 8).all()
    assert ((table["low"] < table["score"]) & (table["score"] < table["high"])).all()
    # Noise: raw pixels see one grey level, centred pixels as many kinds as images, less the one that centring takes.
    overall = table[(table["label"] == "overall") & (table["order"] == "1")].set_index("kernel")["score"]
    assert overall["pixel"] < 8 < overall["pixel_centred"] <= 15 + 1e-9


def test_a_class_called_mean_is_no_aggregate(tmp_path):
    for name, classes in (("plain", CLASSES), ("named", ["mean", "overall"])):
        images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)
        images[12:] //= 200  # the classes differ in diversity
        folder = write_set(tmp_path / name, classes=classes, images=images)
        assert run(folder, "--embedding", "none", "--per-class", 12, "--out", tmp_path / f"{name}.csv") == 0
    plain, named = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("plain", "named"))
    assert list(named["label"].unique()) == ["class mean", "class overall", "mean", "overall"]
    pd.testing.assert_series_equal(named["score"], plain["score"])


def test_no_interval_leaves_what_a_score_can_be(tmp_path):
    images = np.random.default_rng(0).integers(0, 2, (24, 8, 8, 1), dtype=np.uint8)
    images[::5] = 255
    folder = write_set(tmp_path / "set", images=images)
    assert run(folder, "--embedding", "none", "--per-class", 3, "--out", tmp_path / "out.parquet") == 0
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert (table["low"] >= 1).all()
    assert (table["high"] <= np.where(table["label"] == "overall", 6, 3)).all()
    assert (table["low"] == 1).any() or (table["high"] == 3).any(), "an interval met a bound"


def test_every_set_is_scored_at_what_the_training_images_can_give(tmp_path):
    plain, larger = write_set(tmp_path / "plain", per_class=5), write_set(tmp_path / "larger", per_class=12)
    measured = {"measured": {"per_class": 8, "subsamples": 2}}
    for name, folder in (("plain", plain), ("larger", larger)):
        inputs = {"images": str(folder), "plain": str(plain)}
        job = {"settings": measured, "inputs": inputs, "out": str(tmp_path / f"{name}-scores")}
        assert run("--job", canonical(job)) == 0
        assert set(pd.read_parquet(tmp_path / f"{name}-scores/scores.parquet")["n"]) == {5}


def test_equal_commands_write_equal_tables(tmp_path):
    folder = write_set(tmp_path / "set")
    for name in ("a.csv", "b.csv"):
        assert run(folder, "--embedding", "none", "--seed", 3, "--out", tmp_path / name) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_set_of_identical_copies_scores_as_the_plain_one(tmp_path):
    plain, copied = write_set(tmp_path / "plain"), tmp_path / "copied"
    copied.mkdir()
    images, labels = (np.load(plain / f"{name}.npy") for name in ("images", "labels"))
    manifest = pd.DataFrame({"origin": "real", "source": np.tile(np.arange(24), 8), "copy": np.repeat(range(8), 24)})
    imageset.save(copied, np.tile(images, (8, 1, 1, 1)), np.tile(labels, 8), manifest, {"classes": CLASSES})
    for folder in (plain, copied):
        options = ("--embedding", "none", "--reference", plain, "--out", folder / "out.csv")
        assert run(folder, *options, "--quality", folder / "quality.csv") == 0
    columns = pd.read_csv(plain / "out.csv"), pd.read_csv(copied / "out.csv")
    pd.testing.assert_frame_equal(*columns, rtol=1e-9)


def test_only_the_images_of_the_subsamples_are_embedded(tmp_path, stub):
    folder = write_set(tmp_path / "set", per_class=50)
    options = (
        "--embedding",
        "resnet18:embedded",
        "--per-class",
        4,
        "--subsamples",
        2,
        "--out",
        tmp_path / "out.parquet",
    )
    assert run(folder, *options) == 0
    assert stub.asked == ("resnet18", "embedded", 0, 3, 32)
    assert sum(map(len, stub.batches)) <= 2 * 2 * 4
    assert "embedding" in set(pd.read_parquet(tmp_path / "out.parquet")["kernel"])


def test_quality_of_a_synthetic_set(tmp_path, stub):
    real, test = write_set(tmp_path / "real"), write_set(tmp_path / "test", seed=1)
    images = np.random.default_rng(2).integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)
    images[3], images[20] = np.load(real / "images.npy")[7], np.load(test / "images.npy")[0]
    synthetic = write_set(tmp_path / "synthetic", images=images)
    logits = np.eye(2)[np.repeat([0, 1], 12)]
    logits[0] = logits[0, ::-1]
    np.save(tmp_path / "logits.npy", logits)
    paths = ("--reference", real, "--test", test, "--logits", tmp_path / "logits.npy", "--out", tmp_path / "out.csv")
    tables = ("--quality", tmp_path / "quality.csv", "--copies", tmp_path / "copies.csv")
    assert run(synthetic, *paths, *tables) == 0

    quality = pd.read_csv(tmp_path / "quality.csv")
    assert list(quality) == ["measure", "label", "value", "low", "high", "n"]
    copies_measured = {f"near_copies_{name}_{space}" for name in ("train", "test") for space in ("pixel", "embedding")}
    distances = {"frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"}
    assert set(quality["measure"]) == distances | copies_measured | {"label_agreement"}
    overall = quality[quality["label"] == "overall"].set_index("measure")
    assert overall.loc["label_agreement", "value"] == pytest.approx(23 / 24)

    copies = pd.read_csv(tmp_path / "copies.csv")
    assert len(copies) == 48
    for name, image, nearest in (("train", 3, 7), ("test", 20, 0)):
        row = copies[(copies["set"] == name) & (copies["image"] == image)].iloc[0]
        assert (row["pixel_nearest"], row["pixel_distance"], row["pixel_copy"]) == (nearest, 0, True)
        assert (row["embedding_nearest"], row["embedding_copy"]) == (nearest, True)
        flagged = copies.loc[copies["set"] == name, "pixel_copy"].mean()
        assert overall.loc[f"near_copies_{name}_pixel", "value"] == pytest.approx(flagged)


def test_test_images_that_are_training_images_saved_anew_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    images, other = (
        rng.integers(0, 256, (2, 100, 8, 8, 3), dtype=np.uint8).repeat(5, 2).repeat(5, 3) for _ in range(2)
    )
    images, other = images.reshape(200, 40, 40, 3), other.reshape(200, 40, 40, 3)
    saved = io.BytesIO()
    Image.fromarray(images[17]).resize((60, 60), Image.Resampling.BICUBIC).save(saved, "JPEG", quality=80)
    other[150] = np.asarray(Image.open(saved).resize((40, 40), Image.Resampling.BICUBIC))
    train, test = write_set(tmp_path / "train", 100, images=images), write_set(tmp_path / "test", 100, images=other)
    how = {"measured": {"embedding": "none", "per_class": 8, "orders": ["1"], "subsamples": 2}, "seed": 0}
    inputs = {"images": str(train), "test": str(test), "plain": str(train)}
    assert run("--job", canonical({"settings": how, "inputs": inputs, "out": str(tmp_path / "out")})) == 0
    found = pd.read_parquet(tmp_path / "out/quality.parquet").set_index("label")
    found = found[~found["measure"].str.startswith(("wvs", "rho"))]
    assert set(found["measure"]) == {"near_copies_train_pixel"} and found.loc["overall", "n"] == 200
    assert found.loc["two", "value"] >= 0.01 and found.loc["overall", "value"] <= 0.03


def test_the_device_is_released_before_the_work_of_the_cpu(tmp_path, monkeypatch):
    events = []
    real, synthetic = write_set(tmp_path / "real"), write_set(tmp_path / "synthetic", seed=1)

    def embed(images, indices, *_):
        events.append("embed")
        return np.random.default_rng(0).standard_normal((len(indices), 4))

    monkeypatch.setattr(devices, "choose", lambda name, *_: name)
    monkeypatch.setattr(embedding, "load", lambda *_: (None, 0, 1))
    monkeypatch.setattr(embedding, "embed", embed)
    monkeypatch.setattr(devices, "release", lambda: events.append("release"), raising=False)
    score = vendi.score_table
    monkeypatch.setattr(vendi, "score_table", lambda *given: events.append("score") or score(*given))
    options = ("--device", "cuda:0", "--reference", real, "--out", tmp_path / "o.csv", "--quality", tmp_path / "q.csv")
    assert run(synthetic, *options) == 0
    assert events == ["embed", "embed", "embed", "release", "score"]


def test_the_embedding_has_as_many_threads_as_are_asked_for(tmp_path, stub, monkeypatch):
    import torch

    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert run(write_set(tmp_path / "set"), "--threads", 3, "--device", "cpu", "--out", tmp_path / "o.csv") == 0
    assert threads == [3]


def test_parts_of_a_data_set_are_no_classes(tmp_path, capsys):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(3):
                Image.fromarray(np.full((8, 8, 3), 40 * index, np.uint8)).save(tmp_path / part / name / f"{index}.png")
    assert run(tmp_path, "--embedding", "none") == 2
    assert f"name one of them, such as {tmp_path}/train" in capsys.readouterr().err
    assert run(tmp_path / "train", "--embedding", "none") == 0


def test_quality_without_an_embedding_has_copies_in_pixels(tmp_path):
    real, synthetic = write_set(tmp_path / "real"), write_set(tmp_path / "synthetic", seed=1)
    options = ("--embedding", "none", "--reference", real, "--out", tmp_path / "o.csv", "--quality", tmp_path / "q.csv")
    assert run(synthetic, *options) == 0
    assert set(pd.read_csv(tmp_path / "q.csv")["measure"]) == {"near_copies_train_pixel"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--per-class", "13"], "class one has 12 distinct images, fewer than 13; lower --per-class"),
        (["--quality", "q.csv"], "name them with --reference"),
        (["--quality", "q.txt", "--reference", "real"], "q.txt: a table's name ends in"),
        (["--quality", "q.csv", "--reference", "other"], "classes or image shape differ"),
        (["--quality", "q.csv", "--reference", "real", "--logits", "bad.npy"], "logits must be (24, 2)"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "set"), write_set(tmp_path / "real"), write_set(tmp_path / "other", classes=["x", "y"])
    np.save("bad.npy", np.zeros((3, 2)))
    assert run("set", "--embedding", "none", "--out", "out.csv", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", [["--orders", "0"], ["--per-class", "0"], ["--subsamples", "-1"]])
def test_numbers_out_of_range_are_refused(capsys, option):
    with pytest.raises(SystemExit) as stop:
        run("set", "--out", "out.csv", *option)
    assert stop.value.code == 2
    assert "must be" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    assert "diversity-spectra diversity results/" in capsys.readouterr().out


class TestEmbedding:
    @staticmethod
    def shown(images, size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)):
        """What the network sees."""
        rows = embedding.embed(images, np.arange(len(images)), lambda x: x.flatten(1), size, list(mean), list(std))
        assert rows.dtype == np.float32
        return rows.reshape(len(images), 3, size, size)

    def test_grey_is_repeated_and_colour_kept(self):
        rng = np.random.default_rng(0)
        grey, colour = (rng.integers(0, 256, (3, 32, 32, c), dtype=np.uint8) for c in (1, 3))
        assert np.allclose(self.shown(grey, 32), np.moveaxis(np.repeat(grey, 3, axis=3), 3, 1) / 255)
        expected = (np.moveaxis(colour, 3, 1) / 255 - 0.5) / 0.25
        assert np.allclose(self.shown(colour, 32, [0.5] * 3, [0.25] * 3), expected, atol=1e-6)

    def test_small_images_are_enlarged_and_stay_in_range(self):
        flat = np.full((2, 28, 28, 1), 51, dtype=np.uint8)
        assert np.allclose(self.shown(flat, 32), 0.2)
        noise = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
        assert 0 <= self.shown(noise, 32).min() <= self.shown(noise, 32).max() <= 1
        assert embedding.default_size(flat) == 32
        assert embedding.default_size(np.zeros((1, 40, 64, 3))) == 64

    def test_a_memory_map_is_read_in_batches_in_the_order_asked_for(self, tmp_path, stub):
        images = np.lib.format.open_memmap(tmp_path / "i.npy", "w+", np.uint8, (300, 8, 8, 1))
        images[:] = np.random.default_rng(0).integers(0, 256, images.shape)
        indices = np.random.default_rng(1).permutation(300)[:200]
        model, mean, std = embedding.load("resnet18", 32)
        rows = embedding.embed(images, indices, model, 32, mean, std)
        assert [len(batch) for batch in stub.batches] == [64, 64, 64, 8]
        one = embedding.embed(images, indices[150:151], model, 32, mean, std)
        assert np.allclose(rows[150], one, atol=1e-6)

    def test_names_and_scaling(self, stub):
        assert embedding.split_name("vit_base:none") == ("vit_base", "none")
        assert embedding.split_name("vit_base") == ("vit_base", "hub")
        assert embedding.load("resnet18:embedded", 32)[1:] == ((0.5,) * 3, (0.25,) * 3)

    def test_mistakes(self, stub):
        with pytest.raises(UserError, match="1 or 3 channels"):
            self.shown(np.zeros((1, 32, 32, 4), np.uint8), 32)
        with pytest.raises(UserError, match="not one vector an image"):
            embedding.embed(np.zeros((1, 32, 32, 1), np.uint8), np.arange(1), lambda x: x, 32, [0.5] * 3, [0.5] * 3)
        import torch

        if not torch.cuda.is_available():
            with pytest.raises(UserError, match="no GPU"):
                embedding.load("resnet18", 32, "cuda")

    def test_the_default_gives_the_pooled_features_of_trained_weights(self):
        import torch

        model, mean, std = embedding.load("tf_efficientnet_lite0:embedded", 32)
        assert mean == std == (0.5, 0.5, 0.5)
        images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
        rows = embedding.embed(images, np.arange(3), model, 32, mean, std)
        assert rows.shape == (3, 1280)
        pixels = torch.from_numpy(np.repeat(np.moveaxis(images, 3, 1), 3, axis=1) / 127.5 - 1).float()
        with torch.no_grad():
            pooled = model.forward_features(pixels).mean((2, 3))
        assert np.allclose(rows, pooled, atol=1e-4)
