"""The report from simulated experiments: every figure and the page, whole and with gaps."""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from worlds import world

from diversity_spectra import provenance
from diversity_spectra.cli import main
from diversity_spectra.compare.claims import CLAIMS, Missing
from diversity_spectra.compare.features import without_failed_fits
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.study import compare
from diversity_spectra.report import load, marks, page, sections, style, words
from diversity_spectra.report.material import COMPARABLE, Material, Samples, Spectrum, in_order, summarise
from diversity_spectra.report.section import Drawn
from diversity_spectra.report.sections import (
    answer,
    comparison,
    data,
    evaluation,
    gaps,
    metric,
    run,
    spectra,
    study,
    training,
)
from diversity_spectra.tables import write_table

EVIL = "<script>alert(1)</script>"
FAST = Options(bootstrap=50, permutations=60)


KEPT = [
    "baseline", "dropout-0.1", "dropout-0.5", "weight_decay-0.1", "augmentation-rotation-15", "augmentation-rotation-30",
    "augmentation-gaussian_noise-0.1", "synthetic-0.25", "synthetic-1.0", "synthetic-replace-0.5", "checkpoint-mine",
]  # fmt: skip


def only(conditions: list[str], tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {
        name: frame[frame["condition"].isin(conditions)] if "condition" in frame else frame
        for name, frame in tables.items()
    }


def compared(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {**tables, **compare(tables, FAST)}


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    made = compared(only(KEPT, world("supported", seeds=3, baseline_runs=6)))
    row = {"measure": "precision", "label": "overall", "value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    made["quality"] = pd.DataFrame([row]).assign(training_set="synthetic")
    judged = made["evaluation"][made["evaluation"]["set"] == "test"].assign(set="synthetic", shift="synthetic")
    made["evaluation"] = pd.concat([made["evaluation"], judged], ignore_index=True)
    made["spectra"] = made["spectra"].assign(num_evals=40.0)
    made["spectra"].loc[0, "reason"] = f"no power law: {EVIL}"
    return made


@pytest.fixture(scope="module")
def material(tables: dict[str, pd.DataFrame]) -> Material:
    """With images, eigenvalues and hostile names."""
    rng = np.random.default_rng(0)
    classes = [EVIL, "$x_1$", *"cdef"]
    samples = tuple(
        Samples(name, family, rng.integers(0, 255, (6, rows, 12, 12, channels), dtype=np.uint8), classes)
        for name, family, rows, channels in (("real", "baseline", 2, 1), ("synthetic", "synthetic", 3, 3))
    )
    conditions = tables["conditions"]["condition"]
    spectra = [
        Spectrum(name, layer, np.sort(rng.pareto(2.5, 64) + 0.1), 3.5, 1.0)
        for name in ("pretrained", *conditions)
        for layer in ("fc1", "fc2")
    ]
    config = {
        "data": {"kind": "image_folder", "path": EVIL, "pool_per_class": 5},
        "generator": {
            "kind": "ddpm", "train_on": "pool", "images_per_class": 5, "train_steps": 9, "inference_steps": 2, "guidance": 1.5,
        },
        "models": [{"name": "mlp", "architecture": "mlp_small", "weights": "none", "batch_size": 5, "lr": 1e-3}],
        "compare": {"level": 0.05},
    }  # fmt: skip
    steps = [
        (name, seed, step, 2.0 / step, 1 - 0.9 / step) for name in conditions for seed in (0, 1) for step in (1, 2, 4)
    ]
    histories = {"mlp": pd.DataFrame(steps, columns=["condition", "seed", "step", "loss", "accuracy"])}
    return Material(tables, config, samples, {"mlp": spectra}, histories)


@pytest.fixture(scope="module")
def figures(material: Material) -> dict[str, Drawn]:
    return drawn(material)


def drawn(material: Material, models: list[str] | None = None) -> dict[str, Drawn]:
    """All figures, without files."""
    made = {}
    with mpl.rc_context(style.RC):
        for figure in sections.figures_of(models or material.models):
            drawing = figure.draw(material, figure.model)
            made[figure.name] = Drawn(figure, drawing.caption, "<svg/>" if drawing.figure else None)
    return made


def render(material: Material, figures: dict[str, Drawn]) -> str:
    return page.render(material, figures.values(), "title", "name", {"python": "3"})


class Visible(HTMLParser):
    """Tags and images of a page; fails on a tag that is closed but not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.images = [], [], []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_figure_draws_and_says_n(figures: dict[str, Drawn]) -> None:
    assert {figure.figure.kind for figure in figures.values()} == {figure.kind for figure in sections.FIGURES}
    for figure in figures.values():
        assert figure.svg, figure.figure.name
        assert figure.figure.kind == "sample_grids" or re.search(r"n = \d|conditions", figure.caption), (
            figure.figure.name
        )


def test_the_record_lists_the_figures_with_their_captions(
    tables: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("sample_grids", "diversity", "esd")  # one for the experiment, and two that are a sentence
    monkeypatch.setattr(sections, "FIGURES", [figure for figure in sections.FIGURES if figure.kind in kinds])
    for name, table in tables.items():
        write_table(tmp_path / "tables" / f"{name}.parquet", table)
    job = {"settings": {"experiment": "a"}, "inputs": {"tables": str(tmp_path / "tables")}, "out": str(tmp_path)}
    assert main(["report", "--job", json.dumps(job)]) == 0
    facts = json.loads((tmp_path / "spec.json").read_text())["figures"]
    expected = [(figure.name, figure.title, figure.model) for figure in sections.figures_of(["mlp"])]
    assert [(fact["name"], fact["title"], fact["model"]) for fact in facts] == expected
    text = html.unescape((tmp_path / "report.html").read_text())
    assert all(fact["caption"].endswith(".") and fact["caption"] in text for fact in facts)


def test_names_are_escaped(material: Material, figures: dict[str, Drawn]) -> None:
    text = render(material, figures)
    parser = Visible()
    parser.feed(text)
    assert "script" not in parser.tags
    assert not parser.open
    assert "&lt;script&gt;" in text


def test_page_opens_with_the_controls_and_then_the_claims(material: Material) -> None:
    text = render(material, {})
    names = ["answer", "controls", "claims", *(section.name for section in sections.SECTIONS[1:]), "provenance"]
    order = [text.index(f'id="{name}"') for name in names]
    assert order == sorted(order)
    assert all(f'<a href="#{section.name}">{section.title}</a>' in text for section in sections.SECTIONS)
    for claim in material.tables["claims"].itertuples():
        assert claim.statement in text
        assert f'class="pill {claim.verdict}"' in text
    assert "outside information" in text
    assert "trained on no synthetic image" in text
    assert ">accuracy, synthetic<" not in text


def test_controls_say_what_they_cost(tables: dict[str, pd.DataFrame]) -> None:
    """Dropout has two strengths and ruins the network here; weight decay has one strength and stands once."""
    ends = {"id_accuracy_gain": [-0.2, -0.1], "id_accuracy_gain_low": -0.3, "id_accuracy_gain_high": -0.05}
    metric = tables["metric"].copy()
    metric.loc[metric["family"] == "dropout", list(ends)] = pd.DataFrame(ends).to_numpy()
    ruined = Material({**tables, "metric": metric})
    table = answer.controls(ruined)
    cost = {row[1]: row[-2].replace(words.MINUS, "-") for row in table.rows}
    assert list(cost) == ["dropout, all strengths", "dropout 0.1", "dropout 0.5", "weight decay 0.1"]
    assert cost["dropout, all strengths"] == "-0.200 to -0.100"
    assert cost["dropout 0.1"] == "-0.200 [-0.300, -0.050]"
    assert "dropout lowers the test accuracy at every strength" in answer.lead(ruined)[0][1]
    assert "lowers" not in answer.lead(Material(tables))[0][1]
    assert [row[1] for row in answer.controls(ruined, strengths=False).rows] == ["dropout", "weight decay"]


def test_a_claim_that_is_not_asked_is_not_inconclusive(tables: dict[str, pd.DataFrame]) -> None:
    own = {name: tables[name] for name in ("runs", "conditions", "diversity", "evaluation", "spectra")}
    made = compared(only(["baseline", "dropout-0.5", "synthetic-1.0", "augmentation-rotation-15"], own))
    material = Material(made)
    judged = {claim.letter: claim.judged[0].verdict for claim in answer.claims(material)}
    assert judged["b"] == judged["d"] == answer.NOT_ASKED != judged["c"]
    cells = answer.matrix(answer.claims(material))["mlp"]
    assert [letter for letter, cell in cells.items() if cell.verdict == answer.NOT_ASKED] == ["a", "b", "d", "e"]
    assert cells["c"].effect in cells["c"].sentence and "accuracy out of distribution" in cells["c"].sentence
    page = render(material, {})
    assert set(re.findall('class="pill unasked">([^<]*)', page)) == {answer.NOT_ASKED}, "one word for it"
    unseen = Material(compared(only(KEPT, world("inconclusive", seeds=3, baseline_runs=6))))
    assert answer.NOT_ASKED not in {row.verdict for claim in answer.claims(unseen) for row in claim.judged}


def test_the_first_reason_of_a_verdict_is_told_whole() -> None:
    reason = (
        "the positive control dropout is not detected (corrected p 0.3; a shift of 1.4 could have been seen); too few."
    )
    row = answer.Judged("mlp", answer.INCONCLUSIVE, answer.NOTHING, answer.NOTHING, reason)
    cell = answer.matrix([answer.Claim("a", "It moves.", "", [row])])["mlp"]["a"]
    assert cell.sentence == "It moves: inconclusive (the positive control dropout is not detected)."


def test_choices_of_analysis_are_told_of_claims_that_are_asked(material: Material) -> None:
    """What other numbers of steps would have to answer, no choice of analysis does."""
    claims = material.tables["claims"]

    def told(*letters: str) -> tuple[str, list[str]]:
        """The reason of (a), and the titles of the figure's panels, where these claims are asked."""
        asked = Material({**material.tables, "claims": claims.assign(asked=claims["claim"].isin(letters))})
        figure = comparison.robustness(asked, "mlp").figure
        return answer.claims(asked)[0].judged[0].reason, [ax.get_title() for ax in figure.axes] if figure else []

    reason, titles = told("a", "b")
    assert "other choices of analysis" in reason and titles == ["(a) partial cosine", "(b) difference of cosines"]
    reason, titles = told("b", "c")
    assert "other choices of analysis" not in reason and titles == []  # of (b) no choice gives an effect here


def test_the_amount_of_synthetic_data_says_what_is_drawn(tables: dict[str, pd.DataFrame]) -> None:
    own = {name: tables[name] for name in ("runs", "conditions", "spectra")}
    drawing = evaluation.synthetic_amount(Material(own), "mlp")
    assert "accuracy" not in drawing.caption and "diversity" not in drawing.caption
    assert "n = 3 to 6 runs" in drawing.caption


def test_files_are_the_same_every_time(
    tables: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All kinds are drawn above; five are enough here: two sentences, two plain figures and one with a colour bar.
    kinds = ("sample_grids", "diversity", "esd", "dose_response", "layers")
    monkeypatch.setattr(sections, "FIGURES", [figure for figure in sections.FIGURES if figure.kind in kinds])
    few = only(["baseline", "dropout-0.5", "augmentation-rotation-30", "synthetic-1.0"], tables)
    few["controls"] = tables["controls"]
    for name, table in few.items():
        write_table(tmp_path / "tables" / f"{name}.csv", table)
    for out, processes in (("a", "1"), ("b", "2")):
        command = ["report", "--tables", str(tmp_path / "tables"), "--out", str(tmp_path / out), "--threads", processes]
        assert main([*command, "--title", "One & two"]) == 0
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    expected = [
        f"figures/{figure.name}{suffix}" for figure in sections.figures_of(["mlp"]) for suffix in (".png", ".svg")
    ]
    assert sorted(map(str, files)) == sorted([*expected, "report.html"])
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    text = (tmp_path / "a" / "report.html").read_text()
    assert "One &amp; two" in text
    assert f"written by diversity-spectra {provenance.version()}." in text
    assert "dropout, all strengths" in text
    assert "per class, order 1<" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text), "the page needs nothing but itself"
    parser = Visible()
    parser.feed(text)
    # No images and no eigenvalues are given: those two figures are a sentence on the page.
    assert len(parser.images) == len(sections.figures_of(["mlp"])) - 2
    for image in parser.images:
        ElementTree.fromstring(base64.b64decode(image["src"].split(",")[1]))
        assert image["alt"]


CASES = {
    "one condition": ["baseline", "dropout-0.5"],
    "baseline alone": ["baseline"],
    "no synthetic": [
        "baseline",
        "dropout-0.5",
        "weight_decay-0.1",
        "augmentation-rotation-15",
        "augmentation-rotation-30",
    ],
    "nothing measured": None,
    "nothing but runs": None,
}


@pytest.mark.parametrize("case", CASES)
def test_gaps_are_named_and_break_nothing(case: str, tables: dict[str, pd.DataFrame]) -> None:
    own = {name: tables[name] for name in ("runs", "conditions", "diversity", "evaluation", "spectra")}
    if CASES[case]:
        own = compared(only(CASES[case], own))
    elif case == "nothing measured":
        measures = own["spectra"].select_dtypes("float").columns
        own["spectra"] = own["spectra"].assign(**dict.fromkeys(measures, np.nan))
        own["evaluation"] = own["evaluation"].assign(accuracy=np.nan, ece=np.nan)
        own |= {name: pd.DataFrame() for name in ("shift", "controls", "alignment", "metric", "validation")}
    else:
        own = {"runs": own["runs"], "conditions": own["conditions"]}
    material = Material(own)
    figures = drawn(material)
    text = render(material, figures)
    absent = [figure for figure in figures.values() if figure.svg is None]
    assert all(figure.caption.endswith(".") and figure.caption in text for figure in absent)
    assert case == "nothing measured" or "synthetic_amount" in {figure.figure.kind for figure in absent}
    words = re.sub(r"<[^>]*>", " ", text.split("</style>")[1]).lower().split()
    assert "nan" not in words


def test_alignment_without_directions_is_a_sentence(tables: dict[str, pd.DataFrame]) -> None:
    unknown = tables["alignment"].assign(cosine=np.nan, low=-1.0, high=1.0)
    drawing = comparison.alignment(Material({**tables, "alignment": unknown}), "mlp")
    assert drawing.figure is None and "longer than their noise" in drawing.caption


def test_two_networks_with_different_conditions(tables: dict[str, pd.DataFrame]) -> None:
    """One has no weight decay and no synthetic data, layers of its own, and rows of dW."""
    other = world("inconclusive", seeds=2, baseline_runs=4, models=("cnn",), layers=10, seed=3)
    other = compared(only(["baseline", "dropout-0.1", "augmentation-rotation-15"], other))
    joined = {name: pd.concat([tables[name], other[name]], ignore_index=True) for name in other if name != "diversity"}
    material = Material({**joined, "diversity": tables["diversity"]})
    assert material.models == ["mlp", "cnn"]
    made = drawn(material, ["cnn"])
    assert made["layers-cnn"].svg
    assert made["synthetic_amount-cnn"].svg is None
    assert made["synthetic_amount-cnn"].caption in render(material, made)
    assert [name for name, _ in answer.lead(material)] == ["mlp", "cnn"]


def test_figures_show_the_matrix_that_the_claims_rest_on() -> None:
    own = world("supported", seeds=2, baseline_runs=4, models=("cnn",))
    own = compared(only(["baseline", "dropout-0.5", "weight_decay-1.0", "augmentation-rotation-15"], own))
    for matrix, other in (("W", "dW"), ("dW", "W")):
        material = Material(own, {"compare": {"matrix": matrix}})
        assert material.matrix("cnn") == matrix
        caption = drawn(material)["layers-cnn"].caption
        assert words.MATRICES[matrix] in caption and words.MATRICES[other] not in caption
    # The world's raw dW of decayed runs is out of place; the corrected one, which stands for it, is not.
    rows = own["spectra"].query("matrix == 'dW_corrected'").groupby(["condition", "seed"])["alpha_hill"].mean()
    measures = material.measures("cnn").set_index(["condition", "seed"])["alpha_hill"]
    assert measures["weight_decay-1.0"].to_numpy() == pytest.approx(rows["weight_decay-1.0"].to_numpy())
    assert len(measures) == len(own["runs"])


def test_weightwatchers_tables_have_no_bulk_and_mark_failed_fits(tables: dict[str, pd.DataFrame]) -> None:
    spectra = tables["spectra"].drop(columns=["mp_softrank", "num_spikes", "alpha_hill"]).assign(status="success")
    failed = (spectra["seed"] == 0) & (spectra["layer"] == "fc1")
    spectra.loc[failed, ["alpha", "status"]] = -1.0, "failed"
    material = Material({**tables, "spectra": spectra})
    measures = material.measures("mlp")
    assert measures["alpha_hill"].isna().all() and measures["stable_rank"].notna().all()
    assert without_failed_fits(spectra)["alpha"].isna().sum() == failed.sum()
    assert drawn(material, ["mlp"])["dose_response-mlp"].svg


def test_intervals_pool_the_variance_and_cover() -> None:
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(150):
        rows = pd.DataFrame({"condition": np.repeat(list("abcdef"), [8, 4, 4, 4, 4, 1]), "x": rng.standard_normal(25)})
        table = summarise(rows, "x", 0.1)
        covered.append(((table["low"] <= 0) & (table["high"] >= 0)).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.05)
    assert summarise(pd.DataFrame({"condition": ["a"], "x": [1.0]}), "x")["low"].isna().all()


def test_an_erratic_condition_has_a_wider_interval() -> None:
    rng = np.random.default_rng(6)
    rows = pd.DataFrame({"condition": np.repeat(list("abcd"), 12), "x": rng.standard_normal(48)})
    rows.loc[rows["condition"] == "d", "x"] *= 5
    table = summarise(rows, "x")
    width = table["high"] - table["low"]
    assert width["d"] > 2 * width[["a", "b", "c"]].max()


def test_kinds_of_shift_weigh_the_same(material: Material) -> None:
    table = evaluation.scores(material, "mlp")
    told = table.rows[0][table.head.index("calibration error, mean out of distribution")]
    own = material.table("evaluation").query("condition == 'baseline'").groupby("shift")["ece"].mean()
    assert told.startswith(f"{(own['natural'] + own['corruption']) / 2:.3f}")


def test_names_of_conditions_are_told() -> None:
    told = {
        "weight_decay-1e-05": "weight decay 1e-05",
        "augmentation-gaussian_noise-0.1": "gaussian noise 0.1",
        "dropout-0.3+augmentation-resized_crop-0.5": "dropout 0.3 + resized crop 0.5",
        "synthetic-replace-0.5": "synthetic replace 0.5",
        "checkpoint-my-own": "checkpoint-my-own",
    }
    assert {name: words.condition(name) for name in told} == told


def test_reasons_that_differ_in_numbers_are_one_row(tables: dict[str, pd.DataFrame]) -> None:
    spectra = tables["spectra"].assign(reason="")
    layers = spectra["layer"].map({"fc1": 32, "fc2": 480})
    spectra["reason"] = [f"depthwise: {int(n)} matrices of 1 x 9" if n > 0 else "" for n in layers.fillna(0)]
    table = gaps.skipped(Material({**tables, "spectra": spectra}))
    assert [row[1:5] for row in table.rows] == [
        ["depthwise: 32 to 480 matrices of 1 x 9", "W, dW, dW_corrected", "fc1, fc2", "2"]
    ]


def test_modules_are_listed_or_counted() -> None:
    assert run.dropped("drop1, drop2") == "activations of drop1, drop2"
    assert run.dropped("a, b, c, d, (before the classifier)") == (
        "activations of 4 modules and the input of the classifier"
    )


def test_signs_are_told() -> None:
    assert words.fixed(-0.001, 2) == words.fixed(0.001, 2, sign=True) == "0.00"
    assert words.fixed(-0.01, 2).replace(words.MINUS, "-") == "-0.01"
    assert words.fixed(0.01, 2, sign=True) == "+0.01" and words.fixed(0.01, 2) == "0.01"


def test_reasons_are_told_from_their_facts() -> None:
    def reason(letter: str, verdict: str, details: dict) -> str:
        row = {"effect": 0.012, "low": 0.0, "high": 0.02, "verdict": verdict, "details": json.dumps(details)}
        return answer.WORDS[letter].reason(row).replace(words.MINUS, "-")

    facts = {"condition": "synthetic-2.5", "than": "synthetic-2", "ood_accuracy": [None, None, None]}
    told = "test accuracy of synthetic 2.5 is higher than that of synthetic 2 (+0.0120 [0.0000, +0.0200], and than all"
    assert reason("d", "contradicted", facts) == f"{told} smaller amounts)."
    vendi = {"pixel": [-0.021, -0.08, 0.05], "pixel_centred": [0.001, None, None]}
    facts = {"ood_accuracy": "supported", "diversity": "inconclusive", "ln_vendi": vendi}
    told = "kernel: pixels -0.02 [-0.08, +0.05]; pixels, centred 0.00 [not known] (inconclusive)."
    assert reason("c", "inconclusive", facts).endswith(told)
    lacking = [{"code": "no_control", "family": "weight_decay"}]
    cosine = {"dropout": [0.5, 0.2, 0.7]}
    families = {"families": {"synthetic added": "inconclusive"}, "cosines": {"synthetic added": cosine}}
    facts = {
        **families,
        "overall": cosine,
        "plain": {"dropout": [0.9, 0.8, 1.0]},
        "similarity": 0.71,
        "missing": lacking,
    }
    assert reason("a", "inconclusive", facts) == (
        "beyond longer training and a higher rate, mean cosine by control, to be 0.71 or more: synthetic added inconclusive "
        "(dropout +0.50 [+0.20, +0.70]); not beyond them, over all data: dropout +0.90 [+0.80, +1.00]; weight decay is not "
        "part of this experiment."
    )
    lacking = [{"code": "not_separable", "family": "dropout"}]
    assert reason("a", "inconclusive", {"missing": lacking, "plain": facts["plain"]}) == (
        "dropout is not separable from longer training or a higher rate; cosines with longer training not taken out: "
        "dropout +0.90 [+0.80, +1.00]."
    )
    facts = {"families": {"augmentation": "supported"}, "differences": {"augmentation": [0.5, 0.2, 0.7]}, "missing": []}
    facts |= {"cosine_of_controls": [-0.4, -0.6, -0.1], "plain": {"difference": [0.9, 0.8, 1.0]}, "relevant": 0.1}
    assert reason("b", "supported", facts) == (
        "beyond longer training and a higher rate, difference of mean cosines +0.01 [0.00, +0.02], to be more than 0.1: "
        "augmentation supported (+0.50 [+0.20, +0.70]); the cosine of dropout with weight decay is there "
        "-0.40 [-0.60, -0.10]; not beyond them, over all data: difference +0.90 [+0.80, +1.00]."
    )
    chance = {"q": 0.3, "p_floor": 0.1, "smallest_detectable": None}
    lacking = [{"code": "not_detected", "family": "dropout", **chance}, {"code": "opposed", "family": "weight_decay",
               "strengths": [0.1, 1.0], "cosine": [-0.5, -0.9, -0.1]}]  # fmt: skip
    assert reason("b", "inconclusive", {"missing": lacking}) == (
        "the positive control dropout is not detected (corrected p 0.3, the least possible p 0.1); weight decay 0.1 and 1 "
        "move the spectra in opposite directions (cosine -0.50 [-0.90, -0.10])."
    )


def test_every_claim_and_whatever_it_may_lack_has_words() -> None:
    assert set(answer.WORDS) == {claim.letter for claim in CLAIMS}
    assert set(answer.MISSING) == set(Missing)


def test_effect_and_reason_of_a_claim_agree(material: Material) -> None:
    told = {claim.letter: claim.judged[0] for claim in answer.claims(material)}
    assert told["c"].effect in told["c"].reason


def test_what_the_metric_predicts_is_said() -> None:
    rows = [
        ("data", predictor, benefit, r, r - 0.3, r + 0.3, 9)
        for predictor, r in (("length_along_dropout", 0.2), ("mean_alpha_shift", -0.4))
        for benefit in ("ood_accuracy", "calibration")
    ]
    table = pd.DataFrame(rows, columns=["scope", "predictor", "benefit", "correlation", "low", "high", "n"])
    table["p"] = [0.5, 0.5, 0.03, 0.04]
    conditions = pd.DataFrame({"model": ["mlp"]})

    def said(table: pd.DataFrame) -> str:
        return metric.prediction(Material({"conditions": conditions, "validation": table}), "mlp")

    assert "9 kinds of data" in said(table) and "cannot be told from 0 for gain in accuracy" in said(table)
    assert "Of 4 correlations" in said(table) and "shift of mean alpha and gain in accuracy" in said(table)
    one = table.assign(correlation=0.1, low=0.01, high=0.4, p=0.2)  # its own interval excludes 0, one of many
    assert "No predictor" in said(one)
    one.loc[1, ["correlation", "low", "high", "p"]] = 0.8, 0.5, 0.9, 0.01
    assert "can be told from 0 for gain in calibration on the test set (0.80 [0.50, 0.90]) and cannot for" in said(one)
    none = table.assign(correlation=np.nan, low=np.nan, high=np.nan, p=np.nan)
    assert said(none.assign(n=2)).startswith("With 2 kinds of data")
    assert said(none.assign(n=0)) == "No benefit was measured."


def test_conditions_run_from_weak_to_strong() -> None:
    rows = [("augmentation", "resized_crop", 0.5), ("augmentation", "resized_crop", 0.9), ("dropout", "", 0.5)]
    rows += [("dropout", "", 0.1), ("baseline", "", np.nan)]
    ordered = in_order(pd.DataFrame(rows, columns=["family", "kind", "strength"]))
    assert list(ordered["strength"])[1:] == [0.1, 0.5, 0.9, 0.5]


def test_a_colour_and_a_mark_of_its_own_for_each_family() -> None:
    palette = style.Palette()
    looks = {(palette.colour(family), style.marker(family)) for family in COMPARABLE}
    assert len(looks) == len({colour for colour, _ in looks}) == len({mark for _, mark in looks}) == len(COMPARABLE)
    assert palette.shades("dropout", 3)[-1] == palette.shades("dropout", 1)[0] == palette.colour("dropout")


def test_kinds_of_a_family_are_numbered(material: Material) -> None:
    numbers = marks.numbered(material.conditions("mlp"))
    assert numbers["augmentation-rotation-15"] == numbers["augmentation-rotation-30"] == "1 rotation"
    assert numbers["augmentation-gaussian_noise-0.1"] == "2 gaussian noise"
    assert "baseline" not in numbers and "dropout-0.5" not in numbers and "checkpoint-mine" not in numbers
    with mpl.rc_context(style.RC):
        for draw in (comparison.quadrants, metric.metric):
            drawing = draw(material, "mlp")
            texts = {text.get_text() for ax in drawing.figure.axes for text in ax.texts}
            assert {label.split()[0] for label in numbers.values()} <= texts
            legend = {text.get_text() for text in drawing.figure.legends[0].get_texts()}
            assert set(numbers.values()) <= legend and marks.NUMBERS in drawing.caption


def test_missing_tables_are_the_users_to_mend(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", "--tables", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no table runs, conditions" in capsys.readouterr().err
    assert main(["report"]) == 2


def test_claims_of_an_earlier_version_are_judged_again(
    tables: dict[str, pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("runs", "conditions"):
        write_table(tmp_path / f"{name}.csv", tables[name])
    write_table(tmp_path / "claims.csv", tables["claims"].drop(columns="details").assign(reason="."))
    assert main(["report", "--tables", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "claims is of an earlier version; run stage compare again" in capsys.readouterr().err


def test_the_page_says_no_more_than_its_tables(tables: dict[str, pd.DataFrame]) -> None:
    text = render(Material(tables), {})
    assert (
        "the claims rest on it" in text
        and "that factor is taken out of every shift" in text
        and "p &lt;\N{NO-BREAK SPACE}0.05" in text
    )
    weights = tables["spectra"].query("matrix == 'W'").drop(columns="reason")
    own = {**tables, "spectra": weights, "runs": tables["runs"].assign(kappa=1.0)}
    text = render(Material(own, {"compare": {"level": 0.1}}), {})
    for told in (
        "the claims here rest on W",
        "do not say which matrices",
        "No factor by which weight decay",
        "null: median [90 %]",
    ):
        assert told in text, told
    assert "p &lt;\N{NO-BREAK SPACE}0.05" not in text


def test_a_test_that_two_layers_do_not_give_is_not_counted(tables: dict[str, pd.DataFrame]) -> None:
    assert "Pearson's test" in " ".join(study.verdict(Material(tables)))
    few = tables["layer_tests"].assign(p_layers=np.nan)
    assert "Pearson's test" not in " ".join(study.verdict(Material({**tables, "layer_tests": few})))


def test_a_page_of_tables_alone_tells_the_level_of_their_record(
    tables: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "FIGURES", [])
    for name in ("runs", "conditions", "claims"):
        write_table(tmp_path / f"{name}.parquet", tables[name])
    (tmp_path / "spec.json").write_text(json.dumps({"settings": {"compare": {"level": 0.1}}}))
    assert main(["report", "--tables", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "Intervals cover at least 90 %" in (tmp_path / "out/report.html").read_text()


def test_a_layer_that_did_not_decay_stays_among_those_that_did() -> None:
    own = world("supported", seeds=2, baseline_runs=4)
    decayed = own["spectra"]["condition"].str.contains("weight_decay") & (own["spectra"]["layer"] != "fc1")
    spectra = own["spectra"][(own["spectra"]["matrix"] != "dW_corrected") | decayed]
    rows = Material({**own, "spectra": spectra}).spectra_of("mlp")
    assert (rows.groupby(["condition", "seed"]).size() == 4).all()
    assert set(rows.query("condition == 'weight_decay-1.0' and matrix == 'dW'")["layer"]) == {"fc1"}


def test_a_copied_run_counts_once() -> None:
    own = only(["baseline", "dropout-0.1"], world("supported", seeds=2, baseline_runs=3))
    copied = {
        name: pd.concat([table, table[table["seed"] == 1].assign(seed=90)]) if "seed" in table else table
        for name, table in own.items()
    }
    material, after = Material(own), Material(copied)
    for name in ("measures", "evaluation"):
        pd.testing.assert_frame_equal(getattr(material, name)("mlp"), getattr(after, name)("mlp"))
    assert evaluation.scores(material, "mlp") == evaluation.scores(after, "mlp")
    assert len(after.table("runs")) == len(material.table("runs")) + 2


def test_test_sets_stand_in_one_order(tables: dict[str, pd.DataFrame]) -> None:
    head = [name for name in evaluation.scores(Material(tables), "mlp").head if name.startswith("accuracy")]
    assert head == [
        f"accuracy, {name}" for name in ("test", "uci_digits", "test-gaussian_noise-1", "test-gaussian_noise-3")
    ]


def test_an_empty_text_in_csv_is_no_missing_number(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    for name in ("runs", "conditions", "claims", "controls", "robustness"):
        write_table(tmp_path / f"{name}.csv", tables[name])
    read = Material(load.tables_in(tmp_path, ("runs", "conditions", "claims", "controls", "robustness"), ()))
    for name, column in load.TEXTS:
        assert list(read.table(name)[column]) == list(tables[name][column]), name
    assert [claim.judged for claim in answer.claims(read)] == [
        claim.judged for claim in answer.claims(Material(tables))
    ]


def test_samples_of_large_images_are_thinned() -> None:
    from diversity_spectra.imageset import ImageSet

    images = ImageSet(np.zeros((5, 300, 200, 3), np.uint8), np.array([0, 0, 1, 1, 1]), {"classes": ["a", "b"]})
    picked = load.pick("real", "baseline", images, 3)
    assert picked.images.shape == (2, 3, 60, 40, 3)
    assert (picked.images[0, 2] == 255).all(), "class a has two images only"


def test_figures_are_listed_once(material: Material) -> None:
    names = [figure.name for figure in sections.figures_of(["a", "b"])]
    assert len(names) == len(set(names)) == sum(1 + figure.per_model for figure in sections.FIGURES)
    assert material.models == ["mlp"]


def test_a_network_that_has_not_learnt_is_said_first(tables: dict[str, pd.DataFrame]) -> None:
    assert not training.warnings(Material(tables))
    classes = Material(tables).classes
    chance = tables["evaluation"].assign(accuracy=1 / classes + 0.01)
    material = Material({**tables, "evaluation": chance})
    (warning,) = training.warnings(material)
    assert "mlp has learnt next to nothing" in warning and warning in html.unescape(render(material, {}))
    early = tables["runs"].assign(train_accuracy=0.4)
    assert "far from converged: 0.400" in training.warnings(Material({**tables, "runs": early}))[0]
    one = tables["evaluation"].copy()
    one.loc[one["condition"] == "dropout-0.5", "accuracy"] = 1 / classes
    assert "under dropout 0.5:" in training.warnings(Material({**tables, "evaluation": one}))[0]


def test_a_cosine_that_may_be_anything_is_not_a_number() -> None:
    assert answer._by_name({"dropout": [1.0, -1.0, 1.0], "weight_decay": [0.5, 0.4, 0.6]}) == (
        "dropout not determined, weight decay +0.50 [+0.40, +0.60]"
    )


def test_words_can_be_read_in_every_colour() -> None:
    for palette in ("colorblind", "deep", "muted", "dark"):
        assert all(style.contrast(style.Palette(palette).ink(family)) >= 4.5 for family in COMPARABLE)
    assert style.contrast("#ffffff") == 1 and style.contrast("#000000") == pytest.approx(21)


def test_a_large_page_takes_pixels_where_they_are_smaller(figures: dict[str, Drawn]) -> None:
    one = next(iter(figures.values()))
    heavy, light = (
        Drawn(one.figure, "", "<svg>" + "x" * 100, pixels=b"png"),
        Drawn(one.figure, "", "<svg/>", pixels=b"p" * 99),
    )
    assert page._data_uri(heavy, page.LARGEST).startswith("data:image/svg")
    assert page._data_uri(heavy, page.LARGEST + 1).startswith("data:image/png")
    assert page._data_uri(light, page.LARGEST + 1).startswith("data:image/svg")


def test_training_sets_that_may_be_no_more_diverse_are_named(tables: dict[str, pd.DataFrame]) -> None:
    gains = tables["metric"].assign(diversity_gain_pixel=0.5, diversity_gain_pixel_low=0.4)
    gains.loc[gains["condition"] == "augmentation-rotation-15", "diversity_gain_pixel_low"] = -0.1
    said = metric.not_diverse(Material({**tables, "metric": gains}), "mlp")
    assert said.startswith("Training sets that cannot be told to be more diverse than the plain one: ")
    assert "pixels: 1 of 6 (rotation 15)" in said


# ---------------------------------------------------------------- what is seen


def test_networks_with_scores_of_their_own_have_panels_of_their_own(tables: dict[str, pd.DataFrame]) -> None:
    """As tables of other trainings bring them: one number for each set, of all images together."""
    own = {name: tables[name] for name in ("runs", "conditions")}
    other = {name: table.assign(model="other") for name, table in own.items()}
    sets = tables["conditions"]["training_set"].unique()
    known = {"mlp": 10.0 + np.arange(len(sets)), "other": 90.0 + np.arange(len(sets))}
    scores = {"kernel": "pixel", "order": "1", "label": "overall", "low": np.nan, "high": np.nan, "n": np.nan}
    rows = [
        pd.DataFrame({"model": model, "training_set": sets, "score": values, **scores})
        for model, values in known.items()
    ]
    joined = {name: pd.concat([own[name], other[name]], ignore_index=True) for name in own}
    material = Material({**joined, "diversity": pd.concat(rows, ignore_index=True)})
    drawing = sections.data.diversity(material)
    for ax, (model, values) in zip(drawing.figure.axes, known.items(), strict=True):
        marks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() != "None"]
        assert model in ax.get_title() and sorted(marks) == sorted(values)
        assert 0.9 <= ax.get_xlim()[0] < ax.get_xlim()[1]
    assert "all images together" in drawing.caption and "Small dots" not in drawing.caption
    table = sections.data.scores(material)
    assert table.head == ["network", "training set", "pixels, all classes together, order 1"] and table.words == 2
    assert [row[0] for row in table.rows] == [model for model in known for _ in sets]


def test_no_title_or_label_lies_on_another(tables: dict[str, pd.DataFrame]) -> None:
    """In the figure with most panels side by side: five pairs of families, five measures."""
    with mpl.rc_context(style.RC):
        figure = study.alignments(Material(tables)).figure
        figure.draw_without_rendering()
    grid = np.array(figure.axes).reshape(-1, len({ax.get_position().x0 for ax in figure.axes}))
    titles = [ax.title.get_window_extent() for ax in grid[0]]
    labels = [ax.yaxis.label.get_window_extent() for ax in grid[:, 0]]
    assert len(titles) > 3 and len(labels) > 3
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(titles))
    assert all(upper.y0 > lower.y1 for upper, lower in itertools.pairwise(labels))


def test_ticks_of_a_loss_are_numbers(material: Material) -> None:
    with mpl.rc_context(style.RC):
        figure = training.curves(material, "mlp").figure
        figure.draw_without_rendering()
    assert {"1", "2"} <= {tick.get_text() for tick in figure.axes[0].get_yticklabels()}


def test_eigenvalues_that_rounding_has_made_stretch_no_axis(material: Material) -> None:
    made = [
        Spectrum(one.condition, one.layer, np.append(one.eigenvalues, [1e-25] * 8), 3.5, 1.0)
        for one in material.spectra["mlp"]
    ]
    with mpl.rc_context(style.RC):
        figure = spectra.esd(replace(material, spectra={"mlp": made}), "mlp").figure
    assert all(ax.get_xlim()[0] > 1e-4 for ax in figure.axes)


def test_weights_that_lie_about_are_not_those_that_training_started_from(
    tables: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"fc1.weight": np.eye(80)}, "model.safetensors")
    rows = tables["spectra"].assign(parameter="fc1.weight")
    for record in (None, {"inputs": {}, "settings": {"analysis": {}}}, {"inputs": {"pretrained": None}}):
        if record:
            Path("spec.json").write_text(json.dumps(record))
        assert load._pretrained(Path(), ["fc1"], rows) == []


def test_steps_of_a_network_are_those_of_its_recipe(tables: dict[str, pd.DataFrame]) -> None:
    longer = tables["runs"].assign(steps=np.where(tables["runs"]["condition"] == "baseline", 600, 900))
    table = run.models(Material({**tables, "runs": longer}))
    assert table.rows[0][table.head.index("steps")] == "600"
    assert run.sizes({"plain": 1000, "a": 8000, "b": 8000}) == "1,000 images: plain; 8,000 images: a and b"


def test_an_interval_stays_on_one_line() -> None:
    shown = page.environment().from_string("{{ text }}").render(text="0.1 [-0.2, +0.3], p < 0.001")
    assert shown.replace("\N{NO-BREAK SPACE}", "_") == "0.1 [-0.2,_+0.3], p &lt;_0.001"


def test_runs_are_counted_where_they_are_drawn(tables: dict[str, pd.DataFrame]) -> None:
    """All runs of one condition broke off, and all but one of another."""
    broken = {
        name: (table["condition"] == "dropout-0.5") | (table["condition"] == "dropout-0.1") & (table["seed"] > 0)
        for name, table in tables.items()
        if name in ("spectra", "evaluation")
    }
    spectra_of = tables["spectra"].copy()
    spectra_of.loc[broken["spectra"], spectra_of.select_dtypes("float").columns] = np.nan
    material = Material({**tables, "spectra": spectra_of, "evaluation": tables["evaluation"][~broken["evaluation"]]})
    for draw in (evaluation.accuracy, spectra.dose_response, comparison.quadrants):
        assert "n = 1 to 6 runs a condition" in draw(material, "mlp").caption


def test_a_long_name_of_a_checkpoint_leaves_room_for_the_picture(tables: dict[str, pd.DataFrame]) -> None:
    long = f"checkpoint-{'network-' * 7}mine"
    own = {name: table.replace("checkpoint-mine", long) for name, table in tables.items()}
    with mpl.rc_context(style.RC):
        for draw in (comparison.alignment, spectra.layers, spectra.dose_response, evaluation.accuracy):
            figure = draw(Material(own), "mlp").figure
            figure.draw_without_rendering()
            labels = [text for ax in figure.axes for text in (*ax.get_xticklabels(), *ax.get_yticklabels())]
            boxes = [text.get_window_extent() for text in labels if text.get_text().startswith("checkpoint-")]
            assert boxes and all(box.x0 >= 0 and box.y0 >= 0 for box in boxes), draw
            assert all(ax.get_position().height > 0.05 for ax in figure.axes), draw


def test_a_legend_of_long_names_stays_in_the_picture() -> None:
    names = {f"{number} dropout 0.5 + weight decay {number}": "combinations" for number in range(1, 10)}
    with mpl.rc_context(style.RC):
        figure, _ = style.canvas(style.WIDTH, 3, 1, 1)
        style.family_legend(figure, style.Palette(), ["dropout", "weight_decay", "combinations"], numbers=names)
        figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0


def test_captions_say_what_is_drawn(tables: dict[str, pd.DataFrame]) -> None:
    """No dropout, no accuracy of the baseline, none out of distribution, no score of the plain training set."""
    kept = [name for name in KEPT if "dropout" not in name]
    own = only(kept, {name: tables[name] for name in ("runs", "conditions", "spectra", "evaluation")})
    own["evaluation"] = own["evaluation"].query("condition != 'baseline' and shift == 'none'")
    own["diversity"] = tables["diversity"].query("training_set != 'real'")
    own["diversity"] = own["diversity"][own["diversity"]["training_set"].isin(own["conditions"]["training_set"])]
    material = Material({**own, **compare(own, FAST)})
    told = {name: one.caption for name, one in drawn(material).items()}
    assert "each condition against weight decay, with" in told["alignment-mlp"]
    assert not any(text in told["accuracy-mlp"] for text in ("grey band", "out of distribution", "n = 0"))
    assert "dashed" not in told["diversity"]
    assert not any(ax.get_lines()[0].get_linestyle() == "--" for ax in data.diversity(material).figure.axes)
    assert "(added 0.25 and 1; replaced 0.5)" in told["synthetic_amount-mlp"]
    assert "has an effect here" in told["robustness-mlp"]


def test_the_metric_tells_of_correlations_that_are_there(tables: dict[str, pd.DataFrame]) -> None:
    told = metric.metric(Material(tables), "mlp").caption
    assert "hollow" in told and "Compare the metric (left)" in told and "Spearman" in told
    few = tables["metric"].query("family == 'augmentation'").assign(length_along_dropout=np.nan)
    told = metric.metric(Material({**tables, "metric": few, "validation": pd.DataFrame()}), "mlp").caption
    assert "hollow" not in told and "Compare" not in told and "Spearman" not in told


def test_no_cosines_are_not_counted(tables: dict[str, pd.DataFrame]) -> None:
    none = tables["layer_tests"].query("statistic != 'cosine'")
    assert not any(text.startswith("Of 0 cosines") for text in study.verdict(Material({**tables, "layer_tests": none})))


def test_a_control_that_broke_off_was_run(tables: dict[str, pd.DataFrame]) -> None:
    own = {name: tables[name] for name in ("runs", "conditions", "diversity", "evaluation", "spectra")}
    own = only(["baseline", "dropout-0.5", "augmentation-rotation-15"], own)
    own["spectra"] = own["spectra"][own["spectra"]["condition"] != "dropout-0.5"]
    told = dict(answer.lead(Material({**own, **compare(own, FAST)})))["mlp"]
    assert told.startswith("Dropout could not be tested, so nothing can be compared with it")


def test_single_runs_are_told_without_intervals(tables: dict[str, pd.DataFrame]) -> None:
    single = {name: table[table["seed"] == 0] if "seed" in table else table for name, table in tables.items()}
    for draw in (evaluation.accuracy, spectra.dose_response):
        told = draw(Material(single), "mlp").caption
        assert "single runs (n = 1 run a condition)" in told and "band" not in told and "interval" not in told


def test_two_kinds_of_data_are_too_few_to_correlate(tables: dict[str, pd.DataFrame]) -> None:
    few = tables["relation"].assign(correlation=np.nan)
    drawing = metric.diversity_shift(Material({**tables, "relation": few}), "mlp")
    assert drawing.figure is None and "four kinds of other data" in drawing.caption


def test_a_kernel_with_scores_of_the_plain_set_alone_has_no_panel(tables: dict[str, pd.DataFrame]) -> None:
    own = tables["metric"].copy()
    kernel = tables["relation"]["kernel"].iloc[0]
    own.loc[own["family"].isin(["augmentation", "synthetic"]), f"diversity_gain_{kernel}"] = np.nan
    kinds = tables["relation"].assign(correlation=0.5)
    whole, less = (
        metric.diversity_shift(Material({**tables, "relation": kinds, "metric": one}), "mlp")
        for one in (tables["metric"], own)
    )
    assert 0 < len(less.figure.axes) < len(whole.figure.axes)


def test_training_curves_tell_what_is_drawn(material: Material) -> None:
    assert training.curves(material, "mlp").caption.startswith("Loss and accuracy of")
    history = material.histories["mlp"].assign(accuracy=np.nan)
    told = training.curves(replace(material, histories={"mlp": history}), "mlp").caption
    assert told.startswith("Loss of") and "chance" not in told


def test_shifts_of_layers_that_runs_lack_are_a_sentence(tables: dict[str, pd.DataFrame]) -> None:
    """A run that broke off leaves no layer that is measured in all runs; the baseline is there."""
    shifts = tables["layer_shifts"]
    for gap in (
        {"layer_shifts": shifts.iloc[:0]},
        {"layer_shifts": shifts.assign(shift=np.nan)},
        {"layer_tests": pd.DataFrame()},
    ):
        drawing = study.layer_shifts(Material({**tables, **gap}), "mlp")
        assert drawing.figure is None and "measured in all runs" in drawing.caption
