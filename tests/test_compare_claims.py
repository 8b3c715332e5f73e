"""Simulated worlds with a known answer: claims, controls and the metric must find it."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from worlds import DATA_FAMILIES, world

from diversity_spectra.compare.benefits import benefits, by_run
from diversity_spectra.compare.evidence import Missing
from diversity_spectra.compare.metric import _add_diversity, alpha_by_run
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.study import compare

FAST = Options(bootstrap=300, permutations=400, robustness=False)


def details(results, letter):
    """The facts behind the verdict on a claim."""
    return json.loads(results["claims"].set_index("claim")["details"][letter])


def missing(results, letter):
    """What stands in the way of a verdict, by its code."""
    return {fact.pop("code"): fact for fact in details(results, letter)["missing"]}


@pytest.mark.parametrize("name", ["supported", "contradicted", "inconclusive"])
@pytest.mark.parametrize(("seeds", "baseline_runs"), [(4, 8), (5, 12)])
def test_claims_of_three_worlds(name, seeds, baseline_runs):
    results = compare(world(name, seeds=seeds, baseline_runs=baseline_runs), FAST)
    claims = results["claims"]
    assert list(claims["claim"]) == ["a", "b", "c", "d", "e"]
    assert set(claims["verdict"]) == {name}
    assert claims["asked"].all()
    # The facts are those of the row, to the last digit, and the text is canonical.
    if name != "inconclusive":
        row = claims.iloc[0]
        assert list(row[["effect", "low", "high"]]) in details(results, "a")["overall"].values()
    for text in claims["details"]:
        assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), allow_nan=False) == text


@pytest.mark.parametrize("control", ["steps-1.5x", "lr-2x"])
def test_optimisation_under_the_name_of_an_augmentation_supports_nothing(control):
    """Dropout and decay do what longer training does, in the main: so does the training that is called an augmentation."""
    tables = world("supported", seeds=8, baseline_runs=16)
    rows = tables["conditions"]["condition"] == control
    data = tables["conditions"]["family"].isin(DATA_FAMILIES)
    conditions = tables["conditions"][~data].copy()
    copy = tables["conditions"][rows].assign(condition="augmentation-own-1", family="augmentation", kind="own")
    tables = {
        name: pd.concat(
            [
                table,
                table[table["condition"] == control].assign(
                    condition="augmentation-own-1", seed=lambda t: t["seed"] + 100
                ),
            ]
        )
        if "seed" in table
        else table
        for name, table in tables.items()
    }
    # Its own runs: half of them stay with the control.
    for name in ("runs", "evaluation", "spectra"):
        table = tables[name]
        own, theirs = table["condition"] == "augmentation-own-1", table["condition"] == control
        tables[name] = table[~(own & (table["seed"] < 104)) & ~(theirs & (table["seed"] >= 4))]
    found = compare({**tables, "conditions": pd.concat([conditions, copy])}, FAST)["claims"].set_index("claim")
    assert found["verdict"]["a"] != "supported" and found["verdict"]["e"] == "contradicted"


def test_runs_behind_a_claim_are_those_of_its_estimate():
    """Claims about spectra rest on runs whose accuracy nobody measured, too; those about accuracy on no others."""
    tables = world("supported", seeds=4, baseline_runs=8)
    families = tables["conditions"].groupby("family").size() * 4
    data = families["augmentation"] + families["synthetic"]
    path = families["optimisation"]
    spectra = {"a": 8 + data + families["dropout"] + families["weight_decay"] + path, "e": 8 + data + path}
    few = tables["evaluation"].query("seed < 3")
    for evaluation, accuracy in (
        (tables["evaluation"], {"c": data, "d": 8 + 3 * 4}),  # (d) is of the three amounts that are added
        (few, {"c": data * 3 / 4, "d": 3 + 3 * 3}),
        (few.iloc[:0], {"c": 0, "d": 0}),
    ):
        found = compare({**tables, "evaluation": evaluation}, FAST)["claims"].set_index("claim")["n"]
        assert {letter: found[letter] for letter in "acde"} == {**spectra, **accuracy}


def test_likeness_is_supported_by_its_whole_interval():
    tables = world("supported")
    cosines = details(compare(tables, FAST), "a")["cosines"]
    ends = [max(own.values(), key=lambda triple: triple[0]) for own in cosines.values()]
    threshold = min((low + effect) / 2 for effect, low, _ in ends)
    options = Options(bootstrap=300, permutations=400, robustness=False, similarity=threshold)
    assert compare(tables, options)["claims"].set_index("claim")["verdict"]["a"] == "inconclusive"


def test_no_verdict_about_spectra_without_positive_controls():
    tables = world("supported")
    for family in ("dropout", "weight_decay"):
        gone = tables["conditions"].query("family == @family")["condition"]
        part = {
            name: table[~table["condition"].isin(gone)] if "condition" in table else table
            for name, table in tables.items()
        }
        results = compare(part, FAST)
        claims = results["claims"].set_index("claim")
        assert claims["verdict"]["b"] == "inconclusive"
        assert missing(results, "b") == {Missing.NO_CONTROL: {"family": family}}
        assert list(claims["asked"]) == [True, False, True, True, True]
        assert claims["verdict"]["c"] == "supported"  # about accuracy and diversity: needs no control


def test_a_control_all_of_whose_runs_are_left_out_is_not_called_absent():
    tables = world("supported", seeds=3, baseline_runs=6)
    broken = tables["spectra"]["condition"].str.startswith("dropout-0") & ~tables["spectra"]["condition"].str.contains(
        "+", regex=False
    )
    tables["spectra"].loc[broken, list(Options.measures)] = np.nan
    results = compare(tables, FAST)
    assert missing(results, "b") == {Missing.LEFT_OUT: {"family": "dropout"}}
    assert results["claims"].set_index("claim")["asked"]["b"]


def test_a_control_whose_strengths_oppose_each_other_decides_nothing():
    tables = world("supported", seeds=8, baseline_runs=16)
    spectra, measures = tables["spectra"], list(Options.measures)
    baseline = spectra[spectra["condition"] == "baseline"].groupby(["layer", "matrix"])[measures].mean()
    turned = spectra["condition"] == "dropout-0.5"
    middle = baseline.loc[pd.MultiIndex.from_frame(spectra.loc[turned, ["layer", "matrix"]])].to_numpy()
    spectra.loc[turned, measures] = np.maximum(2 * middle - spectra.loc[turned, measures], 1e-3)
    results = compare(tables, FAST)
    assert results["metric"]["length_along_dropout"].isna().all()
    assert results["claims"].set_index("claim")["verdict"]["b"] == "inconclusive"
    found = missing(results, "b")[Missing.OPPOSED]
    assert found["family"] == "dropout" and found["strengths"][1] == 0.5
    assert found["cosine"][0] < found["cosine"][2] < 0


def test_families_and_single_strengths_are_corrected_apart():
    controls = compare(world("supported", seeds=2, baseline_runs=4), FAST)["controls"]
    for _, rows in controls.groupby(controls["condition"] == ""):
        assert rows["q"].to_numpy() == pytest.approx(stats.false_discovery_control(rows["p"]))


def test_what_could_have_been_seen():
    controls = compare(world("inconclusive", seeds=5, baseline_runs=12), FAST)["controls"]
    for _, rows in controls.groupby("family"):
        single, family = (
            rows.loc[own, "smallest_detectable"] for own in (rows["strength"] > 0, rows["condition"] == "")
        )
        # The joint test carries the noise of every strength.
        assert 1 < family.iloc[0] / single.max() < 2
    few = compare(
        world("inconclusive", seeds=2, baseline_runs=4), Options(bootstrap=300, permutations=400, level=0.002)
    )
    assert few["controls"]["smallest_detectable"].isna().all()
    found = missing(few, "a")[Missing.NOT_DETECTED]
    assert found["p_floor"] == 0.0025 and found["smallest_detectable"] is None


def test_details_say_what_is_not_known():
    tables = world("supported")
    inside = tables["evaluation"].query("shift == 'none'")
    known = details(compare({**tables, "evaluation": inside}, FAST), "d")
    assert known["condition"] == "synthetic-1.0" and known["ood_accuracy"] == [None, None, None]
    alike = compare({**tables, "evaluation": inside.assign(accuracy=0.9)}, FAST)
    assert missing(alike, "d") == {Missing.NO_NOISE: {}}
    assert missing(compare({**tables, "evaluation": inside.iloc[:0]}, FAST), "d") == {Missing.NO_ACCURACY: {}}


def test_two_seeds_say_how_little_they_prove():
    tables = compare(world("supported", seeds=2, baseline_runs=4), FAST)
    pairs = tables["alignment"].query("n == 2")
    assert pairs["p_floor"].to_numpy() == pytest.approx(1 / 15)
    assert pairs["p"].min() >= 1 / 15 - 1e-9
    more = compare(world("supported", seeds=5, baseline_runs=12), FAST)["alignment"]
    width = [(table["high"] - table["low"]).median() for table in (tables["alignment"], more)]
    assert width[0] > 1.3 * width[1]


def test_false_alarms_are_rare_where_nothing_happens():
    decided, detected = [], []
    for seed in range(12):
        tables = compare(world("inconclusive", seeds=3, baseline_runs=6, seed=seed), FAST)
        decided.append((tables["claims"]["verdict"] != "inconclusive").mean())
        detected.append(tables["controls"].query("condition == ''")["detected"].mean())
    assert np.mean(decided) <= 0.06
    assert np.mean(detected) <= 0.10


@pytest.mark.parametrize("seeds", [3, 5])
def test_planted_dropout_rate_is_recovered(seeds):
    """Rotation by 15 degrees does what dropout at 0.25 does; the swept rates are 0.1, 0.3 and 0.5."""
    found, covered = [], 0
    for seed in range(6):
        tables = compare(world("as_dropout", seeds=seeds, baseline_runs=2 * seeds, seed=seed), FAST)
        row = tables["metric"].set_index("condition").loc["augmentation-rotation-15"]
        found.append(row["dropout_equivalent"])
        covered += row["dropout_equivalent_low"] <= 0.25 <= row["dropout_equivalent_high"]
        assert row["dropout_residual"] < 0.1
        assert row["weight_decay_residual"] > 0.7
    assert covered >= 4  # of six intervals at 95 %: fewer in one of 400 draws of six
    assert np.abs(np.array(found) - 0.25).max() <= 0.05


def test_metric_finds_gains_and_efficiency():
    metric = compare(world("supported"), FAST)["metric"].set_index("condition")
    data = metric[metric["family"].isin(DATA_FAMILIES)]
    assert (data["length_along_dropout_low"] > 0).all()
    assert metric["diversity_gain_embedding"]["synthetic-1.0"] == pytest.approx(0.8)
    assert metric["diversity_gain_pixel"]["synthetic-1.0"] == pytest.approx(0.4)
    # No added diversity, no efficiency: a ratio to nothing is not a number.
    assert np.isnan(metric["efficiency_embedding"]["dropout-0.3"])
    assert data["efficiency_embedding"].notna().all()
    assert metric["ood_accuracy_gain"]["synthetic-1.0"] == pytest.approx(0.08, abs=0.01)
    assert metric["ood_accuracy_gain_low"]["synthetic-1.0"] > 0.06


def test_only_others_can_lie_beyond_the_strengths_swept():
    metric = compare(world("supported"), FAST)["metric"].set_index("condition")
    assert not metric.loc["dropout-0.5", "dropout_beyond"]
    assert metric.loc["dropout-0.5", "dropout_equivalent"] == pytest.approx(0.5)


def test_validation_ranks_predictors():
    """Out-of-distribution accuracy follows diversity in this world, and not the length along dropout."""
    table = compare(world("supported"), FAST)["validation"]
    row = table.query("scope == 'data' and benefit == 'ood_accuracy'").set_index("predictor")
    assert row["correlation"]["diversity_gain_embedding"] > 0.8
    assert row["correlation"]["diversity_gain_embedding"] > row["correlation"]["length_along_dropout"]


def test_an_unknown_error_of_the_diversity_is_not_a_vanishing_one():
    tables = world("supported")
    tables["diversity"] = tables["diversity"].assign(low=np.nan, high=np.nan)
    found = compare(tables, FAST)
    metric = found["metric"].query("training_set != 'real'")
    assert metric["diversity_gain_pixel"].notna().all()
    assert metric[["diversity_gain_pixel_low", "diversity_gain_pixel_high", "efficiency_pixel"]].isna().all(axis=None)
    assert found["claims"].set_index("claim")["verdict"]["c"] == "inconclusive"
    assert details(found, "c")["ln_vendi"]["pixel"] == [pytest.approx(0.18, abs=0.005), None, None]


def test_intervals_of_the_diversity_follow_the_level():
    table = world("supported")["diversity"]
    sets, drawn = pd.DataFrame({"training_set": ["synthetic-1.0"], "length_along_dropout": 1.0}), np.ones((100, 1))
    width = {}
    for level in (0.05, 0.5):
        metric = sets.copy()
        _add_diversity(metric, drawn, table, "real", Options(level=level))
        width[level] = float((metric["diversity_gain_pixel_high"] - metric["diversity_gain_pixel_low"]).iloc[0])
    assert width[0.5] / width[0.05] == pytest.approx(0.7407 / 2.7764, rel=1e-3)


def test_the_error_of_the_baselines_diversity_cancels_between_two_other_sets():
    tables = world("supported")
    known = details(compare(tables, FAST), "c")
    vague = tables["diversity"].copy()
    vague.loc[vague["training_set"] == "real", ["low", "high"]] = 0.0, 100.0
    assert details(compare({**tables, "diversity": vague}, FAST), "c") == known


@pytest.mark.parametrize("runs", [3, 8])
def test_one_noisy_condition_and_benefit_decide_no_more_than_the_level(runs):
    """In null worlds the test accuracy of one condition, and nothing else of it, varies three times as much."""
    rng = np.random.default_rng(runs)
    names = ["baseline", "noisy", "other"]
    frame = pd.DataFrame([(name, seed) for name in names for seed in range(runs)], columns=["condition", "seed"])
    sets = pd.concat([frame.assign(shift="none"), frame.assign(shift="natural")], ignore_index=True)
    sd = np.where((sets["condition"] == "noisy") & (sets["shift"] == "none"), 0.03, 0.01)
    decided = []
    for _ in range(1000):
        scores = sets.assign(accuracy=0.9 + sd * rng.standard_normal(len(sets)), ece=0.1)
        _, low, high = benefits(scores, names).contrast({"noisy": 1.0, "other": -1.0}, "id_accuracy", 0.05)
        decided.append(low > 0 or high < 0)
    print(f"{runs} runs: {100 * np.mean(decided):.1f} % of 1000 null worlds decided")
    assert np.mean(decided) < 0.07


def test_mean_alpha_leaves_out_the_classifier_and_small_matrices():
    rows = [("fc1", 0, 256, 2.0), ("fc2", 1, 49, 9.0), ("head", 2, 100, 9.0)]
    table = pd.DataFrame(rows, columns=["layer", "depth", "num_evals", "alpha"]).assign(matrix="W", seed=0)
    table = pd.concat([table.assign(condition="a"), table.assign(condition="b", alpha=table["alpha"] + 0.5)])
    assert alpha_by_run(table).to_dict() == {("a", 0): 2.0, ("b", 0): 2.5}
    assert alpha_by_run(table[table["layer"] != "fc1"]).empty
    more = pd.concat([table, table[table["condition"] == "a"].assign(seed=1)])  # a seed that one condition alone has
    assert alpha_by_run(more).to_dict() == {("a", 0): 2.0, ("a", 1): 2.0, ("b", 0): 2.5}


def test_out_of_distribution_kinds_weigh_the_same_and_not_sets():
    rows = [("none", 0.9), ("natural", 0.2), *(("corruption", score) for score in (0.4, 0.5, 0.6)), ("synthetic", 0.0)]
    table = pd.DataFrame(rows, columns=["shift", "accuracy"]).assign(condition="a", seed=0)
    scores = by_run(table, "accuracy").loc[("a", 0)]
    assert scores.to_dict() == pytest.approx({"none": 0.9, "natural": 0.2, "corruption": 0.5, "ood": 0.35})
    alone = by_run(table[table["shift"] != "natural"], "accuracy").loc[("a", 0)]
    assert np.isnan(alone["natural"]) and alone["ood"] == pytest.approx(0.5)
