"""The comparison as a whole: what may change nothing, what is taken out, odd inputs, the command."""

import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import worlds
from scipy import stats
from threadpoolctl import threadpool_limits
from worlds import world

from diversity_spectra.cli import main
from diversity_spectra.compare.crossfit import Seeds
from diversity_spectra.compare.features import STANDS_FOR, collect, of_kind
from diversity_spectra.compare.job import compared_with
from diversity_spectra.compare.metric import log_vendi
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.ranks import rank_correlation
from diversity_spectra.compare.relation import relation_table
from diversity_spectra.compare.study import OUTPUTS, compare
from diversity_spectra.errors import UserError
from diversity_spectra.spectra.live import live
from diversity_spectra.spectra.table import Reference, analyse
from diversity_spectra.tables import read_table, write_table

FAST = Options(bootstrap=200, permutations=200, robustness=False)
CORE = list(Options.measures)


def rounded(text):
    """JSON with its numbers cut to eight digits: another order of rows moves the last ones."""
    return str(json.loads(text, parse_float=lambda number: f"{float(number):.7e}"))


def assert_same(before, after, names=None):
    """Every table equal, row by row, after conditions are renamed by `names` and rows brought to one order."""
    for name in OUTPUTS:
        left, right = before[name].copy(), after[name].copy()
        for column in {"condition", "target", "training_set"} & set(left.columns):
            left[column] = left[column].map(lambda value: (names or {}).get(value, value))
        if "details" in left:
            for old, new in (names or {}).items():
                left["details"] = left["details"].str.replace(f'"{old}"', f'"{new}"')
            left["details"], right["details"] = (table["details"].map(rounded) for table in (left, right))
        keys = list(left.select_dtypes(exclude="number").columns)
        pd.testing.assert_frame_equal(
            left.sort_values(keys, ignore_index=True), right.sort_values(keys, ignore_index=True), rtol=1e-9, atol=1e-12
        )


@pytest.fixture(scope="module")
def tables():
    return world("supported", seeds=3, baseline_runs=8, models=("mlp", "cnn"))


@pytest.fixture(scope="module")
def results(tables):
    return compare(tables, FAST)


def test_order_of_rows_changes_nothing(tables, results):
    shuffled = {name: table.sample(frac=1, random_state=3) for name, table in tables.items()}
    assert_same(results, compare(shuffled, FAST))


def test_tables_in_csv_give_the_same(tables, results, tmp_path):
    """An empty kind is no missing number there, and the order of a Vendi score no text."""
    for name, table in tables.items():
        write_table(tmp_path / f"{name}.csv", table)
    found = compare({name: read_table(tmp_path / f"{name}.csv") for name in tables}, FAST)
    assert_same(results, found)
    trends = [table["layer_tests"].query("statistic == 'trend'")["families"].unique() for table in (results, found)]
    assert len(trends[0]) > 0 and set(trends[0]) == set(trends[1])


def test_relabelling_seeds_changes_nothing(tables, results):
    relabelled = {
        name: table.assign(seed=997 - 7 * table["seed"]) if "seed" in table else table for name, table in tables.items()
    }
    assert_same(results, compare(relabelled, FAST))


def test_renaming_conditions_changes_nothing_but_names(tables, results):
    # Reversed alphabetical order, so that whatever followed the names would move.
    known = sorted(tables["conditions"]["condition"].unique())
    names = {name: f"{chr(ord('z') - index)}-renamed" for index, name in enumerate(known)}
    sets = {"training_set": tables["conditions"]["training_set"].map(lambda value: names.get(value, value))}
    renamed = {
        name: table.assign(condition=table["condition"].map(names)) if "condition" in table else table
        for name, table in tables.items()
    }
    renamed["conditions"] = renamed["conditions"].assign(**sets)
    renamed["diversity"] = renamed["diversity"].assign(
        training_set=renamed["diversity"]["training_set"].map(lambda value: names.get(value, value))
    )
    assert_same(results, compare(renamed, FAST), names)


