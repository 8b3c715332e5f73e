"""Images on the device: uint8 from the memory map to normalised floats of the model's size."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from diversity_spectra.finetune.job import Network

ON_DEVICE_BYTES = 2 * 2**30


class Images:
    """Images (N, H, W, C) uint8 as batches (B, channels, side, side) float32 on a device.

    Sets that fit are moved once, as the uint8 they are; larger ones are read from the memory map batch by batch.
    Either way a batch has the same bits.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        network: Network,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        device: torch.device,
    ):
        self.source = images
        self.held = torch.from_numpy(np.array(images)).to(device) if images.nbytes <= ON_DEVICE_BYTES else None
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

    def batch(self, indices: torch.Tensor, flipped: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels at `indices` (B,) int64 on the CPU; those marked in `flipped` (B,) bool are mirrored."""
        if self.held is not None:
            indices = indices.to(self.device)
            pixels = self.held[indices]
        else:
            # Sorted reads go through the file once; the order is put back afterwards.
            order = torch.argsort(indices)
            read = torch.from_numpy(self.source[indices[order].numpy()])
            pixels = read[torch.argsort(order)].to(self.device, non_blocking=True)
        labels = self.labels[indices.to(self.device)]
        images = pixels.permute(0, 3, 1, 2).float()  # (B, C, H, W)
        if flipped is not None:
            images = torch.where(flipped.to(self.device).view(-1, 1, 1, 1), images.flip(3), images)
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
