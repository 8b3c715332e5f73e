"""What a GPU makes of each stage, in ten minutes and without a network; writes benchmarks/gpu.md where there is a GPU.

    python benchmarks/bench_gpu.py [--cpu]

--cpu takes tiny sizes on the CPU, to try this script itself. Networks have random weights: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from diversity_spectra import devices, imageset
from diversity_spectra.finetune import models, training
from diversity_spectra.finetune.images import Images
from diversity_spectra.finetune.job import Network, Training

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import tiny_pipelines

REPEATS = 3
# Network, side of the stored images, batch, steps that are timed.
FULL = (
    ("vit_base_patch32_clip_224", 224, 224, 512, 30),
    ("resnet50", 224, 224, 128, 30),
    ("resnet18", 32, 32, 128, 100),
)
TINY = (("resnet18", 32, 32, 8, 3),)


class NoStates:
    """In the place of `Resume`: nothing is saved."""

    load = staticmethod(lambda: None)
    due = staticmethod(lambda: False)
    watching = staticmethod(lambda: tempfile.TemporaryDirectory())


class Bench:
    def __init__(self, cpu: bool):
        self.cpu = cpu
        self.device = devices.choose("cpu" if cpu else "cuda", 1 if cpu else 8)
        self.lines: list[str] = []

    def wait(self) -> None:
        if not self.cpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[int], object], amount: int, warm: int) -> float:
        """Median seconds of `amount` more, between a short and a long call, so that what both do cancels."""
        work(warm)
        found = []
        for _ in range(REPEATS):
            ends = []
            for steps in (warm, warm + amount):
                self.wait()
                start = time.perf_counter()
                work(steps)
                self.wait()
                ends.append(time.perf_counter() - start)
            found.append(max(ends[1] - ends[0], 1e-9))
        return statistics.median(found)

    def say(self, what: str, value: str, beside: str = "") -> None:
        self.lines.append(f"| {what} | {value} | {beside} |")
        print(self.lines[-1], flush=True)

    # ------------------------------------------------------------ training and evaluation

    def training(self, architecture: str, stored: int, side: int, batch: int, steps: int) -> None:
        """The loop of stage finetune against the same step on a batch that lies on the device."""
        network = Network(architecture=architecture, image_size=side)
        recipe = Training(steps=1, batch_size=batch, lr=1e-4, precision="bfloat16", flip=True)
        statistics_of = ((0.5,) * 3, (0.5,) * 3)

        def model(compiled: bool = False) -> nn.Module:
            torch.manual_seed(0)
            made = models.create(network, 10).to(self.device).to(memory_format=torch.channels_last)
            if compiled:
                made.compile()
            return made

        with tempfile.TemporaryDirectory() as place:
            pixels = imageset.new_images(Path(place), (4 * batch, stored, stored, 3))
            pixels[:] = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
            labels, room = np.arange(len(pixels)) % 10, devices.room
            held = Images(pixels, labels, network, statistics_of, self.device)
            devices.room = lambda device: 0
            mapped = Images(pixels, labels, network, statistics_of, self.device)
            devices.room = room

            def bare(count: int) -> None:
                net = model().train()
                optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
                inputs, targets = held.batch(torch.arange(batch))
                for _ in range(count):
                    optimiser.zero_grad(set_to_none=True)
                    with torch.autocast(self.device.type, torch.bfloat16):
                        loss = functional.cross_entropy(net(inputs), targets)
                    loss.backward()
                    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                    optimiser.step()

            def ours(images: Images, compiled: bool = False, **changes: object) -> Callable[[int], None]:
                def train(count: int) -> None:
                    chosen = recipe.model_copy(update={"steps": count, **changes})
                    training.train(model(compiled), images, chosen, 0, NoStates())

                return train

            floor = batch * steps / self.seconds(bare, steps, 3)
            name = f"{architecture}, {side} px, batch {batch}"
            self.say(f"{name}: bare step in bfloat16", f"{floor:.0f} images/s", "100 %")
            loops = {"set on the device": ours(held), "from the memory map": ours(mapped)}
            loops |= {"in float16": ours(held, precision="float16"), "in float32": ours(held, precision="float32")}
            loops |= {} if self.cpu else {"compiled": ours(held, compiled=True)}
            for told, loop in loops.items():
                rate = batch * steps / self.seconds(loop, steps, 3)
                self.say(f"{name}: {told}", f"{rate:.0f} images/s", f"{rate / floor:.0%}")
            self.evaluation(model(), pixels, network)

    def evaluation(self, model: nn.Module, pixels: np.ndarray, network: Network) -> None:
        from diversity_spectra.evaluate.command import predict

        images = imageset.ImageSet(pixels, np.zeros(len(pixels), np.int64), {"classes": ["a"]})
        exact = None
        for precision in ("float32", "tf32", "bfloat16"):
            predict(model, images, network, self.device, precision)
            start = time.perf_counter()
            logits = predict(model, images, network, self.device, precision)
            rate = len(pixels) / (time.perf_counter() - start)
            exact = logits if exact is None else exact
            off = f"logits off by {np.abs(logits - exact).max() / exact.std():.0e} sd"
            self.say(f"{network.architecture}: evaluation in {precision}", f"{rate:.0f} images/s", off)

    # ------------------------------------------------------------ generation and spectra

    def generation(self) -> None:
        """A pipeline of the size of Stable Diffusion 1.5, in our tiles and in the plain loop, an image at a time."""
        from diversity_spectra.generate.kinds.text_to_image import TextToImage
        from diversity_spectra.generate.pipeline import Pipeline

        count, side, steps = (2, 32, 2) if self.cpu else (32, 512, 25)
        real = imageset.ImageSet(np.zeros((2, 32, 32, 3), np.uint8), np.arange(2), {"classes": ["cat", "dog"]})
        with tempfile.TemporaryDirectory() as place:
            folder = tiny_pipelines.stable_diffusion(Path(place, "p")) if self.cpu else large_pipeline(Path(place))
            settings = TextToImage.model_construct(
                **{name: field.get_default() for name, field in TextToImage.model_fields.items()}
            ).model_copy(
                update={
                    "kind": "text_to_image", "model": str(folder), "guidance": 2.0, "inference_steps": steps, "redraws": 0,
                    "image_size": side, "dtype": "float32" if self.cpu else "float16",
                    "scheduler": "DPMSolverMultistepScheduler",
                }
            )  # fmt: skip
            ways = [("plain loop", 1, False), ("tiles", settings.tile, False)]
            ways += [] if self.cpu else [("tiles, compiled", settings.tile, True)]
            for name, tile, compiled in ways:
                source = Pipeline(settings.model_copy(update={"compile": compiled}), real, 0, self.device)
                source.tile = tile
                source.draw(np.arange(tile))
                self.wait()
                start = time.perf_counter()
                source.draw(np.arange(count))
                self.wait()
                rate = count / (time.perf_counter() - start)
                self.say(f"Stable Diffusion's size, {side} px, {steps} steps: {name} of {tile}", f"{rate:.2f} images/s")

    def spectra(self) -> None:
        from diversity_spectra.spectra.table import analyse

        network = Network(architecture="vit_tiny_patch16_224" if self.cpu else "vit_large_patch16_224")
        with tempfile.TemporaryDirectory() as place:
            save_file(models.create(network, 10).state_dict(), path := Path(place, "model.safetensors"))
            found, took = {}, {}
            for where in dict.fromkeys(("cpu", self.device.type)):
                start = time.perf_counter()
                found[where] = analyse(path, threads=2, device=where).rows.query("analysed")
                took[where] = time.perf_counter() - start
                self.say(f"spectra of {network.architecture} on {where}, 2 threads", f"{took[where]:.1f} s")
            for measure in ("alpha", "stable_rank", "entropy"):
                here, there = found["cpu"][measure], found[self.device.type][measure]
                self.say(f"largest relative difference of {measure}", f"{np.nanmax(np.abs(there / here - 1)):.1e}")


def large_pipeline(place: Path) -> Path:
    """A pipeline with the configuration of Stable Diffusion 1.5 and random weights, in float16."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=64, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=16, projection_dim=768, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    parts = {
        "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        "vae": AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512,
        ),
        "text_encoder": CLIPTextModel(config),
    }  # fmt: skip
    made = StableDiffusionPipeline(
        **{name: part.to(torch.float16) for name, part in parts.items()}, scheduler=DDIMScheduler(), safety_checker=None,
        tokenizer=tiny_pipelines.tokenizer(place / "words"), feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    made.save_pretrained(place / "pipeline")
    return place / "pipeline"


def machine(device: torch.device) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "timm", "diffusers"))
    return f"{devices.describe(device)}; Python {sys.version.split()[0]}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="tiny sizes on the CPU")
    bench = Bench(parser.parse_args().cpu)
    parts = [lambda sizes=sizes: bench.training(*sizes) for sizes in (TINY if bench.cpu else FULL)]
    for part in (*parts, bench.generation, bench.spectra):
        try:
            part()
        except Exception as error:  # the other parts are worth their time
            bench.say(f"FAILED: {type(error).__name__}", str(error).split("\n")[0][:200])
        gc.collect()
        if not bench.cpu:
            torch.cuda.empty_cache()
    page = f"# On a GPU\n\n    make bench-gpu\n\n{machine(bench.device)}; medians of {REPEATS}.\n\n| what | | |\n|---|---|---|\n"
    page += "\n".join(bench.lines) + "\n"
    if not bench.cpu:
        (Path(__file__).parent / "gpu.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
