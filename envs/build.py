"""Build `.venv` from the pins in requirements.txt, where it is not yet the one that they describe: `make env`.

Comments and tools' settings do not count; a checkout that was moved does, since the commands of an environment hold its path.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".pins"


def wanted() -> str:
    """What identifies the environment: the pins, the commands of this package, and where it lies."""
    import tomllib

    lines = (ROOT / "envs/requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = [project.get("scripts"), project.get("entry-points")]
    return hashlib.sha256(json.dumps([pins, commands, str(ROOT)]).encode()).hexdigest()


def users() -> list[str]:
    """Numbers of processes that run in the environment, this one and what started it aside (of Linux only)."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(VENV / "bin") + b"/" in words[0] and file.parent.name not in map(
            str, (os.getpid(), os.getppid())
        ):
            found.append(file.parent.name)
    return found


def build() -> None:
    """Beside the earlier one, which comes back if anything fails."""
    earlier = VENV.with_name(".venv-earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if VENV.exists():
        VENV.rename(earlier)
    pip = [VENV / "bin/pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    try:
        # That of the system: the one that runs this may lie in the environment itself.
        subprocess.run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", VENV], check=True)
        subprocess.run([*pip, "--requirement", ROOT / "envs/requirements.txt"], check=True)
        subprocess.run([*pip, "--no-build-isolation", "--editable", ROOT], check=True)
        STAMP.write_text(wanted())
    except BaseException:
        shutil.rmtree(VENV, ignore_errors=True)
        if earlier.exists():
            earlier.rename(VENV)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def main() -> str | int:
    if sys.version_info < (3, 11):  # noqa: UP036
        return f"error: {sys.executable} is older than Python 3.11; name another one: make env PYTHON=python3.12"
    if STAMP.is_file() and STAMP.read_text() == wanted():
        return 0
    if running := users():
        return f"error: .venv is to be built anew, but processes run in it: {' '.join(running)}. Wait for them, or end them."
    print(
        "Building .venv from envs/requirements.txt: about 3 GB to download, 6.5 GB on disk, a few minutes ...",
        flush=True,
    )
    try:
        build()
    except subprocess.CalledProcessError as error:
        return f"error: `{' '.join(map(str, error.cmd[:5]))} ...` failed; the earlier .venv, if there was one, is as it was"
    return 0


if __name__ == "__main__":
    sys.exit(main())
