"""Networks of our own, next to timm's: small ones that train from scratch in seconds.

To add one: a module with `forward`, `forward_features`, `get_classifier`, `group_matcher` and `pretrained_cfg`, in `NETWORKS` by name.
They are built without importing timm, which takes longer than training them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class MultilayerPerceptron(nn.Module):
    """Two hidden layers with ReLU on flattened pixels; dropout after each of them."""

    def __init__(self, num_classes: int, in_chans: int, img_size: int, width: int = 256, drop_rate: float = 0.0):
        super().__init__()
        self.fc1 = nn.Linear(in_chans * img_size**2, width)
        self.drop1 = nn.Dropout(drop_rate)
        self.fc2 = nn.Linear(width, width)
        self.drop2 = nn.Dropout(drop_rate)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        self.pretrained_cfg = {"mean": (0.5,) * in_chans, "std": (0.5,) * in_chans, "classifier": "head"}

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.drop1(functional.relu(self.fc1(images.flatten(1))))  # (N, width)
        return self.drop2(functional.relu(self.fc2(hidden)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict:
        return {"blocks": r"^fc(\d+)"}


NETWORKS = {"mlp_small": MultilayerPerceptron}
