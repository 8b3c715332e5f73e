"""Features of images in the embedding space of a timm model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.errors import UserError

if TYPE_CHECKING:
    import torch

    from diversity_spectra.finetune.job import Precision

SMALLEST_SIDE = 32  # px; below it the strides of the usual networks leave a single position or none
BATCH = 64


def split_name(embedding: str) -> tuple[str, str]:
    """Architecture and weights of "ARCHITECTURE:WEIGHTS"; unnamed weights come from the hub."""
    architecture, _, weights = embedding.partition(":")
    return architecture, weights or "hub"


def load(
    embedding: str, image_size: int, device: str = "cpu"
) -> tuple[torch.nn.Module, tuple[float, ...], tuple[float, ...]]:
    """The model named ARCHITECTURE[:WEIGHTS] in evaluation mode, and the mean and deviation its input is scaled with.

    Raises UserError for a network that timm does not have, and where the device is missing.
    """
    import torch

    from diversity_spectra.finetune.job import Network
    from diversity_spectra.finetune.models import create, normalisation
    from diversity_spectra.settings import validate

    architecture, weights = split_name(embedding)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device}: this machine has no GPU that torch can use; use cpu")
    # Without a classifier a timm model returns its pooled features.
    network = validate(Network, {"architecture": architecture, "image_size": image_size}, f"embedding {embedding}")
    # Convolutions over few channels are three times as fast in this layout.
    model = create(network, 0, weights).to(device, memory_format=torch.channels_last).eval()
    return model, *normalisation(model)


def embed(
    images: np.ndarray,
    indices: np.ndarray,
    model: torch.nn.Module,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = "cpu",
    workers: int = 0,
    precision: Precision = "float32",
) -> np.ndarray:
    """Features (len(indices), d) float32 of images (N, H, W, C) uint8, read in batches, so images may be a memory map.

    So many `workers` make images that are made when they are read.

    Grey images are repeated to three channels; images are resized (bilinear, antialiased) to image_size x image_size
    px, scaled to [0, 1] and standardised with mean and std. `model` maps (b, 3, s, s) to (b, d). Raises UserError for
    images with other than 1 or 3 channels.
    """
    import torch
    from torch.nn.functional import interpolate

    from diversity_spectra.devices import computing, in_memory

    if images.shape[3] not in (1, 3):
        raise UserError(f"an embedding takes images with 1 or 3 channels, these have {images.shape[3]}")
    shift, scale = (torch.tensor(value, device=device).view(1, 3, 1, 1) for value in (mean, std))

    def features(part: torch.Tensor) -> torch.Tensor:
        pixels = part.to(device).permute(0, 3, 1, 2).expand(-1, 3, -1, -1).float() / 255  # b h w c -> b 3 h w
        if pixels.shape[2:] != (image_size, image_size):
            pixels = interpolate(pixels, (image_size, image_size), mode="bilinear", antialias=True).clamp(0, 1)
        output = model((pixels - shift) / scale)
        if output.ndim != 2 or output.shape[1] == 0:
            raise UserError(f"the embedding gives features of shape {tuple(output.shape)}, not one vector an image")
        return output.float()

    batches = np.split(indices, range(BATCH, len(indices), BATCH))
    with torch.inference_mode(), computing(precision, torch.device(device)):
        made = in_memory(features, ((torch.from_numpy(part),) for part in imageset.read(images, batches, workers)))
        return torch.cat(made).cpu().numpy()


def default_size(images: np.ndarray) -> int:
    """Side in px at which images (N, H, W, C) are embedded unless one is asked for: their own, at least 32."""
    return max(SMALLEST_SIDE, *images.shape[1:3])
