"""Networks of our own, next to timm's: small ones that train from scratch in seconds.

To add one: a module with `forward`, `forward_features`, `get_classifier`, `group_matcher` and `pretrained_cfg`, in
`NETWORKS` by name. They are built without importing timm, which takes longer than training them.
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


def resnet18_small(
    num_classes: int, in_chans: int, img_size: int, drop_rate: float = 0.0, **options: object
) -> nn.Module:
    """timm's ResNet-18 with the stem of He et al. (2016, arXiv 1512.03385, section 4.2) for images of 32 pixels.

    A 3 x 3 convolution of stride 1 in place of the 7 x 7 one of stride 2, and no pooling after it.
    """
    import timm

    model = timm.create_model("resnet18", num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, **options)
    model.conv1 = nn.Conv2d(in_chans, model.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


NETWORKS = {
    "mlp_small": MultilayerPerceptron,
    "resnet18_small": resnet18_small,
}
