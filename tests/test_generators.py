"""Generators that people bring: what is asked of them for each class, and pictures that are none."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_pipelines
import torch
from conftest import ROOT, TINY
from PIL import Image
from safetensors.torch import save_file

from diversity_spectra import imageset
from diversity_spectra.cli import main
from diversity_spectra.config import parse
from diversity_spectra.data.folder import fitted
from diversity_spectra.errors import UserError
from diversity_spectra.generate import sources
from diversity_spectra.generate.captions import prompts_of, read
from diversity_spectra.jobs import canonical
from diversity_spectra.settings import ConfigError, read_yaml

CLASSES = ["no", "007", "1.0"]


def written(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_text(text, encoding=encoding)
    return str(path)


def configured(**generator: object) -> dict:
    values = {"kind": "text_to_image", "model": "runwayml/x", "revision": "0" * 40, **generator}
    return {**copy.deepcopy(read_yaml(ROOT / TINY)), "generator": values}


# ---------------------------------------------------------------- what is asked for


def test_templates_are_asked_in_turn() -> None:
    assert prompts_of(["a {name}", "{name}, {style}"], None, None, ["cat"]) == [["a cat", "cat, {style}"]]


@pytest.mark.parametrize("prompts", [["a photo"], ["a photo of a {nmae}"], ["a {name}", "a photo"]])
def test_prompts_that_ask_the_same_of_every_class_are_refused(prompts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"lacks \{name\}, so it asks the same of every class"):
        parse(configured(prompts=prompts))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("c.yaml", "no: ['a {name}', a no]\n007: one {name}\n1.0: [x]\n"),
        ("c.csv", 'class,caption\nno,a {name}\nno,a no\n007,one {name}\n"1.0",x\n'),
        ("c.csv", "no,a {name}\nno,a no\n007,one {name}\n1.0,x\n"),
        ("c.tsv", "label\ttext\nno\ta {name}\nno\ta no\n007\tone {name}\n1.0\tx\n"),
        (
            "c.jsonl",
            '{"class": "no", "caption": "a {name}"}\n{"class": "no", "text": "a no"}\n'
            '{"label": "007", "caption": "one {name}"}\n{"caption": "x", "class": "1.0"}\n',
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_captions_belong_to_their_classes(file: str, text: str, encoding: str, tmp_path: Path) -> None:
    path = written(tmp_path / file, text, encoding)
    assert prompts_of([], path, None, CLASSES) == [["a no", "a no"], ["one 007"], ["x"]]


def test_lines_of_a_text_file_are_templates(tmp_path: Path) -> None:
    path = written(tmp_path / "c.txt", "a {name}\n\n the {name} \n", "utf-8-sig")
    assert prompts_of([], path, None, ["cat"]) == [["a cat", "the cat"]]


def test_words_stand_for_the_codes_of_classes(tmp_path: Path) -> None:
    path = written(tmp_path / "words.csv", "class,words\nn01440764,tench\nn01443537,goldfish\n")
    assert prompts_of(["a {name}"], None, path, ["n01443537"]) == [["a goldfish"]]
    with pytest.raises(UserError, match=r"words\.csv: nothing for class 'n9'"):
        prompts_of(["a {name}"], None, path, ["n9"])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("c.txt", "a cat\na dog\n", "'a cat' lacks {name}"),
        ("c.txt", "\n", "a list of captions is empty"),
        ("c.csv", "cat,a cat,b\n", r"\['cat', 'a cat', 'b'\]: expected a class and its caption"),
        ("c.csv", "cat,\n", "a caption is no text"),
        ("c.jsonl", "[1]\n", "expected an object with class and caption"),
        ("c.jsonl", "{\n", "Expecting property name"),
        ("c.jsonl", '{"class": "cat", "caption": 3}\n', "expected a class and its caption"),
        ("c.yaml", "- a\n", "expected a mapping of classes to captions"),
        ("c.yaml", "cat: []\n", "a list of captions is empty"),
        ("c.yaml", "cat: {a: b}\n", "a list of captions is empty"),
        ("c.yaml", "cat: [a {name}]\n", r"line 1: not valid YAML \(expected ',' or '\]', but got '\{'\)"),
        ("c.txt", None, "no such file"),
    ],
)
def test_a_caption_file_that_says_nothing_is_one_line(
    file: str, text: str | None, message: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read(str(tmp_path / file))
    assert len(str(error.value).splitlines()) == 1 and file in str(error.value)


def test_check_finds_a_class_without_captions(tmp_path: Path) -> None:
    path = written(tmp_path / "c.yaml", "\n".join(f"{digit}: [a {digit}]" for digit in range(9)))
    with pytest.raises(ConfigError, match=r"generator: .*c\.yaml: nothing for class '9'"):
        parse(configured(captions=path))


# ---------------------------------------------------------------- what a pipeline does not take


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "image_to_image", "strength": 0.03, "inference_steps": 30}, "is no step at all; raise one of them"),
        ({"image_size": 513}, "multiple of 8"),
        ({"scheduler": "UNet2DModel"}, "diffusers has no scheduler 'UNet2DModel'"),
        ({"scheduler": "DDIMSchedular"}, "similar: DDIMScheduler"),
    ],
)
def test_settings_that_no_pipeline_takes_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(configured(**changes))


def test_too_few_images_of_a_class_are_named_before_anything_runs(tmp_path: Path) -> None:
    """Of a folder as well, and for classes that differ in size; no key is named that the generator does not have."""
    for root, sizes in (("real", (20, 5)), ("given", (9, 9))):
        for name, number in zip(("cat", "dog"), sizes, strict=True):
            (folder := tmp_path / root / name).mkdir(parents=True)
            for index in range(number):
                (folder / f"{index}.png").touch()
    config = copy.deepcopy(read_yaml(ROOT / TINY))
    config |= {"data": {"kind": "image_folder", "path": str(tmp_path / "real")}, "ood": []}
    config |= {"generator": {"kind": "image_set", "path": str(tmp_path / "given")}, "diversity": {"per_class": 2}}
    parse(config)  # of 16 images to train on half as many
    config["models"][1]["conditions"]["synthetic"] = [{"ratios": [1.0]}]
    with pytest.raises(ConfigError, match=r"are 16 of class 'cat', but generator\.path holds 9"):
        parse(config)
    drawn = {**read_yaml(ROOT / TINY)["generator"], "images_per_class": 15}
    with pytest.raises(ConfigError, match=r"are 16 of class 'cat', but generator\.images_per_class is 15"):
        parse({**config, "generator": drawn})
    (tmp_path / "given/cat").rename(tmp_path / "given/cats")
    with pytest.raises(ConfigError, match=r"generator\.path: .*given: no folder for class 'cat'"):
        parse(config)


def test_more_shards_than_images_are_refused() -> None:
    few = {"images_per_class": 10, "shards": 101}
    with pytest.raises(ConfigError, match=r"generator\.shards is 101, but there are only 100 images to make"):
        parse(configured(**few))


def test_a_folder_that_holds_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model_index\.json in it"):
        parse(configured(model=str(tmp_path), revision=None))


def test_every_scheduler_is_found_in_the_sources() -> None:
    import diffusers

    from diversity_spectra.generate.diffusers_pipeline import schedulers

    assert {"DDIMScheduler", "DPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"} <= schedulers()
    assert all(hasattr(getattr(diffusers, name), "from_config") for name in schedulers() if hasattr(diffusers, name))


# ---------------------------------------------------------------- pictures that are none


def test_one_colour_is_blank_whatever_the_colour(random: np.random.Generator) -> None:
    magenta = np.zeros((8, 8, 3), np.uint8) + np.array([255, 0, 255], np.uint8)
    assert sources.is_blank(magenta) and sources.is_blank(magenta + np.array([0, 7, 0], np.uint8))
    picture = magenta.copy()
    picture[0, 0, 1] = 8
    assert not sources.is_blank(picture)


def test_a_picture_that_is_not_finite_is_blank() -> None:
    image = np.random.default_rng(0).random((8, 8, 3), np.float32)
    assert np.array_equal(sources.pixels(image), np.round(image * 255)) and not sources.is_blank(sources.pixels(image))
    image[0, 0, 0] = np.nan
    assert sources.is_blank(sources.pixels(image))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def real(tmp_path: Path, random: np.random.Generator) -> Path:
    (tmp_path / "real").mkdir()
    labels = np.arange(8) % 2
    images = random.integers(0, 255, (8, 16, 16, 3), dtype=np.uint8)
    meta = {"classes": ["cat", "dog"], "source": {"fit": "pad"}}
    imageset.save(tmp_path / "real", images, labels, pd.DataFrame({"source": labels}), meta)
    return tmp_path / "real"


def generate(step: str, settings: dict, inputs: dict, out: Path, *options: str) -> imageset.ImageSet:
    job = {"settings": settings, "inputs": inputs, "out": str(out)}
    assert main(["generate", step, *options, "--job", canonical(job)]) == 0
    return imageset.load(out)


def test_given_images_are_looked_at_and_the_left_out_counted(
    real: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "given" / name).mkdir(parents=True)
        for prompt in ("a", "b"):
            for number in range(8):
                pixels = random.integers(0, 255, (20, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "given" / name / f"{prompt}{number}.png")
    Image.new("RGB", (20, 40), (255, 0, 255)).save(tmp_path / "given/cat/a0.png")
    (tmp_path / "given/dog/b1.png").write_bytes(b"none")
    source = {"kind": "image_set", "path": str(tmp_path / "given")}
    generate("sample", {"source": source}, {"images": str(real)}, tmp_path / "part")
    images = generate("join", {}, {"shards": [str(tmp_path / "part")]}, tmp_path / "joined")
    assert images.meta["notes"] == ["2 of 32 images are left out: 1 blank, 1 unreadable"]
    assert np.all(images.images[:, :3] == 0), "padded as the real ones"
    files = imageset.read_manifest(tmp_path / "joined")
    for label in (0, 1):
        first = files.loc[files["label"] == label, "file"].iloc[:8]
        assert {Path(file).name[0] for file in first} == {"a", "b"}, "a part of a class holds every prompt"


def test_real_and_generated_pictures_are_scaled_by_one_filter(random: np.random.Generator) -> None:
    from diversity_spectra.generate.pipeline import fit

    picture = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(fit(Image.fromarray(picture), (16, 16, 3)), fitted(Image.fromarray(picture), 16))
    assert fit(Image.fromarray(picture), (16, 16, 1)).shape == (16, 16, 1)


def test_a_pipeline_that_gives_nan_is_drawn_again_and_left_out(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diversity_spectra.generate import pipeline

    model = tiny_pipelines.stable_diffusion(tmp_path)
    opened = pipeline._open

    def broken(*arguments: object):
        made = opened(*arguments)
        decode = made.vae.decode

        def decoded(latents: torch.Tensor, **options: object):
            (image,) = decode(latents, **{**options, "return_dict": False})
            image[:, 1] = torch.nan  # one channel
            return (image,)

        made.vae.decode = decoded
        return made

    monkeypatch.setattr(pipeline, "_open", broken)
    source = {
        "kind": "text_to_image", "model": str(model), "images_per_class": 1, "inference_steps": 1, "image_size": 32,
        "redraws": 1,
    }  # fmt: skip
    generate("sample", {"source": source}, {"images": str(real)}, tmp_path / "part")
    rows = imageset.read_manifest(tmp_path / "part")
    assert rows["reason"].tolist() == ["blank"] * 2 and rows["redraws"].tolist() == [1, 1]


# ---------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.stable_diffusion(tmp_path_factory.mktemp("tiny"))


def drawn(tiny: Path, real: Path, out: Path, **changes: object) -> np.ndarray:
    source = {
        "kind": "text_to_image", "model": str(tiny), "prompts": ["a {name} <x>"], "images_per_class": 1,
        "inference_steps": 2, "image_size": 32, "redraws": 0, **changes,
    }  # fmt: skip
    return generate("sample", {"source": source}, {"images": str(real)}, out).images


def test_a_textual_inversion_changes_what_its_token_draws(tiny: Path, real: Path, tmp_path: Path) -> None:
    save_file({"<x>": torch.full((8,), 5.0)}, tmp_path / "token.safetensors")
    plain = drawn(tiny, real, tmp_path / "plain")
    adapted = {"textual_inversion": str(tmp_path / "token.safetensors")}
    assert not np.array_equal(plain, drawn(tiny, real, tmp_path / "adapted", **adapted))
    other = {"prompts": ["a {name}"]}
    assert np.array_equal(
        drawn(tiny, real, tmp_path / "a", **other), drawn(tiny, real, tmp_path / "b", **other, **adapted)
    )


def test_a_lora_changes_what_is_drawn(tiny: Path, real: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    module = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_v"
    shapes = {"lora_A": (2, 16), "lora_B": (16, 2)}
    torch.manual_seed(0)
    save_file(
        {f"{module}.{name}.weight": 9 * torch.randn(shape) for name, shape in shapes.items()},
        tmp_path / "l.safetensors",
    )
    plain = drawn(tiny, real, tmp_path / "plain")
    assert not np.array_equal(plain, drawn(tiny, real, tmp_path / "adapted", lora=str(tmp_path / "l.safetensors")))


@pytest.mark.parametrize("kind", ["lora", "textual_inversion"])
def test_an_adapter_of_something_else_is_one_line(
    kind: str, tiny: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    if kind == "lora":
        pytest.importorskip("peft")
    save_file({"<x>": torch.zeros(3), "y": torch.zeros(3)}, tmp_path / "a.safetensors")
    source = {"kind": "text_to_image", "model": str(tiny), "image_size": 32, kind: str(tmp_path / "a.safetensors")}
    job = {"settings": {"source": source}, "inputs": {"images": str(real)}, "out": str(tmp_path / "out")}
    assert main(["generate", "sample", "--job", canonical(job)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and f"generator.{kind} " in lines[0] and "does not fit" in lines[0]


@pytest.mark.parametrize("kind", ["lora", "textual_inversion"])
def test_an_adapter_with_code_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"generator.{kind}"):
        parse(configured(**{kind: "adapter.pt"}))
