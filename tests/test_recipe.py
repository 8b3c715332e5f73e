"""Recipes of fine-tuning: layers that are frozen or slower, balanced classes, batches in parts."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY
from timm.optim import param_groups_layer_decay

from diversity_spectra.cli import main
from diversity_spectra.compare.features import collect
from diversity_spectra.compare.gather import _of_layer
from diversity_spectra.config import parse
from diversity_spectra.config.experiment import TrainedModel
from diversity_spectra.errors import UserError
from diversity_spectra.finetune import layerwise, models, training
from diversity_spectra.finetune.command import _recipe
from diversity_spectra.finetune.images import Images
from diversity_spectra.finetune.job import WITHOUT_LAYERS, Finetune, Network, Training, architectures
from diversity_spectra.jobs import canonical
from diversity_spectra.planning.plan import plan
from diversity_spectra.report.sections.run import _rate
from diversity_spectra.report.sections.run import recipe as recipe_in_words
from diversity_spectra.settings import ConfigError, read_yaml, validate

RESNET = Network(architecture="test_resnet", image_size=32)
VIT = Network(architecture="test_vit", image_size=64)
MLP = Network(architecture="mlp_small", image_size=28, channels=1, resize="pad")


def recipe(**settings: object) -> Training:
    return Training(**{"steps": 6, "batch_size": 8, "lr": 1e-2, "clip": None, **settings})


class NoStates:
    stopping = False

    def load(self) -> None: ...

    def due(self) -> bool:
        return False

    def watching(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()


def batches(network: Network, model: torch.nn.Module, labels: np.ndarray | None = None) -> Images:
    random = np.random.default_rng(0)
    labels = np.arange(24) % 3 if labels is None else labels
    side = network.image_size
    pixels = random.integers(0, 255, (len(labels), side, side, network.channels), dtype=np.uint8)
    return Images(pixels, labels, network, models.normalisation(model), torch.device("cpu"))


def trained(network: Network, settings: Training, seed: int = 0) -> tuple[dict, torch.nn.Module]:
    torch.manual_seed(0)
    model = models.create(network, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training.train(model, batches(network, model), settings, seed, NoStates())
    return before, model


@pytest.mark.parametrize("network", [VIT, RESNET], ids=lambda network: network.architecture)
def test_layer_wise_decay_is_that_of_timm(network: Network) -> None:
    model = models.create(network, 3)
    excepted = getattr(model, "no_weight_decay", set)()
    theirs = param_groups_layer_decay(model, 0.1, excepted, layer_decay=0.7)
    expected = {
        id(p): (round(group["lr_scale"], 9), group["weight_decay"]) for group in theirs for p in group["params"]
    }
    ours = layerwise.parameter_groups(model, recipe(layer_decay=0.7, base_weight_decay=0.1))
    found = {id(p): (round(group["lr_scale"], 9), group["weight_decay"]) for group in ours for p in group["params"]}
    assert found == expected and len({share for share, _ in found.values()}) > 3


def moved(before: dict, model: torch.nn.Module) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_a_linear_probe_moves_nothing_but_the_classifier() -> None:
    assert moved(*trained(RESNET, recipe(trained_blocks=0, base_weight_decay=0.1))) == {"fc.weight", "fc.bias"}
    assert moved(*trained(VIT, recipe(trained_blocks=0))) == {"head.weight", "head.bias"}


def test_the_last_blocks_are_trained_with_what_follows_them() -> None:
    parts = {name.split(".")[0] for name in moved(*trained(RESNET, recipe(trained_blocks=1)))}
    assert parts == {"layer4", "fc"}, "statistics of frozen BatchNorm stay too"
    names = moved(*trained(VIT, recipe(trained_blocks=2)))
    deep = len(models.create(VIT, 3).blocks)
    assert {".".join(name.split(".")[:2]) for name in names if name.startswith("blocks")} == {
        f"blocks.{deep - 2}", f"blocks.{deep - 1}",
    }  # fmt: skip
    assert {"norm.weight", "head.weight"} <= names and not {"pos_embed", "patch_embed.proj.weight"} & names
    assert {name.split(".")[0] for name in moved(*trained(MLP, recipe(trained_blocks=1)))} == {"fc2", "head"}


def test_kappa_is_that_of_every_layer() -> None:
    """Constant logits have no gradient, so only the decay acts."""
    settings = recipe(layer_decay=0.5, base_weight_decay=3.0, steps=20)
    model = models.create(MLP, 3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.forward = lambda images: sum(p.sum() for p in model.parameters()) * 0 + torch.zeros(len(images), 3)
    training.train(model, batches(MLP, model), settings, 0, NoStates())
    kappas = training.decay_factors(model, settings)
    assert set(kappas) == {"fc1", "fc2", "head"} and kappas["fc1"] > kappas["fc2"] > kappas["head"]
    assert kappas["head"] == training.decay_factor(settings) < 0.9
    for layer, kappa in kappas.items():
        torch.testing.assert_close(model.get_submodule(layer).weight.detach(), before[f"{layer}.weight"] * kappa)
    probe = training.decay_factors(models.create(VIT, 3), recipe(trained_blocks=0, base_weight_decay=3.0))
    assert probe.pop("head") < 1 and set(probe.values()) == {1.0}
    assert training.decay_factors(models.create(VIT, 3), recipe(base_weight_decay=3.0))["pos_embed"] == 1


def test_what_decay_does_is_taken_out_layer_by_layer() -> None:
    runs = pd.DataFrame([{"condition": "baseline", "seed": seed, "kappa": 0.5} for seed in (0, 1)])
    conditions = pd.DataFrame([{"condition": "baseline", "family": "baseline", "kind": "", "strength": np.nan}])
    kappas = {"a": 0.5, "b": 0.8, "c": 1.0}
    rows = [
        {"condition": "baseline", "seed": seed, "layer": layer, "depth": depth, "matrix": "W", "log_norm": 1.0, "alpha": 3.0,
         "kappa": kappas[layer]}
        for seed in (0, 1) for depth, layer in enumerate("abc")
    ]  # fmt: skip
    found = collect(pd.DataFrame(rows), runs, conditions)
    norms = found.correction[:, (found.names["measure"] == "log_norm") & (found.names["matrix"] == "W")]
    assert norms == pytest.approx(np.tile(-2 * np.log10([0.5, 0.8, 1.0]), (2, 1)))
    assert _of_layer("attn.qkv[q]", {"attn.qkv": 0.3}, 1.0) == 0.3 and _of_layer("fc", {}, 1.0) == 1.0


def test_classes_are_drawn_as_often_where_they_are_balanced() -> None:
    labels = np.repeat([0, 1, 2], [300, 30, 3])
    weights = training.class_weights(torch.from_numpy(labels))
    orders = [training.epoch_order(len(labels), epoch, 7, weights) for epoch in range(30)]
    shares = np.bincount(labels[torch.cat(orders)], minlength=3) / (30 * len(labels))
    assert shares == pytest.approx(np.full(3, 1 / 3), abs=0.02)
    assert torch.equal(orders[3], training.epoch_order(len(labels), 3, 7, weights)) and len({*orders[0].tolist()}) < 250
    plain, balanced = (trained(MLP, recipe(balanced=balanced))[1].fc1.weight for balanced in (False, True))
    assert not torch.equal(plain, balanced)


def test_a_batch_in_parts_is_the_same_step_without_batch_norm() -> None:
    whole, parts = (trained(MLP, recipe(accumulate=parts, lr=1e-3))[1].state_dict() for parts in (1, 3))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)
    whole, parts = (trained(RESNET, recipe(accumulate=parts))[1].bn1.running_mean for parts in (1, 3))
    assert not torch.allclose(whole, parts), "BatchNorm sees a part at a time"


def model(**settings: object) -> TrainedModel:
    given = {
        "name": "x",
        "architecture": "resnet18",
        "weights": "hub",
        "steps": 1,
        "lr": 1.0,
        "seeds": 1,
        "baseline_runs": 2,
    }
    return validate(TrainedModel, {**given, **settings}, "x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trained_blocks": 1, "weights": "none"}, "from scratch .* all blocks have to be trained"),
        ({"accumulate": 64}, "a batch of 32 has no 64 parts"),
        ({"layer_decay": 0.0}, "layer_decay: 0.0 is not allowed"),
        *(
            ({"architecture": min(n for n, source in architectures().items() if source == module), "layer_decay": 0.9},
             "timm does not say which layers")
            for module in sorted(WITHOUT_LAYERS)
        ),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused_before_anything_runs(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model(**settings)


def test_more_blocks_than_there_are_is_one_line() -> None:
    with pytest.raises(UserError, match="trained_blocks is 99, MultilayerPerceptron has 2 blocks"):
        layerwise.rates(models.create(MLP, 3), recipe(trained_blocks=99))


def test_pretraining_in_the_workflow_has_none_of_the_regularisers() -> None:
    config = read_yaml(ROOT / TINY)
    plain = {**config["models"][1], "weights": "pretrain", "name": "plain"}
    changed = {
        "mixup": 0.2, "cutmix": 1.0, "base_weight_decay": 0.1, "trained_blocks": 1, "layer_decay": 0.5, "balanced": True,
        "accumulate": 2, "ema": 0.9, "flip": True,
    }  # fmt: skip
    made = plan(parse({**config, "models": [plain, {**plain, "name": "other", **changed}]}))
    jobs = made.of_kind("pretrained")
    assert len({job.key for job in jobs}) == 1 and len(jobs) == 2
    trainings = {run.finetune.key for run in made.runs if run.condition.name == "baseline"}
    assert len(trainings) == 2


def test_defaults_of_settings_that_came_later_leave_keys_as_they_are() -> None:
    later = {"trained_blocks": None, "layer_decay": 1.0, "balanced": False, "accumulate": 1}
    assert not set(later) & set(recipe(**later).identity({}))
    assert set(later) <= set(recipe(trained_blocks=1, layer_decay=0.5, balanced=True, accumulate=2).identity({}))


# ---------------------------------------------------------------- the choice of a learning rate


def tuned_config(**tune: object) -> dict:
    config = read_yaml(ROOT / TINY)
    model = {**config["models"][1], "tune": {"lr": [1e-3, 1e-2], **tune}}
    return {**config, "data": {**config["data"], "validation_fraction": 0.25}, "models": [model]}


def test_a_learning_rate_is_chosen_on_images_set_aside_before_all_runs() -> None:
    made = plan(parse(tuned_config()))
    assert [trials.lr for trials in made.trials] == [1e-3, 1e-2] and all(
        len(trials.seeds) == 2 for trials in made.trials
    )
    (choice,) = made.of_kind("choose")
    for trials in made.trials:
        assert trials.evaluate.sets == {"validation": made.validation.out}, "no test set"
        plain = made.runs[0].finetune
        assert trials.finetune.train == plain.train and trials.finetune.seed != plain.seed
        assert trials.finetune.training.dropout == trials.finetune.training.weight_decay == 0
    assert all(run.finetune.tuned == choice.out for run in made.runs)
    assert made.validation.out not in {folder for run in made.runs for folder in run.evaluate.sets.values()}
    assert not any("tune" in job.name for kind in ("compare", "gather") for job in made.of_kind(kind))
    order = [job.out for job in made.jobs]
    assert order.index(made.trials[1].evaluate.out) < order.index(choice.out) < order.index(made.runs[0].finetune.out)


def test_without_images_set_aside_nothing_is_tuned() -> None:
    config = tuned_config()
    with pytest.raises(ConfigError, match=r"tuned on images set aside, but data\.validation_fraction is 0"):
        parse({**config, "data": {**config["data"], "validation_fraction": 0.0}})
    for rates, message in (([1e-3], "at least 2"), ([1e-3, 1e-3], "listed twice"), ([1e-3, 0.0], "greater than 0")):
        with pytest.raises(ConfigError, match=message):
            parse(tuned_config(lr=rates))
    plain = {**tuned_config(), "models": [{**tuned_config()["models"][0], "tune": None}]}
    assert all(run.finetune.tuned is None and "tuned" not in run.finetune.inputs for run in plan(parse(plain)).runs)


def chosen(folder: Path, scores: dict[float, list[tuple[float, float]]]) -> int:
    trials = []
    for rate, runs in scores.items():
        for seed, (accuracy, nll) in enumerate(runs):
            out = folder / f"{rate}-{seed}"
            out.mkdir(parents=True)
            row = {"set": "validation", "accuracy": accuracy, "nll": nll}
            pd.DataFrame([row]).to_parquet(out / "metrics.parquet")
            trials.append({"lr": rate, "evaluate": str(out)})
    job = {"stage": "choose", "settings": {"lr": 0.2}, "inputs": {"trials": trials}, "out": str(folder / "choice")}
    return main(["finetune", "choose", "--job", canonical(job)])


def test_the_best_mean_accuracy_wins_then_the_lower_loss(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    nan = float("nan")
    cases = (
        ({0.1: [(0.9, 0.5), (0.5, 0.5)], 0.3: [(0.8, 0.6), (0.8, 0.6)]}, 0.3),
        ({0.1: [(0.8, 0.5)], 0.3: [(0.8, 0.6)]}, 0.1),
        ({0.1: [(0.6, 0.5), (0.6, 0.5)], 0.3: [(0.9, 0.1), (nan, nan)]}, 0.1),
    )
    for number, (scores, best) in enumerate(cases):
        assert chosen(tmp_path / str(number), scores) == 0
        choice = json.loads((tmp_path / str(number) / "choice/choice.json").read_text())
        assert (
            choice["lr"] == best and choice["recipe"] == 0.2 and len(choice["trials"]) == sum(map(len, scores.values()))
        )
    assert chosen(tmp_path / "none", {0.1: [(nan, nan)], 0.3: [(nan, nan)]}) == 2
    assert "diverged with every learning rate of tune.lr" in capsys.readouterr().err


def test_the_page_says_what_a_recipe_does_beside_its_table() -> None:
    made = {"name": "x", "lr": 0.1, "tune": {"lr": [0.1, 0.3], "seeds": 2}, "trained_blocks": 1, "layer_decay": 0.75}
    plain, dropout, chosen, frozen, slowed = recipe_in_words(made, "drop1, drop2")
    assert plain == "adamw with decoupled weight decay, cosine schedule" and dropout.endswith("of drop1, drop2")
    assert recipe_in_words({"lr": 0.1, "optimizer": "sgd"}) == ["sgd with coupled weight decay, cosine schedule"]
    assert "chosen of 0.1 and 0.3 by 2 plain trainings each, on images set aside" in chosen
    assert frozen.startswith("the classifier and its last 1 block are trained") and "0.75 times the rate" in slowed
    assert "the classifier alone is trained" in recipe_in_words({"trained_blocks": 0})[0]
    assert recipe_in_words({"trained_blocks": None, "layer_decay": 1.0, "balanced": False, "tune": None}) == []
    assert _rate(made, pd.DataFrame({"lr": [0.3]})) == "0.3 (chosen)" and _rate({"lr": 0.1}, pd.DataFrame()) == "0.1"


def test_a_condition_multiplies_the_rate_that_was_chosen(tmp_path: Path) -> None:
    (tmp_path / "choice.json").write_text(json.dumps({"lr": 0.03, "recipe": 0.01, "trials": []}))
    job = Finetune(network=MLP, training=recipe(lr=0.02), train="train", tuned=str(tmp_path))
    assert _recipe(job).lr == pytest.approx(0.06) and _recipe(job.model_copy(update={"tuned": None})).lr == 0.02
