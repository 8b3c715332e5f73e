"""Where a change goes: the changes that docs/architecture.md names are made in a copy, and are known everywhere by that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Checkout, copy_checkout

FAMILY = '''
"""Label smoothing, as a control."""

from diversity_spectra.conditions.condition import Condition, Family
from diversity_spectra.settings import Rate


def expand(values, conditions):
    for value in values:
        yield Condition(f"smoothing-{value:g}", "smoothing", strength=value, training={"label_smoothing": value})


FAMILY = Family("smoothing", "control", 7, expand, list[Rate], [], "label smoothing alone", colour=6, marker="v")
'''
GENERATOR = '''
"""Grey images."""

from typing import Literal

from diversity_spectra.generate.kind import Generator
from diversity_spectra.settings import key


class Grey(Generator):
    """Images of one colour."""

    short = "grey"
    on_device = False
    kind: Literal["grey"] = key(description="grey images")
    images_per_class: int = key(8, description="images per class")

    def count(self, classes):
        return self.images_per_class * classes

    def drawing(self, made):
        return made

    def told(self, pool_per_class):
        return "Grey images."


KIND = Grey
'''
SECTION = '''
"""A section of its own."""

from diversity_spectra.report.section import Figure, Section


def empty(material, model):
    raise NotImplementedError


SECTION = Section("own", "My own", (Figure("mine", "Mine", "nothing", empty),))
'''
MEASURE = '''
"""Participation ratio."""

from diversity_spectra.spectra.kind import Kind, Measure, Spectrum


def measure(spectrum: Spectrum) -> dict:
    values = spectrum.values
    return {"participation": float(values.sum() ** 2 / (values**2).sum())}


KIND = Kind(
    7,
    {"participation": Measure("1", meaning="(sum of values)^2 / sum of squares", label="participation ratio", log=True, aligned=True)},
    measure,
)
'''
KNOWN = """
import json
import numpy as np
import pandas as pd
from diversity_spectra.columns import TABLES
from diversity_spectra.compare.features import collect
from diversity_spectra.report.material import SCALES
from diversity_spectra.report.words import measure
from diversity_spectra.spectra.live import live
from diversity_spectra.spectra.table import analyse
from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.compare.options import Options
from diversity_spectra.conditions import Conditions, FAMILIES
from diversity_spectra.config import experiments, read_yaml
from diversity_spectra.planning.steps import Work
from diversity_spectra.report.sections import figures_of
from diversity_spectra.report.style import Palette, marker

config = read_yaml("tests/configs/tiny.yaml")
before = {job.kind + job.key: job.name for job in Work(experiments.parse(config)).jobs.values()}
config["generator"] = {"kind": "grey"} if CHANGED else config["generator"]
if CHANGED:
    config["diversity"]["per_class"] = 8
    config["models"][1]["conditions"] |= {"smoothing": [0.1], "augmentation": {"turn": [5]}, "synthetic": []}
    config["models"][1]["conditions"]["combinations"] = []