def test_a_seed_copied_under_another_id_counts_once(tables, results):
    copied = {
        name: pd.concat([table, table[(table["condition"] == "dropout-0.3") & (table["seed"] == 1)].assign(seed=90)])
        if "seed" in table
        else table
        for name, table in tables.items()
    }
    after = compare(copied, FAST)
    assert "copies of other runs: dropout-0.3, seed 90" in after["alignment"]["note"].iloc[0]
    pd.testing.assert_frame_equal(after["layer_tests"], results["layer_tests"])
    assert_same(
        {**results, **{name: results[name].drop(columns="note", errors="ignore") for name in OUTPUTS}},
        {name: after[name].drop(columns="note", errors="ignore") for name in OUTPUTS},
    )


def test_a_checkpoint_shares_no_noise_with_the_trainings_of_seed_0(tables):
    own = {name: tables[name].query("model == 'mlp'") for name in ("spectra", "runs", "conditions")}
    mine = own["runs"]["condition"] == "checkpoint-mine"
    own["runs"] = own["runs"].assign(steps=own["runs"]["steps"].where(~mine, 0))
    features = collect(**own)
    place = features.conditions["condition"].to_list().index("checkpoint-mine")
    seeds = Seeds.of(features.seed, features.group)
    assert not seeds.overlap[place].any() and (seeds.overlap[0] > 0).sum() == len(features.conditions) - 2


def test_models_do_not_touch_each_other(tables, results):
    alone = compare({k: t[t["model"] == "cnn"] if "model" in t else t for k, t in tables.items()}, FAST)
    only = {name: table[table["model"] == "cnn"] for name, table in results.items()}
    assert_same(only, alone)


def test_a_repeated_call_gives_the_same_and_another_seed_almost_the_same(tables, results):
    assert_same(results, compare(tables, FAST))
    other = compare(tables, Options(bootstrap=200, permutations=200, robustness=False, seed=1))
    assert list(other["claims"]["verdict"]) == list(results["claims"]["verdict"])
    assert other["alignment"]["cosine"].equals(results["alignment"]["cosine"])
    assert np.abs(other["alignment"]["low"] - results["alignment"]["low"]).median() < 0.03


def test_decay_arithmetic_is_taken_out_and_declared(results):
    shift = results["shift"].query("condition == 'weight_decay-1.0' and matrix == 'W'").set_index("measure")
    kappa = np.exp(-0.4)
    for measure in ("log_norm", "log_spectral_norm", "xmin"):
        assert shift.loc[measure, "correction"].to_numpy() == pytest.approx(-2 * np.log10(kappa))
    assert np.abs(shift.loc["log_norm", "shift"]).max() < 0.2 < abs(2 * np.log10(kappa))
    assert (shift.loc[CORE, "correction"] == 0).all()


def test_corrected_dw_stands_for_dw(results):
    """The simulated raw dW of decayed runs is swamped by kappa; no aligned vector may contain it."""
    shift = results["shift"].query("condition == 'weight_decay-1.0' and measure == 'alpha_hill'").set_index("matrix")
    assert shift["standardised"]["dW"].median() > 10
    assert (shift.loc[["dW"], "test_family"] == "dW, decay not corrected").all()
    assert "dW_corrected" not in set(results["shift"].query("condition == 'dropout-0.3'")["matrix"])
    rows = results["alignment"].query("condition == 'weight_decay-1.0' and target == 'weight_decay'")
    assert (rows["cosine"] > 0.9).all()
    assert (results["controls"]["features"] == 4 * len(CORE)).all()


def test_false_discoveries_are_controlled_in_declared_families(results):
    shift = results["shift"]
    assert set(shift["test_family"]) == {"W", "dW", "dW, decay not corrected"}
    constant = {"D", "xmin", "num_spikes", "num_pl_spikes", "subspace_overlap_long", "subspace_overlap_short"}
    assert set(shift.loc[shift["p"].isna(), "measure"]) <= constant
    shift = shift[shift["p"].notna()]
    assert (shift["q"] >= shift["p"] - 1e-12).all()
    assert (shift["minimum_detectable"] > 2 * shift["standard_error"]).all()


