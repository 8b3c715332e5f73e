"""The study's own analysis, its nulls, and tables of WeightWatcher from elsewhere."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diversity_spectra.cli import main
from diversity_spectra.compare import layer_shifts
from diversity_spectra.compare.across import across_table, crossed, holm, standardised
from diversity_spectra.compare.job import compared_with
from diversity_spectra.compare.layer_shifts import (
    MEASURES,
    Changes,
    _null,
    anova,
    anova_p,
    changes,
    pearson,
    pearson_p,
    shared_baseline,
    statistics,
)
from diversity_spectra.compare.layer_tables import layer_tables
from diversity_spectra.compare.metric import vendi_gains
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.relabelling import dealt, divisions, orders, share_at_least
from diversity_spectra.compare.weightwatcher import Mapping, from_mapping, from_pattern
from diversity_spectra.errors import UserError

RANDOM = np.random.default_rng(0)
PUBLISHED = os.environ.get("STUDY_TABLES")  # a clone of the study's repository


def alike(k: int, m: int, layers: int = 40, runs: int = 1, base: int = 1) -> Changes:
    """k conditions of augmentation, m of dropout and a baseline: independent noise and no effect at all."""
    families = ["baseline"] + ["dropout"] * m + ["augmentation"] * k
    counts = [base] + [runs] * (m + k)
    place = np.repeat(np.arange(len(families)), counts)
    seed = np.concatenate([np.arange(count) for count in counts]) if runs > 1 else np.zeros(len(place), int)
    change = RANDOM.normal(size=(len(place), layers, len(MEASURES))) * RANDOM.lognormal(size=(1, layers, 1))
    conditions = pd.DataFrame(
        {"condition": np.arange(len(families)).astype(str), "family": families, "kind": "", "strength": 0.5}
    )
    depth = np.arange(layers)
    table = pd.DataFrame({"layer": depth.astype(str), "depth": depth, "eigenvalues": 100, "head": depth == layers - 1})
    return Changes(change, place, seed, conditions, table)


def test_one_shared_baseline_is_covered_by_its_null() -> None:
    """500 worlds without effect: the band of relabelled runs holds the plain cosine in 95 of 100, the closed form its mean."""
    inside, cosines, small = [], [], []
    for _ in range(500):
        world = alike(4, 3)
        weights, complete = world.relabelled(2000, RANDOM)
        cosine = next(statistics(np.einsum("nfr,rl->nfl", weights, world.change[..., 0])))
        null = _null(cosine, Options())
        inside.append(null["null_low"] <= cosine.number[0] <= null["null_high"])
        cosines.append(cosine.number[0])
        small.append(null["p_relabelled"] <= 0.05)
    assert complete and len(weights) == divisions([1, 4, 3]) == 280
    assert 0.9 <= np.mean(inside) <= 0.99
    assert np.mean(small) <= 0.08
    closed = 1 / np.sqrt((1 + 1 / 4) * (1 + 1 / 3))
    assert shared_baseline([world], "augmentation", "dropout") == pytest.approx(closed)
    assert np.mean(cosines) == pytest.approx(closed, abs=0.05)


def test_the_closed_form_of_averaged_networks_counts_the_runs_of_each() -> None:
    """Whatever their order: one has 8 runs of the baseline, the other one."""
    sets = [alike(1, 1, runs=2, base=8), alike(4, 3)]
    closed = (1 / 8 + 1) / np.sqrt((1 / 8 + 1 / 2 + 1 + 1 / 4) * (1 / 8 + 1 / 2 + 1 + 1 / 3))
    cosines = []
    for _ in range(300):
        drawn = [replace(each, change=RANDOM.normal(size=each.change.shape)) for each in sets]
        mean = sum(np.tensordot(each.weights(), each.change[..., 0], 1) for each in drawn)
        cosines.append(next(statistics(mean[None])).number[0])
    assert np.mean(cosines) == pytest.approx(closed, abs=0.02)
    for order in (sets, sets[::-1]):
        tests = layer_shifts.tests_table(order, "a, b", Options(permutations=20))
        assert tests.loc[tests["statistic"] == "cosine", "null_closed"].unique() == pytest.approx([closed])


def test_relabelling_keeps_seeds_and_begins_with_the_runs_as_they_are() -> None:
    world = alike(2, 1, runs=3, base=5)
    weights, complete = world.relabelled(50, RANDOM)
    assert not complete
    assert np.array_equal(weights[0], world.weights())
    for seed in range(5):
        own = world.seed == seed
        assert np.allclose(np.sort(weights[:, 0, own], axis=1), np.sort(world.weights()[0, own]))
    assert np.allclose(weights.sum(axis=2), 0)
    every, complete = orders(np.array([1, 0, 1, 1]), np.zeros(4), 9, RANDOM)
    assert complete and len(every) == 4 and np.array_equal(every[0], np.arange(4))
    assert len({tuple(np.array([1, 0, 1, 1])[np.argsort(row)]) for row in every}) == 4
    assert len(dealt((1, 2, 1))) == divisions([1, 2, 1]) == 12
    assert share_at_least(np.array([1.0, 2.0, 0.5, 1.0])) == 0.75


def test_statistics_are_those_of_scipy() -> None:
    x, y, z = RANDOM.normal(size=(3, 30))
    assert np.allclose([pearson(x, y), pearson_p(pearson(x, y), 30)], stats.pearsonr(x, y))
    f = anova(np.stack([x, y, z]))
    assert np.allclose([f, anova_p(f, 3, 30)], stats.f_oneway(x, y, z))
    t = {one.name: one for one in statistics(np.stack([x, y])[None])}["t"]
    assert np.allclose([t.number[0], t.p[0]], stats.ttest_ind(x, y))
    assert np.allclose(holm(pd.Series([0.01, 0.04, np.nan, 0.03])), [0.03, 0.06, np.nan, 0.06], equal_nan=True)


def test_products_across_networks_have_no_bias_from_the_baseline() -> None:
    """Each network's own baseline cancels out of the product, which the plain cosine's does not."""
    products = []
    for _ in range(150):
        worlds = [alike(4, 3, layers=20) for _ in range(3)]
        first, second = (np.stack([np.array([w.weights()[k] @ w.change[..., 0]]) for w in worlds]) for k in (0, 1))
        products.append(crossed(first, second)[0])
    assert abs(np.mean(products)) < 3 * np.std(products) / np.sqrt(len(products))


def test_every_kind_of_enough_strengths_has_its_trend() -> None:
    """Whatever kinds come before it: here one of a single strength, first by name."""
    world = alike(4, 1)
    conditions = world.conditions.assign(
        kind=["", "", "auto", *["noise"] * 3], strength=[np.nan, 0.5, 1, 0.1, 0.2, 0.3]
    )
    table = across_table([replace(world, conditions=conditions)], "a", Options(permutations=20))
    assert set(table["families"]) == {"augmentation noise"} and set(table["measure"]) == set(MEASURES)


def test_a_measure_that_nobody_took_is_not_told_to_have_no_common_shift() -> None:
    worlds = [alike(4, 3), alike(4, 3)]
    for each in worlds:
        each.change[..., 0] = np.nan
    table = across_table(worlds, "a, b", Options(permutations=20))
    assert set(table["measure"]) == set(MEASURES[1:]) and (table["layers"] > 0).all()


# ---------------------------------------------------------------- tables from elsewhere


def foreign(folder: Path, name: str, condition: str, seed: int, layers: int = 6) -> None:
    random = np.random.default_rng([ord(name[0]), sum(map(ord, condition)), seed])
    table = pd.DataFrame({"layer_id": range(layers), "longname": [f"net.{place}" for place in range(layers)]})
    for measure in MEASURES:
        table[measure] = 3 + random.normal(size=layers)
    table["num_evals"], table["status"] = 64, "success"
    (folder / name).mkdir(exist_ok=True)
    table.to_csv(folder / name / f"{condition}-{seed}.csv", index=False)


def test_tables_of_others_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    conditions = [
        "baseline",
        *(f"dropout-{rate}" for rate in (0.1, 0.3, 0.5)),
        "augmentation-rotation-10",
        "augmentation-mine",
    ]
    for name in ("a", "b", "c"):
        for condition in conditions:
            foreign(tmp_path, name, condition, 0)
    out = tmp_path / "tables"
    command = ["import-weightwatcher", str(tmp_path), "--pattern", "{model}/{condition}-{seed}.csv", "--out", str(out)]
    assert main(command) == 0
    assert compared_with(out)["matrix"] == "W"
    tests = pd.read_parquet(out / "layer_tests.parquet")
    assert set(tests["model"]) == {"a", "b", "c", "a, b, c"}
    pair = tests[(tests["statistic"] == "cosine") & (tests["model"] == "a")]
    assert set(pair["families"]) == {"augmentation dropout"} and pair["all_relabellings"].all()
    assert pair["null_closed"].iloc[0] == pytest.approx(1 / np.sqrt((1 + 1 / 2) * (1 + 1 / 3)))
    trend = tests[(tests["statistic"] == "trend") & (tests["model"] == "a")]
    assert set(trend["relabellings"]) == {6} and np.allclose(trend["p_floor"], 1 / 3)
    assert {"cosine_across", "trend"} <= set(tests.loc[tests["model"] == "a, b, c", "statistic"])
    read = pd.read_parquet(out / "conditions.parquet").set_index(["model", "condition"])
    assert read.loc[("a", "augmentation-rotation-10"), ["kind", "strength"]].tolist() == ["rotation", 10.0]
    # Of one run nothing is known of the noise, so nothing of the kind is written.
    assert not (pd.read_parquet(out / "claims.parquet")["verdict"] == "supported").any()

    for wrong, told in (
        (["--pattern", "{condition}/{place}.csv"], "{place} is not known"),
        (["--pattern", "x.csv"], "no {condition} in it"),
        (["--pattern", "{model}/augmentation-{condition}.csv"], "no family can be read off the name 'mine-0'"),
        (["--pattern", "{model}/none-{condition}.csv"], "no file fits"),
        (["--pattern", "x.csv", "--mapping", "y.yaml"], "one of them"),
    ):
        capsys.readouterr()
        assert main(["import-weightwatcher", str(tmp_path), "--out", str(out), *wrong]) == 2
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1


def test_what_was_measured_belongs_to_its_run_and_set(tmp_path: Path) -> None:
    for condition, seed in ((condition, seed) for condition in ("bs", "noise") for seed in (3, 5)):
        foreign(tmp_path, "a", condition, seed)
    (tmp_path / "accuracy.csv").write_text("seed,bs,noise\n3,80,90\n5,82,94\n")
    (tmp_path / "vendi.csv").write_text("bs,noise\n2,4\n")
    named = {"bs": {"condition": "baseline", "family": "baseline"}}
    named |= {"noise": {"condition": "augmentation-noise", "family": "augmentation", "kind": "noise"}}
    sets = {"name": "a", "after": "a/{file}-{seed}.csv", "accuracy": "accuracy.csv", "pixel": "vendi.csv"}
    mapping = {"sets": [sets], "conditions": [{"file": file, **one} for file, one in named.items()]}
    tables = from_mapping(tmp_path, Mapping.model_validate(mapping))
    runs, scores = (tables[name].set_index(["condition", "seed"]) for name in ("runs", "evaluation"))
    assert set(scores.index) == set(runs.index)
    assert scores["accuracy"].to_dict()["augmentation-noise", 5] == 0.94
    gain = vendi_gains(tables["diversity"], pd.Series(["noise"]), "plain")["pixel"]
    assert gain[0, 0] == pytest.approx(np.log(2)) and np.isnan(gain[0, 1])

    (tmp_path / "accuracy.csv").write_text("bs,noise\n80,90\n")
    with pytest.raises(UserError, match="no column seed"):
        from_mapping(tmp_path, Mapping.model_validate(mapping))


def test_names_of_conditions_are_read_as_everywhere(tmp_path: Path) -> None:
    named = {"synthetic-0.5": ("synthetic", "added"), "augmentation-mine": ("augmentation", "mine")}
    named |= {"dropout-0.3+rotation-15": ("combinations", ""), "checkpoint-mine": ("checkpoint", "")}
    for condition in named:
        foreign(tmp_path, "a", condition, 0)
    read = from_pattern(tmp_path, "{model}/{condition}-{seed}.csv")["conditions"].set_index("condition")
    assert {name: tuple(read.loc[name, ["family", "kind"]]) for name in named} == named
    assert read.loc["synthetic-0.5", ["strength", "synthetic"]].tolist() == [0.5, 0.5]


def test_a_layer_of_which_a_run_lacks_a_measure_is_left_out_of_it() -> None:
    rows = [
        {"condition": name, "seed": 0, "layer": str(layer), "depth": layer, "matrix": "W", "alpha": 2 + RANDOM.random(), "entropy": np.nan if (name, layer) == ("d", 1) else RANDOM.random()}
        for name in ("b", "d", "e") for layer in range(5)
    ]  # fmt: skip
    conditions = pd.DataFrame(
        {
            "condition": ["b", "d", "e"],
            "family": ["baseline", "dropout", "augmentation"],
            "kind": "",
            "strength": 1.0,
            "model": "m",
        }
    )
    found = changes(pd.DataFrame(rows), conditions)
    assert found.families == ["dropout", "augmentation"] and found.change.shape == (3, 5, len(MEASURES))
    tests = layer_tables(pd.DataFrame(rows).assign(model="m"), conditions, Options(permutations=20))["layer_tests"]
    sizes = tests[tests["statistic"] == "cosine"].set_index(["measure", "head"])["layers"]
    assert sizes["alpha"].to_dict() == {True: 5, False: 4} and sizes["entropy"].to_dict() == {True: 4, False: 3}


def test_a_diverged_run_takes_the_analysis_from_no_other() -> None:
    rows = [
        {"condition": name, "seed": seed, "layer": str(layer), "depth": layer, "matrix": "W", "alpha": np.nan if (name, seed) in (("d", 0), ("e", 0), ("e", 1)) else 2 + RANDOM.random()}
        for name in ("b", "d", "e") for seed in (0, 1) for layer in range(3)
    ]  # fmt: skip
    conditions = pd.DataFrame(
        {"condition": ["b", "d", "e"], "family": ["baseline", "dropout", "augmentation"], "kind": "", "strength": 1.0}
    )
    found = changes(pd.DataFrame(rows), conditions)
    assert found.families == ["dropout"] and found.change.shape == (3, 3, len(MEASURES))
    assert np.isfinite(found.change[..., MEASURES.index("alpha")]).all()


def test_a_head_too_small_to_be_analysed_makes_no_head_of_the_layer_before_it() -> None:
    """Of fewer than 8 classes."""
    rows = [
        {"condition": name, "seed": 0, "layer": str(layer), "depth": layer, "matrix": "W"}
        | ({} if layer == 3 else {"alpha": 2 + RANDOM.random()})
        for name in ("b", "d") for layer in range(4)
    ]  # fmt: skip
    conditions = pd.DataFrame({"condition": ["b", "d"], "family": ["baseline", "dropout"], "kind": "", "strength": 1.0})
    for heads, table in ((0, pd.DataFrame(rows)), (1, pd.DataFrame(rows).query("layer != '3'"))):
        found = layer_tables(table.assign(model="m"), conditions.assign(model="m"), Options(permutations=20))
        assert found["layer_shifts"].query("measure == 'alpha'")["head"].sum() == heads
        assert set(found["layer_tests"].query("not head")["layers"]) == {3 - heads}


@pytest.mark.skipif(not PUBLISHED, reason="STUDY_TABLES names no clone of the study's repository")
def test_the_published_numbers_are_reproduced(tmp_path: Path) -> None:
    mapping = Path(__file__).parents[1] / "docs" / "published-tables.yaml"
    assert main(["import-weightwatcher", PUBLISHED, "--mapping", str(mapping), "--out", str(tmp_path)]) == 0
    tests = pd.read_parquet(tmp_path / "layer_tests.parquet").set_index(
        ["statistic", "model", "measure", "head", "families"]
    )

    def value(*place: object) -> float:
        return tests.loc[place, "value"]

    means = {
        "vit-cifar10": (-0.1776, -0.1131, -0.3857), "vit-cifar100": (0.0490, 0.0549, -0.1784),
        "vit-cars": (-0.0579, 0.0277, 0.0186), "vit-domainnet": (-0.1333, -0.0417, -0.2548),
        "vit-cars, vit-cifar10, vit-cifar100, vit-domainnet": (-0.0800, -0.0180, -0.2001),
        "rn50-cars, rn50-cifar10, rn50-cifar100, rn50-domainnet": (0.0722, 0.0812, 0.0198),
    }  # fmt: skip
    for model, wanted in means.items():
        found = [value("mean", model, "alpha", True, family) for family in ("augmentation", "dropout", "weight_decay")]
        assert np.allclose(found, wanted, atol=5.1e-5), model
    four = "vit-cars, vit-cifar10, vit-cifar100, vit-domainnet"
    f = [
        value("anova_f", four, name, True, "dropout weight_decay augmentation")
        for name in ("alpha", "entropy", "log_norm", "log_spectral_norm")
    ]
    assert np.allclose(f, [0.84, 1.10, 55.6, 32.9], atol=0.05)
    assert tests.loc[
        ("anova_f", four, "alpha", True, "dropout weight_decay augmentation"), "p_layers"
    ] == pytest.approx(0.43, abs=0.005)
    sets = [f"{network}-{data}" for network in ("vit", "rn50") for data in ("cifar10", "cifar100", "cars", "domainnet")]
    alpha = tests.loc["cosine"].xs(("alpha", False, "augmentation dropout"), level=[1, 2, 3]).loc[sets]
    assert np.allclose(alpha["value"], [0.83, 0.86, 0.867, 0.94, 0.90, 0.85, 0.68, 0.84], atol=0.006)
    assert np.allclose(alpha["null_closed"], 0.853, atol=5e-4) and alpha["p_relabelled"].min() > 0.19
    rank = [
        value("cosine", f"rn50-{data}", "stable_rank", False, f"augmentation {control}")
        for data in ("cifar10", "cifar100")
        for control in ("dropout", "weight_decay")
    ]
    assert np.allclose(rank, [0.95, -0.84, 0.96, -0.89], atol=0.006)
    across = tests.loc["cosine_across"].xs((False, "augmentation dropout"), level=[2, 3])
    assert across.xs("alpha", level=1)["value"].isna().all() and across["p_holm"].min() > 0.05


def test_a_layer_that_moves_alike_in_all_runs_is_left_out() -> None:
    """Its standard deviation is 0 or rounding, by the order in which it is summed."""
    world = alike(4, 3)
    world.change[:, 2] = 0.1
    (values,) = standardised([world], 1)
    assert np.isfinite(values).all() and values.shape[1] == world.change.shape[1] - 2, "nor the head"
