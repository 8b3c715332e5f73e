"""A small class-conditional diffusion model: training and sampling.

Predicts the clean image (x0) under the squared-cosine schedule (Nichol and Dhariwal 2021, arXiv 2102.09672), is sampled
with DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095) and classifier-free guidance (Ho and Salimans 2022, arXiv
2207.12598). Predicting the noise instead fails here: alpha is almost 0 at the last step, and the solver divides by it.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DModel
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

from diversity_spectra.errors import UserError
from diversity_spectra.execution import log
from diversity_spectra.generate.kind import Generator
from diversity_spectra.generate.sources import is_blank, pixels
from diversity_spectra.imageset import ImageSet
from diversity_spectra.resume import Resume
from diversity_spectra.seeds import derive_seed

EMA = 0.995
CLASS_DROPPED = 0.1
WARMUP_STEPS = 50
LOGGED = 50  # steps
TILE = {"cpu": 32, "cuda": 256}  # images that pass the network together
UNSHUFFLE = 2  # pixels are folded 2 x 2 into channels: a quarter of the positions, several times faster


def network(shape: tuple[int, int, int], classes: int, channels: list[int]) -> UNet2DModel:
    """UNet for images of `shape` (H, W, C); class index `classes` means no class."""
    height, width, depth = shape
    fold = UNSHUFFLE * 2 ** (len(channels) - 1)
    if height % fold or width % fold:
        raise UserError(
            f"generator: images of {height} x {width} need sides divisible by {fold} for {len(channels)} channels"
        )
    plain = len(channels) - 1
    return UNet2DModel(
        sample_size=height // UNSHUFFLE,
        in_channels=depth * UNSHUFFLE**2,
        out_channels=depth * UNSHUFFLE**2,
        block_out_channels=tuple(channels),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        num_class_embeds=classes + 1,
        norm_num_groups=8,
    )


def scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", solver_order=2, algorithm_type="dpmsolver++"
    )


def train(
    images: np.ndarray, labels: np.ndarray, settings: Generator, seed: int, device: torch.device, resume: Resume
) -> tuple[UNet2DModel, list[float]]:
    """Train on images (N, H, W, C) uint8 with labels (N,). Returns the averaged (EMA) model and the loss per step."""
    torch.manual_seed(derive_seed(seed, "ddpm", "weights"))
    classes = int(labels.max()) + 1
    model = network(images.shape[1:], classes, settings.channels).to(device).train()
    average = network(images.shape[1:], classes, settings.channels).to(device).eval()
    average.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, fused=True)
    follow = get_ema_multi_avg_fn(EMA)
    losses: list[float] = []
    recent: list[torch.Tensor] = []
    start = 0
    if state := resume.load():
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start, losses = state["step"], state["losses"]
    alphas = scheduler().alphas_cumprod.to(device)
    labels_all = torch.from_numpy(np.asarray(labels))
    with resume.watching():
        for step in range(start, settings.train_steps):
            random = torch.Generator().manual_seed(derive_seed(seed, "ddpm", step))
            chosen = torch.randint(len(images), (settings.batch_size,), generator=random)
            clean = _fold(torch.from_numpy(images[chosen.numpy()])).to(device)  # (B, 4C, H/2, W/2) in [-1, 1]
            target = labels_all[chosen]
            dropped = torch.rand(len(chosen), generator=random) < CLASS_DROPPED
            target = torch.where(dropped, classes, target).to(device)
            times = torch.randint(len(alphas), (len(chosen),), generator=random).to(device)
            noise = torch.randn(clean.shape, generator=random).to(device)
            alpha = alphas[times].view(-1, 1, 1, 1)
            noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
            loss = functional.mse_loss(model(noisy, times, class_labels=target).sample, clean)
            optimiser.param_groups[0]["lr"] = settings.lr * min(1, (step + 1) / WARMUP_STEPS)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            follow(list(average.parameters()), list(model.parameters()), step)
            recent.append(loss.detach())  # a tensor, so that the device need not be waited for
            due, last = resume.due(), step + 1 == settings.train_steps
            if due or last or (step + 1) % LOGGED == 0:
                losses += torch.stack(recent).tolist()
                recent = []
                if not np.isfinite(losses[-1]):
                    raise UserError(f"generator: the loss is {losses[-1]} at step {step}; lower generator.lr")
                log.info("step %d of %d, loss %.4f", step + 1, settings.train_steps, np.mean(losses[-LOGGED:]))
            if due:
                resume.save(
                    {
                        "step": step + 1,
                        "losses": losses,
                        "model": model.state_dict(),
                        "average": average.state_dict(),
                        "optimiser": optimiser.state_dict(),
                    }
                )
    return average, losses


@torch.inference_mode()
def sample(model: UNet2DModel, labels: np.ndarray, seeds: list[int], settings: Generator) -> np.ndarray:
    """One image per label and seed: (N, H, W, C) uint8. An image depends on its own seed and label only.

    The last bits of a matrix product depend on how many rows it has. So the images pass the network in tiles of one
    fixed size, the last one filled up, and come out the same whatever N is.
    """
    tiles, tile = [], TILE[model.device.type]
    for start in range(0, len(seeds), tile):
        wanted = len(seeds[start : start + tile])
        filled = np.resize(np.arange(start, start + wanted), tile)
        tiles.append(_sample_tile(model, labels[filled], [seeds[index] for index in filled], settings)[:wanted])
    return np.concatenate(tiles)


def _sample_tile(model: UNet2DModel, labels: np.ndarray, seeds: list[int], settings: Generator) -> np.ndarray:
    device = next(model.parameters()).device
    shape = (model.config.in_channels, model.config.sample_size, model.config.sample_size)
    start = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    images = start.to(device)
    target = torch.from_numpy(np.asarray(labels)).to(device)
    nothing = torch.full_like(target, model.config.num_class_embeds - 1)
    steps = scheduler()
    steps.set_timesteps(settings.inference_steps, device=device)
    guidance = settings.guidance
    for time in steps.timesteps:
        predicted = model(images, time, class_labels=target).sample
        if guidance != 1:
            without = model(images, time, class_labels=nothing).sample
            predicted = without + guidance * (predicted - without)
        images = steps.step(predicted, time, images).prev_sample
    return _unfold(images)


def _fold(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, C) uint8 -> (N, 4C, H/2, W/2) in [-1, 1]."""
    return functional.pixel_unshuffle(images.permute(0, 3, 1, 2).float() / 127.5 - 1, UNSHUFFLE)