@pytest.mark.parametrize(
    ("name", "seeds", "baseline_runs"),
    [("supported", 1, 1), ("supported", 1, 2), ("inconclusive", 2, 1)],
    ids=["single runs", "one seed", "one baseline run"],
)
def test_too_few_runs_end_in_no_claim_about_spectra(name, seeds, baseline_runs):
    """Of the last, the strengths of a strong control together are enough: seven runs in 630 orders."""
    found = compare(world(name, seeds=seeds, baseline_runs=baseline_runs), FAST)
    assert set(found["claims"].set_index("claim")["verdict"][["a", "b"]]) == {"inconclusive"}
    assert set(found) == {*OUTPUTS, "layer_shifts", "layer_tests"}


def test_vectors_are_of_one_kind_of_matrix(tables, results):
    weights = compare(tables, replace(FAST, matrix="W"))
    assert not weights["alignment"]["cosine"].equals(results["alignment"]["cosine"])
    without = {**tables, "spectra": tables["spectra"].query("matrix == 'W'")}
    assert_same(weights, {**compare(without, replace(FAST, matrix="W")), "shift": weights["shift"]})
    with pytest.raises(UserError, match=r"no measures of dW .* to W"):
        compare(without, FAST)


def test_a_measure_is_compared_where_it_holds_in_every_run(tables):
    spectra = tables["spectra"].copy()
    spectra.loc[
        (spectra["layer"] == "fc2") & (spectra["condition"] == "dropout-0.3") & (spectra["seed"] == 1), "mp_holds"
    ] = False
    features = collect(
        *({**tables, "spectra": spectra}[name].query("model == 'mlp'") for name in ("spectra", "runs", "conditions"))
    )
    names = features.names.query("measure == 'mp_softrank'")
    known = np.isfinite(features.vectors[:, names.index]).all(axis=0)
    assert set(names.loc[~known, "layer"]) == {"fc2"} and set(names.loc[known, "layer"]) == {"fc1", "fc3", "fc4"}
    assert np.isnan(features.vectors[:, names.index[~known]]).all()


def test_arithmetic_of_decay_moves_nothing():
    """What decay does by itself, without any training: to weights that are scaled, and to what was learnt on a start that
    shrank."""
    rng = np.random.default_rng(0)
    kappa, rows = 0.7, []
    for seed in range(4):
        start, learnt = rng.standard_normal((2, 40, 30))
        starts = Reference(live({"fc.weight": start}))
        for condition, weights, factor in (
            ("baseline", start + 0.3 * learnt, 1.0), ("scaled", kappa * (start + 0.3 * learnt), kappa),
            ("shrunk", kappa * start + 0.3 * learnt, kappa),
        ):  # fmt: skip
            found = analyse(live({"fc.weight": weights}), starts, kappa=factor).rows
            rows.append(found.assign(condition=condition, seed=seed, depth=0, kappa=factor))
    spectra = pd.concat(rows)
    runs = spectra.drop_duplicates(["condition", "seed"])
    family = {"baseline": "baseline", "scaled": "weight_decay", "shrunk": "weight_decay"}
    conditions = pd.DataFrame({"condition": list(family), "family": family.values(), "kind": "", "strength": np.nan})
    features = collect(spectra, runs, conditions)
    mean = {
        name: features.vectors[features.group == i].mean(axis=0)
        for i, name in enumerate(features.conditions["condition"])
    }
    aligned = {matrix: of_kind(features.names, Options.measures, matrix) for matrix in STANDS_FOR}
    norms = of_kind(features.names, ("log_norm", "log_spectral_norm"), "W")
    for matrix, condition in (("W", "scaled"), ("dW", "shrunk")):
        assert mean[condition][aligned[matrix]] == pytest.approx(mean["baseline"][aligned[matrix]], abs=1e-6)
    assert mean["scaled"][norms] == pytest.approx(mean["baseline"][norms], abs=1e-6)
    # In W the second one is no mere scaling: measures that do not know a scale move too.
    assert np.abs(mean["shrunk"] - mean["baseline"])[aligned["W"]].max() > 1e-3


