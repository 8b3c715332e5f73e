"""Images on the device: uint8 from the memory map to normalised floats of the model's size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn import functional

from diversity_spectra import devices, imageset
from diversity_spectra.finetune.job import Network

AHEAD = 2  # batches that are read while the device works on one


class Images:
    """Images (N, H, W, C) uint8 as batches (B, channels, side, side) float32 on a device.

    Sets that fit are moved once, as the uint8 they are; of larger ones, and of those that are made when they are read, a
    thread reads batches ahead. Either way a batch has the same bits. fresh: rows beyond N are images too, of later epochs.
    workers: processes that make images.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        network: Network,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        device: torch.device,
        workers: int = 0,
    ):
        self.source, self.workers = images, workers
        self.fresh = getattr(images, "fresh", False)
        held = isinstance(images, np.ndarray) and images.nbytes <= devices.room(device)
        self.held = torch.from_numpy(np.array(images)).to(device) if held else None
        self.labels = torch.from_numpy(np.array(labels)).to(device)
        self.side, self.resize, self.channels = network.image_size, network.resize, network.channels
        self.device = device
        mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in normalisation)
        if self.channels == 1:  # statistics of colours, for a network that sees grey
            mean, std = mean.mean(1, keepdim=True), std.mean(1, keepdim=True)
        # (x / 255 - mean) / std in one multiplication and one addition
        self.scale, self.offset = 1 / (255 * std), -mean / std

    def __len__(self) -> int:
        return len(self.labels)

    def let_go(self) -> bool:
        """Read batches from now on, where images lie in a GPU's memory that the network needs; whether they did."""
        held = self.held is not None and self.device.type == "cuda"
        if held:
            self.held = None
        return held

    def ahead(self, batches: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Each of `batches` of rows (B,) int64 with its pixels (B, H, W, C) uint8 on the device; None where all are held.

        Images that no process makes are made when they are asked for: making them draws from the stream of the reader.
        """
        batches = iter(batches)
        while self.held is not None:
            if (rows := next(batches, None)) is None:
                return
            yield rows, None
        waiting: deque[torch.Tensor] = deque()

        def sorted_rows() -> Iterator[np.ndarray]:
            for rows in batches:
                waiting.append(rows)
                yield np.sort(rows.cpu().numpy())  # reads go through the file once

        pixels = imageset.read(self.source, sorted_rows(), self.workers)
        if isinstance(self.source, np.ndarray) or self.workers:
            pixels = _prefetched(pixels, self.device)
        else:
            pixels = (torch.from_numpy(part).to(self.device) for part in pixels)
        for part in pixels:
            rows = waiting.popleft()
            yield rows, part[torch.argsort(torch.argsort(rows, stable=True)).to(self.device, non_blocking=True)]

    def batch(
        self, indices: torch.Tensor, flipped: torch.Tensor | None = None, pixels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels at rows `indices` (B,) int64; those marked in `flipped` (B,) bool are mirrored.

        pixels: of these rows, as `ahead` gives them; left out, they are read.
        """
        if pixels is None and self.held is None:
            ((_, pixels),) = self.ahead([indices.cpu()])
        indices = indices.to(self.device, non_blocking=True)
        if pixels is None:
            pixels = self.held[indices]
        labels = self.labels[indices % len(self) if self.fresh else indices]
        images = pixels.permute(0, 3, 1, 2).float()  # (B, C, H, W)
        if flipped is not None:
            flipped = flipped.to(self.device, non_blocking=True).view(-1, 1, 1, 1)
            images = torch.where(flipped, images.flip(3), images)
        if images.shape[1] != self.channels:
            images = images.expand(-1, 3, -1, -1) if self.channels == 3 else images.mean(1, keepdim=True)
        height, width = images.shape[-2:]
        if (height, width) != (self.side, self.side):
            if self.resize == "pad" and max(height, width) < self.side:
                left, top = (self.side - width) // 2, (self.side - height) // 2
                images = functional.pad(images, (left, self.side - width - left, top, self.side - height - top))
            else:
                images = functional.interpolate(
                    images, (self.side, self.side), mode="bicubic", antialias=True, align_corners=False
                ).clamp(0, 255)
        images = images * self.scale + self.offset
        if self.channels == 3:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels


def _prefetched(batches: Iterator[np.ndarray], device: torch.device) -> Iterator[torch.Tensor]:
    """Arrays as tensors on the device, read by a thread; on their way to a GPU through pinned memory, beside its work."""

    def read() -> torch.Tensor | None:
        part = next(batches, None)
        return part if part is None else _pinned(torch.from_numpy(part), device)

    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(read) for _ in range(AHEAD))
        while (part := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(read))
            yield part.to(device, non_blocking=True)


def _pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """For a GPU in pinned memory, which torch's allocator gives to the next batch once this one is copied."""
    if device.type != "cuda":
        return tensor
    torch.cuda.set_device(device)  # of this thread
    return tensor.pin_memory()
