"""Keys that are true: what moves the identity of code and of files, and that nothing is stored under a key it does not have."""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import textwrap
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest
from PIL import Image
from test_plan import planned, touched

from diversity_spectra import __version__, provenance
from diversity_spectra.contents import fingerprint
from diversity_spectra.data.job import ImageFolder, Prepare
from diversity_spectra.errors import UserError
from diversity_spectra.execution import check_origins, publish, with_origins
from diversity_spectra.jobs import Job, digest
from diversity_spectra.planning.plan import Plan
from diversity_spectra.provenance import UNCOUNTED, code_digest
from diversity_spectra.stages import STAGES


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, and of the rules around it, whose code digests are taken."""
    copied = tmp_path / "diversity_spectra"
    shutil.copytree(provenance.PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(provenance.PACKAGE.parent / "rules", tmp_path / "rules")
    monkeypatch.setattr(provenance, "PACKAGE", copied)
    provenance.forget()
    yield copied
    monkeypatch.undo()
    provenance.forget()


def test_the_version_names_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    package = root / "workflow" / provenance.NAME
    package.mkdir(parents=True)
    (package / "a.py").write_text("1\n")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    monkeypatch.chdir(root)

    def git(*command: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *who, *command], capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet", str(tmp_path))  # somebody's repository around it
    assert provenance.version() == __version__
    git("init", "--quiet")
    assert provenance.version() == __version__, "no commit yet"
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    git("tag", "v9")
    commit = git("rev-parse", "HEAD")[:12]
    (root / "results").mkdir()
    assert provenance.version() == f"{__version__} (commit {commit})"
    (package / "a.py").write_text("2\n")
    assert provenance.version() == f"{__version__} (commit {commit}, with changes)"
    monkeypatch.setenv("PATH", "")
    assert provenance.version() == __version__


def fresh_digest(stage: str, *modules: str) -> str:
    provenance.forget()
    return code_digest(STAGES[stage][0], *modules)


def edit(module: Path, *changes: tuple[str, str]) -> None:
    text = module.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    module.write_text(text)


def test_words_are_no_code(package: Path) -> None:
    before = {stage: fresh_digest(stage) for stage in STAGES}
    edit(
        package / "augment/recipe.py",
        ('"""Data recipes', '"""Recipes'),
        ("import numpy as np", "import numpy as np  #"),
    )
    edit(
        package / "augment/command.py",
        ('"%d of %d images"', '"%d / %d"'),
        ('EXAMPLE = """example', 'EXAMPLE = """such as'),
    )
    edit(
        package / "augment/recipe.py",
        ("seed: int", "seed: object"),
        ("{len(made)} are usable", "there are {len(made)}"),
    )
    edit(package / "spectra/command.py", ("of shuffles and resamples", "of draws"))
    assert {stage: fresh_digest(stage) for stage in STAGES} == before


def test_an_empty_text_in_a_format_is_nothing() -> None:
    """Python 3.12 and 3.13 put one at the end of a nested format, 3.11 does not: keys would differ."""
    here = ast.parse('f"{name:<{width}}"', mode="eval").body
    there = copy.deepcopy(here)
    there.values[0].format_spec.values.append(ast.Constant(""))
    assert provenance._plain(here) == provenance._plain(there)


def test_every_python_sees_the_same_code() -> None:
    """The digest that Python 3.11, 3.12 and 3.13 gave; their `ast.dump` differs."""
    source = """
        @dataclass(frozen=True)
        class A(B, metaclass=C):
            x: int = 1
            async def f(self, a, /, b=2, *args, c: int = 3, **others) -> int:
                async with a as b, c: yield f"{a!r:>{b}} {c:{b}.{x}}" "z", rb"\\x"
        match point:
            case {"x": [1, *rest], **more} if (n := len(rest)) > 1: del more[::2, ...]
            case A(x=0) | None: raise E from None
        try: lambda *, k=1j: not -k ** 2
        except* (E, F) as error: global g
        finally: g = [*a, {**b}, {i for i in range(3) if i}, *(yield)]
    """
    assert digest(provenance._plain(ast.parse(textwrap.dedent(source)))) == "6adfa912bb76"


@pytest.mark.parametrize(
    ("stage", "file", "change"),
    [
        ("augment", "augment/recipe.py", ("round(ratio", "int(ratio")),
        ("augment", "files.py", (".replace(", ".rename(")),
        ("finetune", "execution.py", ("started, waited", "waited, started")),
        ("finetune", "finetune/__init__.py", ("", "import os")),
        ("data", "seeds.py", (">> 1", ">> 2")),
        ("finetune", "seeds.py", (">> 1", ">> 2")),
        ("report", "report/sections/run.html.j2", ("", "more")),
    ],
)
def test_whatever_may_change_a_result_is_code(package: Path, stage: str, file: str, change: tuple[str, str]) -> None:
    before = fresh_digest(stage)
    path = package / file
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change) if change[0] else f"{text}{change[1]}\n")
    assert fresh_digest(stage) != before


def test_a_training_set_depends_on_its_own_kinds_only(package: Path) -> None:
    kinds = ("augment.kinds.rotation", "augment.kinds.augmix")
    rotation, augmix = (fresh_digest("augment", kind) for kind in kinds)
    module = package / "augment" / "kinds" / "rotation.py"
    (module.parent / "invert.py").write_text(module.read_text().replace("rotation", "invert"))
    assert fresh_digest("augment", kinds[0]) == rotation
    edit(module, ("BILINEAR", "NEAREST"))
    assert fresh_digest("augment", kinds[0]) != rotation
    assert fresh_digest("augment", kinds[1]) == augmix


@pytest.mark.parametrize(
    "line",
    ["from ._helper import f", "from . import _helper", "from importlib import import_module as i; i('diversity_spectra.augment.kinds._helper')"],
)  # fmt: skip
def test_a_helper_of_a_kind_is_its_code_however_it_is_imported(package: Path, line: str) -> None:
    kinds = package / "augment/kinds"
    (kinds / "_helper.py").write_text("f = 1\n")
    (kinds / "mine.py").write_text(line + "\n")
    before = fresh_digest("augment", "augment.kinds.mine")
    (kinds / "_helper.py").write_text("f = 2\n")
    assert fresh_digest("augment", "augment.kinds.mine") != before


def test_files_beside_a_kind_are_its_code(package: Path) -> None:
    table = package / "augment/kinds/table.json"
    table.write_text("[1]")
    before = fresh_digest("augment", "augment.kinds.rotation")
    table.write_text("[2]")
    assert fresh_digest("augment", "augment.kinds.rotation") != before


def test_the_kinds_of_a_recipe_are_code_of_its_job() -> None:
    jobs = {job.name: job for job in planned().of_kind("augment")}
    assert jobs["rotation-20"].code != jobs["synthetic-0.5"].code


def test_the_command_of_a_rule_is_code(package: Path) -> None:
    job = planned().of_kind("diversity")[0]
    provenance.forget()
    before = provenance.code_of(job)
    edit(
        package.parent / "rules/diversity.smk",
        ("diversity-spectra diversity {params.run}", "diversity-spectra diversity {params.run} --subsamples 9"),
    )
    provenance.forget()
    assert provenance.code_of(job) != before


@pytest.mark.parametrize("stage", ["data", "finetune", "spectra", "compare", "report"])
def test_what_plans_is_no_code(package: Path, stage: str) -> None:
    before = fresh_digest(stage)
    for module in [*(package / "planning").glob("*.py"), *package.glob("*/job.py"), package / "work.py"]:
        module.write_text(module.read_text() + "\nX = 1\n")
    assert fresh_digest(stage) == before


def test_what_counts_computes_nothing_in_a_job_file() -> None:
    """Stages read the fields of settings; what a property or method of theirs gives would change a result and no key."""
    files = provenance.PACKAGE.glob("*/job.py")
    found = [vars(import_module(f"{provenance.NAME}.{path.parent.name}.job")) for path in files]
    models = {name: model for names in found for name, model in names.items() if isinstance(model, type)}
    computed = {
        name: {key for key, value in vars(model).items() if isinstance(value, property | FunctionType)} - {*dir(Job)}
        for name, model in models.items()
        if model.__module__.endswith(".job")
    }
    counted = [
        path for path in provenance.PACKAGE.rglob("*.py")
        if path.name != "job.py" and path.relative_to(provenance.PACKAGE).with_suffix("").parts[0] not in UNCOUNTED
    ]  # fmt: skip
    trees = [ast.parse(path.read_text()) for path in counted]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    given = [
        (each, one) for each in functions for one in each.args.args if ast.unparse(one.annotation or one) in computed
    ]
    assert len(given) > 20
    for function, one in given:
        read = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name) and node.value.id == one.arg}  # fmt: skip
        assert not read & computed[ast.unparse(one.annotation)], f"{function.name}({one.arg})"


@pytest.fixture
def job(tmp_path: Path, package: Path) -> Prepare:
    for name in ("a", "b"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "tree" / name / "0.png")
    source = ImageFolder(kind="image_folder", path=str(tmp_path / "tree"), image_size=8)
    return with_origins(Prepare(source=source, split="train", folder=str(tmp_path / "made")), ["numpy"])


def test_a_picture_replaced_by_one_of_the_same_size_and_time_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `cp -p`, `rsync -t` and unzip do; with digests that are remembered. What the reader leaves out does not count."""
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "tree/cat/a.png"
    picture.parent.mkdir(parents=True)
    seen = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "other.png").write_bytes(content)
        os.utime(tmp_path / "other.png", (1e9, 1e9))
        shutil.copy2(tmp_path / "other.png", picture)
        seen += [fingerprint("tree", "data.path", images=True) for _ in range(2)]
    assert seen[0] == seen[1] == seen[4] != seen[2] == seen[3]
    (tmp_path / "tree/.cache").mkdir()
    for name in (".cache/b.png", "cat/.b.png", "cat/Thumbs.db"):
        (tmp_path / "tree" / name).write_bytes(b"other")
    assert fingerprint("tree", "data.path", images=True) == seen[0]