made = Work(experiments.parse(config))
weights = np.random.default_rng(0).standard_normal((30, 20))
rows = analyse(live({"fc.weight": weights})).rows.assign(condition="plain", seed=0, depth=0)
conditions = pd.DataFrame([{"condition": "plain", "family": "baseline", "kind": "", "strength": np.nan}])
features = collect(rows, rows.assign(kappa=1.0), conditions)
print(json.dumps({
    "jobs": sorted({f"{job.kind}/{job.name}" for job in made.jobs.values()}),
    "controls": Options().controls,
    "smoothed": [job.training.label_smoothing for job in made.of_kind("finetune") if "smoothing" in job.name],
    "look": [Palette().colour("smoothing"), marker("smoothing")],
    "figures": [figure.name for figure in figures_of(["mlp"])],
    "columns": list(TABLES["spectra"].columns),
    "compared": sorted(set(features.names["measure"][np.isfinite(features.vectors[0])])),
    "aligned": Options().measures,
    "label": measure("participation", "dW"),
    "scales": SCALES,
    "code": {job.kind: job.code for job in made.jobs.values()},
    "trained": sorted(key for key in before if key.startswith("finetune")),
}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return copy_checkout(tmp_path_factory.mktemp("house"))


def known(checkout: Checkout, changed: bool) -> dict:
    return json.loads(checkout.run(sys.executable, "-c", f"CHANGED = {changed}\n{KNOWN}").stdout)


def test_a_module_more_is_known_everywhere(checkout: Checkout) -> None:
    before = known(checkout, False)
    package = checkout.folder / "workflow/diversity_spectra"
    (package / "conditions/families/smoothing.py").write_text(FAMILY)
    (package / "generate/kinds/grey.py").write_text(GENERATOR)
    rotation = (package / "augment/kinds/rotation.py").read_text()
    (package / "augment/kinds/turn.py").write_text(rotation.replace("def rotation(", "def turn("))
    (package / "spectra/kinds/participation.py").write_text(MEASURE)
    (package / "report/sections/own.py").write_text(SECTION)
    (package / "report/sections/own.html.j2").write_text("{{ 1 }}\n")
    sections = package / "report/sections/__init__.py"
    text = sections.read_text().replace("    words,\n)", "    words,\n    own,\n)").replace(" gaps)", " gaps, own)")
    sections.write_text(text)
    # A setting that came later, with the value that stands for its absence, leaves earlier keys as they are.
    recipe = package / "finetune/job.py"
    setting = '    beta: Annotated[float, Absent(0.9)] = key(0.9, description="of AdamW")\n    flip: bool ='
    recipe.write_text(recipe.read_text().replace("    flip: bool =", setting, 1))
    after = known(checkout, True)
    assert {"finetune/mlp/smoothing-0.1", "finetune/mlp/augmentation-turn-5", "shard/grey-0"} <= set(after["jobs"])
    assert not {"generator/ddpm", "generator/grey"} & set(after["jobs"])
    assert after["controls"] == [*before["controls"], "smoothing"] and after["smoothed"] == [0.1]
    assert after["look"][1] == "v" and after["look"][0] != before["look"][0]
    assert set(after["figures"]) == {*before["figures"], "mine-mlp"}
    assert after["trained"] == before["trained"]
    for part in ("columns", "compared", "aligned", "scales"):
        assert set(after[part]) == {*before[part], "participation"}
    assert after["label"] == "participation ratio of dW"
    assert all(after["code"][kind] != before["code"][kind] for kind in ("spectra", "compare", "report"))
    checkout.run("diversity-spectra", "check", "--write-schema", "schema.json")
    schema = json.loads((checkout.folder / "schema.json").read_text())
    assert "smoothing" in schema["$defs"]["Conditions"]["properties"] and "Grey" in schema["$defs"]


def test_no_module_imports_what_imports_it() -> None:
    """The packages drawn as imports have no circle; what is imported inside of functions counts."""
    from graphlib import TopologicalSorter

    from diversity_spectra import provenance

    graph: dict[str, set[str]] = {}
    for path in provenance.PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(provenance.PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found = set()
        for name in provenance._module(path)[0]:
            target = provenance._module_path(name)
            if target:
                found.add(
                    ".".join(target.relative_to(provenance.PACKAGE).with_suffix("").parts).removesuffix(".__init__")
                )
        graph[module] = found - {module, "__init__"}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_stages_have_what_the_tree_promises() -> None:
    from conftest import ROOT

    from diversity_spectra.stages import STAGES, kinds

    package = ROOT / "workflow/diversity_spectra"
    rules = {path.stem for path in ROOT.glob("workflow/rules/*.smk")} - {"common"}
    assert rules == set(STAGES) - {"gather"}
    for stage in rules:
        assert (package / stage / "job.py").exists() and (package / stage / "command.py").exists(), stage
    named = {
        line.split()[1].rstrip(":")
        for path in ROOT.glob("workflow/rules/*.smk")
        for line in path.read_text().splitlines()
        if line.startswith("rule ")
    }
    assert named == set(kinds())
    heavy = "import sys; from diversity_spectra.stages import kinds; kinds(); print({'torch','pandas','numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], cwd=Path(ROOT), capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
