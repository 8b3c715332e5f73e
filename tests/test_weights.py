"""Checkpoints as training scripts leave them, and classifiers of any kind."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diversity_spectra.cli import main
from diversity_spectra.config.experiment import TrainedModel
from diversity_spectra.errors import UserError
from diversity_spectra.finetune import models
from diversity_spectra.finetune.job import WITHOUT_BLOCKS, Network, architectures
from diversity_spectra.jobs import canonical
from diversity_spectra.report.sections.run import dropped
from diversity_spectra.settings import ConfigError, validate

RESNET = Network(architecture="test_resnet", image_size=32)


def made(network: Network = RESNET, classes: int = 3, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.create(network, classes)


def wrappers(state: dict[str, torch.Tensor], old: dict[str, torch.Tensor]) -> dict[str, dict]:
    """The same weights as several training scripts leave them. old: the weights that an average stands beside."""

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {prefix + name: tensor for name, tensor in state.items()}

    return {
        "plain": state,
        "timm": {"arch": "x", "epoch": 3, "state_dict": old, "state_dict_ema": state, "args": argparse.Namespace(lr=1)},
        "torchvision": {"model": old, "optimizer": {}, "model_ema": under("module."), "epoch": 1},
        "lightning": {"state_dict": {**under("model."), "criterion.weight": torch.ones(3)}, "global_step": 5},
        "ddp": under("module."),
        "compiled": under("_orig_mod."),
        "compiled in ddp": {"model": under("module._orig_mod.")},
        "average": {"n_averaged": torch.tensor(3), **under("module.")},
        "nested": {"state_dict": under("net.backbone.")},
        "tutorial": {"epoch": 5, "model_state_dict": state, "optimizer_state_dict": {}, "loss": 0.4},
    }


@pytest.mark.parametrize("kind", list(wrappers({}, {})))
@pytest.mark.parametrize("network", [RESNET, Network(architecture="mlp_small", image_size=28)], ids=["resnet", "mlp"])
def test_a_checkpoint_is_read_whoever_wrote_it(kind: str, network: Network, tmp_path: Path) -> None:
    theirs, old = made(network), made(network, seed=1)
    torch.save(wrappers(theirs.state_dict(), old.state_dict())[kind], tmp_path / "weights.pth")
    found = models.create(network, 3, str(tmp_path / "weights.pth"))
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in found.state_dict().items())


def test_a_transformer_takes_weights_of_another_image_size(tmp_path: Path) -> None:
    small, large = (Network(architecture="test_vit", image_size=side) for side in (64, 96))
    theirs = made(small)
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    found = models.create(large, 3, str(tmp_path / "weights.safetensors"))
    assert found.pos_embed.shape != theirs.pos_embed.shape and torch.equal(found.cls_token, theirs.cls_token)
    # An embedding that is the same everywhere stays so at any size.
    with torch.no_grad():
        theirs.pos_embed.fill_(0.25)
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    found = models.create(large, 3, str(tmp_path / "weights.safetensors"))
    torch.testing.assert_close(found.pos_embed, torch.full_like(found.pos_embed, 0.25))


@pytest.mark.parametrize(
    "architecture", ["crossvit_tiny_240", "levit_128s", "repvit_m0_9", "deit_tiny_distilled_patch16_224"]
)
def test_a_classifier_of_several_modules_may_differ(architecture: str) -> None:
    with torch.device("meta"):
        own, other = (
            models.create(Network(architecture=architecture, image_size=240 if "240" in architecture else 224), classes)
            for classes in (3, 10)
        )
    assert models.misfits(own, other.state_dict()) == []
    assert models.misfits(own, other.state_dict(), strict_head=True)


def test_a_classifier_of_another_size_is_drawn_anew(tmp_path: Path) -> None:
    save_file(made(classes=10).state_dict(), tmp_path / "weights.safetensors")
    found = models.create(RESNET, 3, str(tmp_path / "weights.safetensors"))
    assert torch.equal(next(found.parameters()), next(made(classes=10).parameters())) and found.fc.out_features == 3
    with pytest.raises(UserError, match=r"does not fit test_resnet in 2 tensors, the first: fc\.weight is"):
        models.load_weights(found, str(tmp_path / "weights.safetensors"), "test_resnet", strict_head=True)


def test_prepared_weights_have_the_names_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what dW is taken from, matrix by matrix."""
    monkeypatch.chdir(tmp_path)
    theirs = made()
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}}, "mine.ckpt")
    settings = {"network": {"architecture": "test_resnet", "image_size": 32}, "weights": "mine.ckpt"}
    job = canonical({"settings": settings, "inputs": {}, "out": "out"})
    assert main(["finetune", "pretrained", "--job", job]) == 0
    found = load_file("out/model.safetensors")
    assert found.keys() == theirs.state_dict().keys() and torch.equal(found["fc.weight"], theirs.fc.weight)
    assert json.loads(Path("out/spec.json").read_text())["settings"]["weights"] == "mine.ckpt"


def theirs_of(library: str) -> torch.nn.Module:
    if library == "torchvision":
        from torchvision.models import VisionTransformer

        return VisionTransformer(32, 16, num_layers=2, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=3)
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 768}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=32, num_labels=3, layer_norm_eps=1e-6))