def _code(folder: Path) -> None:
    edit(folder / "diversity_spectra/data/folder.py", ("isinstance(", "not isinstance("))


def _picture(folder: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(folder / "tree/a/0.png")


@pytest.mark.parametrize("change", [_code, _picture])
def test_nothing_is_stored_under_a_key_that_is_no_longer_its_own(tmp_path: Path, job: Prepare, change) -> None:
    check_origins(job)
    with pytest.raises(UserError, match="changed since this job was planned"), publish(job) as made:
        for name in job.makes:
            (made.folder / name).write_text("")
        change(tmp_path)
    assert not Path(job.out).exists()
    with pytest.raises(UserError, match="changed since this job was planned"):
        check_origins(job)
    assert with_origins(job, ["numpy"]).key != job.key


def test_a_package_that_counts_is_that_of_the_key(job: Prepare) -> None:
    with pytest.raises(UserError, match=r"numpy \(0\.1\) changed"):
        check_origins(job.model_copy(update={"packages": {"numpy": "0.1"}}))


def test_an_image_to_test_on_retrains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tree with a training and a test part each is read for itself; so is that of a shifted test set."""
    monkeypatch.chdir(tmp_path)
    for place in ("train/cat", "train/dog", "test/cat", "test/dog", "val/cat"):
        for tree in ("photos", "sketches"):
            (tmp_path / tree / place).mkdir(parents=True)
            for number in range(6):
                (tmp_path / tree / place / f"{number}.png").write_text(f"{tree} {place} {number}")
    data = {"kind": "image_folder", "path": "photos", "pool_per_class": 2, "validation_fraction": 0.1}
    shifted = [{"kind": "image_folder", "name": "sketches", "path": "sketches"}]

    def now(**settings: object) -> Plan:
        return planned(data={**data, **settings}, ood=shifted, diversity={"per_class": 2})

    def stages(before: Plan, after: Plan) -> set[str]:
        return {stage for stage, _ in touched(before, after)}

    first = now()
    assert stages(first, now(test_fraction=0.5)) <= {"compare", "report"}, "it is not read"
    (tmp_path / "photos/val/cat/new.png").write_text("unused")
    (tmp_path / "sketches/train/cat/new.png").write_text("unused")
    assert not touched(first, now())
    (tmp_path / "photos/test/cat/new.png").write_text("new")
    second = now()
    assert {job for job in touched(first, second) if job[0] == "data"} == {
        ("data", "image_folder-test"),
        ("data", "ood-sketches"),
    }
    assert stages(first, second) == {"data", "diversity", "evaluate", "gather", "compare", "report"}
    (tmp_path / "photos/train/cat/new.png").write_text("also new")
    third = now()
    assert ("data", "image_folder-test") not in touched(second, third) and "finetune" in stages(second, third)
    (tmp_path / "photos/train/cat").rename(tmp_path / "photos/train/tomcat")
    (tmp_path / "photos/test/tomcat").mkdir()
    assert ("data", "image_folder-test") in touched(third, now()), "its classes are those to train on"
