"""Atomic files and folders: what is there is whole, and what was killed leaves nothing for long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from diversity_spectra.files import atomic_file, atomic_folder, move_folder
from diversity_spectra.tables import read_table, write_table

KILLED = """
import os, signal, sys
from diversity_spectra.files import atomic_folder
with atomic_folder(sys.argv[1]) as folder:
    (folder / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["seed-1", "dropout-0.3-0123456789ab"])
def test_a_finished_folder_clears_what_killed_processes_left(tmp_path: Path, name: str) -> None:
    for other in (name, "seed-10"):
        subprocess.run([sys.executable, "-c", KILLED, tmp_path / other], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_folder(tmp_path / name) as folder:
        (folder / "whole").write_text("x")
    (rest,) = [path for path in tmp_path.iterdir() if path.name != name]
    assert rest.name.startswith(".seed-10-") and (tmp_path / name / "whole").exists()


def test_others_may_read_what_the_umask_lets_them_read(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "result") as folder:
        save_file({"weight": np.zeros((2, 2))}, folder / "model.safetensors")
    with atomic_file(tmp_path / "table.csv") as file:
        file.write_text("x")
    (tmp_path / "plain").write_text("x")
    allowed = (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "result/model.safetensors").stat().st_mode == allowed == (tmp_path / "table.csv").stat().st_mode


def test_nothing_is_lost_where_there_is_nothing_to_move(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").write_text("x")
    with pytest.raises(FileNotFoundError):
        move_folder(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "file").exists()
    (tmp_path / "source").mkdir()
    move_folder(tmp_path / "source", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["target"] and not list((tmp_path / "target").iterdir())


def test_names_that_people_give_stay_text_in_csv(tmp_path: Path) -> None:
    names = pd.DataFrame({"label": ["nan", "None", "1", "007", "NA"], "score": [1.0, np.nan, 3.0, np.inf, -1.0]})
    write_table(tmp_path / "names.csv", names)
    pd.testing.assert_frame_equal(read_table(tmp_path / "names.csv"), names, check_dtype=False)
    write_table(tmp_path / "numbers.csv", names.iloc[2:3])
    assert list(read_table(tmp_path / "numbers.csv")["label"]) == ["1"]