def test_missing_measures_and_tables():
    tables = world(seeds=3, baseline_runs=8)
    spectra = tables["spectra"].copy()
    spectra.loc[spectra["condition"] == "dropout-0.5", CORE] = np.nan
    diverged = compare({**tables, "spectra": spectra}, FAST)
    assert "3 of" in diverged["controls"]["note"].iloc[0]
    assert "dropout-0.5" not in set(diverged["alignment"]["condition"])
    spectra[CORE] = np.nan
    nothing = compare({**tables, "spectra": spectra}, FAST)
    assert nothing["alignment"].empty and list(nothing["alignment"].columns) == ["model"]
    for name in ("diversity", "evaluation"):
        verdicts = compare({**tables, name: tables[name].iloc[:0]}, FAST)["claims"].set_index("claim")["verdict"]
        assert verdicts["c"] == "inconclusive" and verdicts["a"] == "supported"
    with pytest.raises(UserError, match="table runs: no column kappa"):
        compare({**tables, "runs": tables["runs"].drop(columns="kappa")}, FAST)
    with pytest.raises(UserError, match="baseline"):
        compare({**tables, "conditions": tables["conditions"].query("family != 'baseline'")}, FAST)


def test_features_left_out_are_told():
    tables = world(seeds=3, baseline_runs=8)
    spectra = tables["spectra"].copy()
    first = spectra["layer"] == "fc1"
    spectra.loc[first & (spectra["seed"] > 0), "alpha_hill"] = np.nan
    spectra.loc[first, "entropy"] = spectra["condition"].map({"dropout-0.5": 0.8}).fillna(0.9)
    note = compare({**tables, "spectra": spectra}, FAST)["controls"]["note"].iloc[0]
    assert "1 of 12 features left out: missing or constant" in note
    assert "1 features left out: equal in all runs of a condition" in note


def test_a_failed_fit_is_no_measurement():
    """The convention weightwatcher writes -1 for one."""
    tables = world(seeds=3, baseline_runs=8)
    runs, conditions = tables["runs"], tables["conditions"]
    failed = (tables["spectra"]["layer"] == "fc1") & (tables["spectra"]["seed"] == 0)
    spectra = tables["spectra"].assign(status=np.where(failed, "failed", "success"))
    spectra.loc[failed, ["alpha", "D", "xmin", "num_pl_spikes", "mp_softrank", "num_spikes"]] = -1.0
    features = collect(spectra, runs, conditions)
    lost = np.isnan(features.vectors).mean(axis=0)
    gone = features.names.loc[(lost > 0) & (lost < 1)]
    assert set(gone["layer"]) == {"fc1"}
    assert set(gone["measure"]) == {
        "alpha", "D", "xmin", "num_pl_spikes", "log_alpha_norm", "alpha_weighted", "mp_softrank", "num_spikes",
    }  # fmt: skip
    assert np.nanmin(features.vectors[:, features.names["measure"] == "alpha"]) > 2.8


def test_intervals_of_rank_correlations_cover_and_have_a_width():
    rng = np.random.default_rng(4)
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # Spearman's, of a normal pair with correlation 0.7
    covered = 0
    for _ in range(400):
        pair = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 10)
        estimate, low, high, _ = rank_correlation(pair, 0.05)
        assert estimate == pytest.approx(pd.DataFrame(pair).corr(method="spearman").iloc[0, 1])
        covered += low <= truth <= high
    assert 0.91 <= covered / 400 <= 0.98
    equal = np.arange(8.0)[:, None] + [0, 1]
    assert rank_correlation(equal, 0.05)[:3] == pytest.approx((1, 0.87, 1), abs=0.02)
    assert np.isnan(rank_correlation(equal[:4], 0.05)[1:]).all()


def test_options_are_plain_json():
    assert Options.from_json({"bootstrap": 7, "measures": ["alpha"]}) == Options(bootstrap=7, measures=("alpha",))
    with pytest.raises(UserError, match="unknown bootstrp"):
        Options.from_json({"bootstrp": 1})
    for wrong in (
        [],
        {"measures": ["alfa"]},
        {"controls": ["mixup"]},
        {"bootstrap": 0},
        {"level": 2},
        {"permutations": 0},
        {"power": "high"},
        {"matrix": "V"},
    ):
        with pytest.raises(UserError, match=r"^options: .* (allowed|not an object)"):
            Options.from_json(wrong)