def _unfold(images: torch.Tensor) -> np.ndarray:
    """(N, 4C, H/2, W/2) in [-1, 1] -> (N, H, W, C) uint8."""
    shuffled = functional.pixel_shuffle(images, UNSHUFFLE).clamp(-1, 1)
    return np.stack([pixels(image) for image in ((shuffled + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()])


class Trained:
    """The trained model as a source of images."""

    def __init__(self, settings: Generator, folder: str, real: ImageSet, seed: int, device: torch.device):
        try:
            self.model = UNet2DModel.from_pretrained(folder, subfolder="unet", use_safetensors=True).to(device).eval()
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: not a trained generator ({error})") from None
        self.settings, self.seed, self.classes, self.tile = settings, seed, real.classes, TILE[device.type]

    def count(self, real: ImageSet) -> int:
        return self.settings.count(len(real.classes))

    def draw(self, indices: np.ndarray) -> tuple[np.ndarray, list[dict]]:
        labels = indices % len(self.classes)
        seeds = [derive_seed(self.seed, "generate", index) for index in indices]
        images = sample(self.model, labels, seeds, self.settings)
        rows = [
            {
                "index": int(index),
                "label": int(label),
                "class": self.classes[label],
                "seed": seed,
                "prompt": "",
                "kept": not is_blank(image),
                "reason": "blank" if is_blank(image) else "",
            }
            for index, label, seed, image in zip(indices, labels, seeds, images, strict=True)
        ]
        return images, rows