@pytest.mark.parametrize("library", ["torchvision", "transformers", "transformers, saved"])
def test_a_vision_transformer_of_another_library_gives_the_same_logits(library: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = theirs_of(library.split(",")[0]).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # some start at zero
            parameter.normal_(std=0.05)
    if "saved" in library:
        theirs.save_pretrained(tmp_path)
    else:
        torch.save(
            {"model": {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}}, tmp_path / "w.pth"
        )
    file = str(tmp_path / ("model.safetensors" if "saved" in library else "w.pth"))
    ours = models.create(Network(architecture="vit_tiny_patch16_224", image_size=32, options={"depth": 2}), 3)
    models.load_weights(ours, file, "vit_tiny_patch16_224", strict_head=True)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(images)
        torch.testing.assert_close(ours.eval()(images), getattr(expected, "logits", expected), rtol=1e-4, atol=1e-5)


def test_weights_of_any_repository_on_the_hub_are_those_of_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    own = models.create(Network(architecture="test_resnet", image_size=32), 7).pretrained_cfg
    stored = {}
    for number, changes in enumerate(({}, {"mean": [0.1, 0.2, 0.3]}, {"architecture": "resnet18"})):
        commit = str(number) * 40
        (folder := tmp_path / "models--me--mine.x" / "snapshots" / commit).mkdir(parents=True)
        config = {
            "architecture": "test_resnet",
            "num_classes": 7,
            "pretrained_cfg": {"mean": list(own["mean"]), **changes},
        }
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        stored[commit] = made(classes=7, seed=number).state_dict()
        save_file(stored[commit], folder / "model.safetensors")
    model = models.create(RESNET, 3, f"hf-hub:me/mine.x@{'0' * 40}")
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in stored["0" * 40].items() if "fc" not in name)
    assert model.fc.out_features == 3 and models.hub_commit(model) == "0" * 40
    for number, message in (
        ("1", r"pixels of mean \(0.1, 0.2, 0.3\), test_resnet expects"),
        ("2", "holds resnet18, not test_"),
    ):
        with pytest.raises(UserError, match=message):
            models.create(RESNET, 3, f"hf-hub:me/mine.x@{number * 40}")
    given = {"name": "x", "architecture": "test_resnet", "steps": 1, "lr": 1.0, "seeds": 1, "baseline_runs": 2}
    taken = validate(TrainedModel, {**given, "weights": f"hf-hub:me/mine.x@{'0' * 40}"}, "x")
    assert not list(taken.paths()), "no file of the user's"
    for wrong in ("hf-hub:me/mine.x", "hf-hub:me/mine.x@main", "hf-hub:mine@" + "0" * 40):
        with pytest.raises(ConfigError, match="after @ stands the commit"):
            validate(TrainedModel, {**given, "weights": wrong}, "x")


def test_names_that_nobody_knows_are_one_line(tmp_path: Path) -> None:
    save_file({"encoder.layer.0.weight": torch.ones(3, 3)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="it needs the names and shapes of timm") as error:
        models.create(RESNET, 3, str(tmp_path / "weights.safetensors"))
    assert len(str(error.value).splitlines()) == 1
    torch.save([torch.ones(3)], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds no tensors by name"):
        models.create(RESNET, 3, str(tmp_path / "list.pth"))


class Evil:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("executed"),)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": made().state_dict(), "callbacks": Evil()}, "weights.ckpt")
    with pytest.raises(UserError, match=r"without running its code .* save model\.state_dict\(\) alone"):
        models.create(RESNET, 3, "weights.ckpt")
    assert not Path("executed").exists()


# ---------------------------------------------------------------- where dropout acts


def places(architecture: str, where: str, side: int = 32, channels: int = 3) -> list[str]:
    network = Network(architecture=architecture, image_size=side, channels=channels)
    return models.dropout_places(models.create(network, 3, None, 0.5, where).train(), network)


def test_dropout_acts_where_it_is_asked_for() -> None:
    assert places("mlp_small", "blocks", 28, 1) == ["drop1", "drop2"] and places("mlp_small", "head", 28, 1) == [
        "drop2"
    ]
    assert places("tf_efficientnet_lite0", "head") == [models.BEFORE_CLASSIFIER]
    assert places("test_vit", "head", 160) == ["head_drop"]
    branches = places("test_vit", "blocks", 160)
    assert branches[-1] == "head_drop" and branches[:2] == ["blocks.0.drop_path1", "blocks.0.drop_path2"]


def test_a_module_that_no_image_passes_is_no_place() -> None:
    network = Network(architecture="mlp_small", image_size=28, channels=1)
    model = models.create(network, 3, None, 0.5, "blocks").train()
    model.unused = torch.nn.Dropout(0.5)
    assert models.dropout_places(model, network) == ["drop1", "drop2"] and model.training and model.drop1.training


def test_where_dropout_acts_is_said_in_words() -> None:
    assert dropped("drop1, drop2") == "activations of drop1, drop2"
    names = "blocks.0.drop_path1, blocks.0.drop_path2.0, head_drop"
    assert dropped(names) == "activations at the end of each of 2 residual branches and the input of the classifier"
    assert dropped("head.drop") == dropped(models.BEFORE_CLASSIFIER) == "the input of the classifier"


@pytest.mark.parametrize("module", sorted(WITHOUT_BLOCKS))
def test_a_network_without_blocks_is_refused_before_anything_runs(module: str) -> None:
    name = min((name for name, source in architectures().items() if source == module), key=len)
    model = {
        "name": "x", "architecture": name, "steps": 1, "lr": 1.0, "seeds": 1, "baseline_runs": 2,
        "conditions": {"dropout": {"rates": [0.1], "where": "blocks"}},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="has no residual blocks: set `where: head`"):
        validate(TrainedModel, model, "x")
    model["conditions"]["dropout"]["where"] = "head"
    validate(TrainedModel, model, "x")
