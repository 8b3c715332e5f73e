"""Stage `generate`: synthetic images from a diffusion model."""