def test_command_writes_every_table(tmp_path, capsys):
    for name, table in world(seeds=2, baseline_runs=4).items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    command = ["compare", "--inputs", str(tmp_path), "--out", str(tmp_path / "out"), "--options"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/spec.json").write_text('{"settings": {"compare": {"level": 0.05}}}')
    assert compared_with(tmp_path) == {} and compared_with(tmp_path / "out") == {"level": 0.05}
    options = {"bootstrap": 100, "permutations": 100, "level": 0.1}
    assert main([*command, json.dumps(options)]) == 0
    for name in OUTPUTS:
        assert len(pd.read_parquet(tmp_path / "out" / f"{name}.parquet")) > 0
    # Tables that were written by hand are no longer those of the record.
    assert compared_with(tmp_path / "out").items() >= options.items()
    assert main([*command, "{"]) == 2
    assert "error: --options" in capsys.readouterr().err


def test_default_sized_experiment_is_fast(monkeypatch):
    """About 30 conditions x 8 runs of a network of 25 matrices with W and dW, and all other choices of analysis."""
    for index in range(14):
        monkeypatch.setitem(worlds.CONDITIONS, f"augmentation-crop-{index}", ("augmentation", "crop", index + 1.0))
        monkeypatch.setitem(worlds.AMOUNT, f"augmentation-crop-{index}", 0.05 * index)
    big = world(seeds=8, baseline_runs=16, models=("cnn",), layers=25)
    with threadpool_limits(1):  # waiting threads would count as work on a busy machine
        start = time.process_time()
        compare(big, Options())
        assert time.process_time() - start < 40


def test_diversity_that_acts_through_the_loss_alone_is_told_from_one_that_does_not() -> None:
    """Twenty kinds: in one world the shift follows diversity, in the other both follow the training loss."""
    rng = np.random.default_rng(0)
    names = [f"c{index}" for index in range(20)]
    metric = pd.DataFrame({"condition": names, "training_set": names, "family": "augmentation", "kind": names})
    metric = metric.assign(length_along_dropout=np.nan, length_along_weight_decay=np.nan)
    for through_loss in (False, True):
        loss = rng.normal(size=20)
        gain = loss + 0.3 * rng.normal(size=20) if through_loss else rng.normal(size=20)
        length = loss + 0.3 * rng.normal(size=20) if through_loss else gain + 0.3 * rng.normal(size=20)
        runs = pd.DataFrame({"condition": names, "train_loss": loss})
        table = relation_table(metric.assign(diversity_gain_pixel=gain, length=length), runs, "plain", Options())
        row = table.set_index("shift").loc["length"]
        assert row["correlation"] > 0.6 and row["low"] > 0 and row["p"] < 0.01 and row["slope_low"] > 0
        assert (row["partial_low"] > 0.5) != through_loss
        assert table.set_index("shift")["p"].notna().sum() == 1
        strengths = metric.assign(
            diversity_gain_pixel=gain, length=length, kind=[f"k{index // 2}" for index in range(20)]
        )
        assert relation_table(strengths, runs, "plain", Options())["n"].max() == 10, "strengths are no units"


def test_orders_of_vendi_scores_may_be_numbers(tmp_path) -> None:
    row = {"training_set": "plain", "kernel": "pixel", "label": "mean", "score": 8.0, "low": 7.0, "high": 9.0}
    scores = pd.DataFrame([{**row, "order": order} for order in ("1", "2", "inf")])
    write_table(tmp_path / "scores.csv", scores)
    for table in (scores, read_table(tmp_path / "scores.csv")):
        assert log_vendi(table, ["plain"])["pixel"][0, 0] == pytest.approx(np.log(8))


def test_a_partial_correlation_is_that_of_the_residuals() -> None:
    rng = np.random.default_rng(1)
    pair, other = rng.normal(size=(12, 2)), rng.normal(size=12)
    ranks = stats.rankdata(np.column_stack([pair, other]), axis=0)
    left = [side - np.polyval(np.polyfit(ranks[:, 2], side, 1), ranks[:, 2]) for side in ranks[:, :2].T]
    assert rank_correlation(pair, 0.05, other)[0] == pytest.approx(np.corrcoef(left)[0, 1])
    assert np.isnan(rank_correlation(np.column_stack([pair[:, 0], other]), 0.05, other)).all()
