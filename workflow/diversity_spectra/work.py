"""Units of work and sizes: what a job has to do, worked out from its settings before anything is made.

Jobs of one stage and one kind of work cost the same per unit on the same device; so a kind names whatever makes a unit
dearer: the network, the side of its images, the batch.
"""

from __future__ import annotations

import ast
import json
import math
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Shape = tuple[int, int, int, int]  # images, height, width, channels


@dataclass(frozen=True)
class Work:
    """`units` of one `unit`, each as dear as `kind` says; None where the number of images is not known yet.

    `size` is the room of the result on the disk in bytes, where the settings tell.
    """

    kind: str
    unit: str
    units: float | None
    size: int | None = None


class Planned(Protocol):
    """What a job that makes an image set knows of it beforehand."""

    def shape(self, sets: Sets) -> Shape | None: ...

    def classes(self, sets: Sets) -> int | None: ...


class Sets:
    """Image sets by the folders that hold them or will hold them: read off the disk, else asked of the planned job."""

    def __init__(self, jobs: dict[str, Planned] | None = None):
        self.jobs = jobs or {}
        self._shapes: dict[str, Shape | None] = {}

    def shape(self, folder: str) -> Shape | None:
        """Images, height, width, channels; None where only making the set can tell."""
        if folder not in self._shapes:
            made = set_shape(Path(folder))
            self._shapes[folder] = made or (self.jobs[folder].shape(self) if folder in self.jobs else None)
        return self._shapes[folder]

    def stored(self, folder: str) -> bool:
        """Whether its images lie on the disk, or will; others are made when they are read."""
        if Path(folder, "meta.json").exists():
            return Path(folder, "images.npy").exists()
        shape, stored = self.shape(folder), getattr(self.jobs.get(folder), "stored", None)
        return shape is None or stored is None or stored(self.bytes(shape))

    def read(self, folder: str, path: Path) -> None:
        """Read the shape of a set that will lie in `folder` and still lies at `path`."""
        self._shapes[folder] = set_shape(path)

    def classes(self, folder: str) -> int | None:
        with suppress(OSError, ValueError, KeyError):
            return len(json.loads(Path(folder, "meta.json").read_text())["classes"])
        return self.jobs[folder].classes(self) if folder in self.jobs else None

    @staticmethod
    def bytes(shape: Shape) -> int:
        """Of the pixels."""
        return math.prod(shape)

    def work(self, kind: str, shape: Shape | None, stored: bool = True) -> Work:
        """Of making an image set of that shape, with its images stored or without."""
        if shape is None:
            return Work(kind, "images", None)
        # Pixels are bytes and labels int64; the manifest is small beside them.
        return Work(f"{kind} at {shape[1]} px", "images", shape[0], stored * self.bytes(shape) + 8 * shape[0])


def set_shape(folder: Path) -> Shape | None:
    """Of the images of a set, stored or made when they are read; None where there is no such set."""
    if shape := npy_shape(folder / "images.npy"):
        return shape
    with suppress(OSError, ValueError, KeyError):
        return tuple(json.loads((folder / "meta.json").read_text())["shape"])
    return None


def npy_shape(path: Path) -> tuple[int, ...] | None:
    """The shape in the header of a .npy file (format of NumPy's `lib.format`); None if it cannot be read."""
    try:
        with path.open("rb") as stream:
            major = stream.read(8)[6]
            length = struct.unpack("<H", stream.read(2)) if major == 1 else struct.unpack("<I", stream.read(4))
            return ast.literal_eval(stream.read(length[0]).decode("latin1"))["shape"]
    except (OSError, ValueError, SyntaxError, KeyError, IndexError, struct.error):
        return None
