"""Diffusers pipelines of random weights, small enough to build and run in a moment."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = [
    "<|startoftext|>",
    "<|endoftext|>",
    "a</w>",
    "photo</w>",
    "of</w>",
    "cat</w>",
    "dog</w>",
    *"abcdefghijklmnopqrstuvwxyz",
]


def tokenizer(folder: Path):
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True)
    vocabulary = {
        word: index for index, word in enumerate([*WORDS, *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")])
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def parts(folder: Path, width: int, cross: int, **unet: object) -> dict:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    return {
        "vae": AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
        ),
        "unet": UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            sample_size=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=cross,
            attention_head_dim=4,
            norm_num_groups=4,
            **unet,
        ),
        "scheduler": DDIMScheduler(),
        "tokenizer": tokenizer(folder / "words"),
    }


def text_config(width: int):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
    )


def stable_diffusion(folder: Path) -> Path:
    """Write a pipeline of the Stable-Diffusion kind; returns its folder."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    made = parts(folder, 8, 8)
    pipeline = StableDiffusionPipeline(
        **made,
        text_encoder=CLIPTextModel(text_config(8)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def sdxl(folder: Path) -> Path:
    """The same of the SDXL kind, with two text encoders."""
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    extra = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 56,
    }
    made = parts(folder, 8, 16, **extra, transformer_layers_per_block=1)
    pipeline = StableDiffusionXLPipeline(
        **made,
        tokenizer_2=tokenizer(folder / "words2"),
        text_encoder=CLIPTextModel(text_config(8)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(8)),
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"
