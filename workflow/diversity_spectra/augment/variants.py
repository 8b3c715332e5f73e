"""Training images that are made when they are read: of a set that is not stored, or whose variants are new in every epoch."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.augment.job import Augment
from diversity_spectra.augment.recipe import augmented, mix
from diversity_spectra.errors import UserError
from diversity_spectra.execution import check_inputs, check_origins
from diversity_spectra.imageset import ImageSet
from diversity_spectra.jobs import RECORD, parse, read_record

ORIGINS = ("real", "synthetic")
PIECE = 32  # images that a process makes at a time


class Variants:
    """Images (N, H, W, C) uint8 of a training set, made from their sources when they are read; indexed as a memory map is.

    Row r is variant r // M of member r % M. A set of k copies of its M members has k x M rows. One whose variants are
    fresh has M rows, and makes those beyond too: row r of epoch e is row r + e x M. An image depends on its row alone.

    Raises `UserError` where the synthetic images are of another shape, or too few.
    """

    ndim, dtype = 4, np.dtype(np.uint8)

    def __init__(self, job: Augment, real: ImageSet, synthetic: ImageSet | None):
        if synthetic and synthetic.images.shape[1:] != real.images.shape[1:]:
            shapes = synthetic.images.shape[1:], real.images.shape[1:]
            raise UserError("synthetic images are {}, real ones {}: they must be alike".format(*shapes))
        made = synthetic.labels if synthetic else None
        members = mix(real.labels, made, job.recipe.synthetic, job.recipe.mode, job.seed, real.classes)
        self.job, self.sources = job, {"real": real, "synthetic": synthetic}
        self.origins = np.array([ORIGINS.index(origin) for origin, _ in members], dtype=np.uint8)
        self.indices = np.array([index for _, index in members])
        self.fresh = job.copies == "fresh"
        self.copies = 1 if self.fresh else job.copies
        self.shape = (len(members) * self.copies, *real.images.shape[1:])
        self.nbytes = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        labels = np.zeros(len(self.indices), dtype=np.int64)
        for origin in np.unique(self.origins):
            mine = self.origins == origin
            labels[mine] = self.sources[ORIGINS[origin]].labels[self.indices[mine]]
        return np.tile(labels, self.copies)

    def manifest(self) -> dict[str, object]:
        """Columns of the manifest: where each image comes from, which variant it is, and what was done."""
        copy = np.repeat(np.arange(self.copies), len(self.indices))
        transform = " ".join(f"{step.kind}-{step.level:g}" for step in self.job.recipe.augmentations)
        origin = np.array(ORIGINS, dtype=object)[np.tile(self.origins, self.copies)]
        source = np.tile(self.indices, self.copies)
        return {"origin": origin, "source": source, "copy": copy, "transform": transform}

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._made, range(len(self)))

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key) -> np.ndarray:
        rows, *others = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        if np.ndim(rows) == 0:
            return self._made(int(rows))[tuple(others)]
        made = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        for position, row in enumerate(np.asarray(rows)):
            made[position] = self._made(int(row))
        return made[(slice(None), *others)]

    def _made(self, row: int) -> np.ndarray:
        copy, member = divmod(row, len(self.indices))
        if row < 0 or (copy >= self.copies and not self.fresh):
            raise IndexError(f"row {row} of {len(self)}")
        origin, index = ORIGINS[self.origins[member]], int(self.indices[member])
        image, steps = self.sources[origin].images[index], self.job.recipe.augmentations
        return augmented(image, steps, copy, self.job.seed, origin, index) if steps else image

    def read(self, batches: Iterable[np.ndarray], workers: int = 0) -> Iterator[np.ndarray]:
        """Images (B, H, W, C) of each of `batches` of rows (B,), in order, made by so many processes ahead of the reader.

        Without processes they are made when they are asked for.
        """
        if workers == 0:
            return (self[rows] for rows in batches)
        counts: deque[int] = deque()  # pieces of the batches that are on the way

        def pieces() -> Iterator[np.ndarray]:
            for rows in batches:
                parts = np.array_split(rows, -(-len(rows) // PIECE))
                counts.append(len(parts))
                yield from parts

        made = _by_processes(self, pieces(), workers)
        return (np.concatenate([first, *(next(made) for _ in range(counts.popleft() - 1))]) for first in made)

    def write(self, images: np.memmap, start: int = 0, workers: int = 0) -> Iterator[int]:
        """Write all images from `start` on into a memory map of them; how many are there, after each piece.

        Processes write into the map themselves: sending large images to each other takes longer than making them.
        """
        pieces = (np.arange(first, min(first + PIECE, len(self))) for first in range(start, len(self), PIECE))
        written = _Written(self, images)
        return _by_processes(written, pieces, workers) if workers else (written[rows] for rows in pieces)


class _Written:
    """Rows of variants, written into the memory map `images` when they are asked for; the number after the last one."""

    def __init__(self, variants: Variants, images: np.memmap):
        self.variants, self.images = variants, images

    def __getitem__(self, rows: np.ndarray) -> int:
        self.images[rows] = self.variants[rows]
        return int(rows[-1]) + 1


def _by_processes(source: Variants | _Written, pieces: Iterable[np.ndarray], workers: int) -> Iterator:
    """What `source` gives for each of `pieces` of rows, in order, from so many processes."""
    import torch
    from torch.utils.data import DataLoader

    # Arrays travel through pipes: tensors would through /dev/shm, which is small in containers.
    loader = DataLoader(
        source, batch_size=None, sampler=pieces, num_workers=workers, collate_fn=_same, worker_init_fn=_start,
        generator=torch.Generator(), multiprocessing_context="fork",
    )  # fmt: skip
    # The processes start here and not with the first piece, which a thread may ask for: a fork belongs to the main thread.
    return iter(loader)


def _same(made: np.ndarray | int) -> np.ndarray | int:
    return made


def _start(worker: int) -> None:
    """A process that is told to stop leaves that to the one that reads: what it makes belongs to the state that is saved."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def open_variants(folder: Path) -> Variants:
    """The images of a training set that is not stored, by its record.

    Raises `UserError` where it would not make them as they were planned: the code has changed, or a source.
    """
    job = parse((Augment,), read_record(folder), str(folder / RECORD))
    check_origins(job)
    check_inputs(job.reads())
    return Variants(job, imageset.load(job.images), imageset.load(job.synthetic) if job.synthetic else None)
