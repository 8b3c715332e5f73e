"""Which parameters are trained, and at what share of the learning rate: layer by layer, as timm groups them."""

from __future__ import annotations

from torch import nn

from diversity_spectra.errors import UserError
from diversity_spectra.finetune.job import Training
from diversity_spectra.finetune.models import in_head


def parameter_groups(model: nn.Module, recipe: Training) -> list[dict]:
    """Groups of parameters as optimisers take them, with `lr_scale`, their share of the learning rate.

    What is not trained is in none of them, and asks for no gradient.
    """
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    shares, decaying = rates(model, recipe), decays(model, recipe)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(shares[name] > 0)
        if shares[name]:
            found.setdefault((shares[name], decaying[name]), []).append(parameter)
    return [
        {"params": members, "weight_decay": decay(recipe) if decayed else 0.0, "lr_scale": share}
        for (share, decayed), members in found.items()
    ]


def decay(recipe: Training) -> float:
    """Of every condition, and what this one adds."""
    return recipe.base_weight_decay + recipe.weight_decay


def decays(model: nn.Module, recipe: Training) -> dict[str, bool]:
    """Whether weight decay acts on a parameter: not on vectors, nor on what timm excepts, such as position embeddings.

    With `decay_vectors` on all.
    """
    if recipe.decay_vectors:
        return {name: True for name, _ in model.named_parameters()}
    excepted = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    return {name: parameter.ndim > 1 and name not in excepted for name, parameter in model.named_parameters()}


def rates(model: nn.Module, recipe: Training) -> dict[str, float]:
    """Share of the learning rate of every parameter, by name; 0 for those that are not trained.

    With layer-wise decay (Bao et al. 2022, arXiv 2106.08254) it falls by a factor from each of timm's groups of layers to the
    one before; the classifier has the whole. Of networks that are trained in part, the classifier and the last blocks are;
    a block is a group that holds a matrix. Raises `UserError` for a network without groups, or with fewer.
    """
    names, trained = [name for name, _ in model.named_parameters()], recipe.trained_blocks
    group = groups(model) if recipe.layer_decay < 1 or trained else dict.fromkeys(names, 0)
    last = max(group.values())
    shares = {name: recipe.layer_decay ** (last - group[name]) for name in names}
    if trained is None:
        return shares
    matrices = (name for name, parameter in model.named_parameters() if parameter.ndim > 1 and not in_head(model, name))
    blocks = sorted({group[name] for name in matrices})
    if trained > len(blocks):
        raise UserError(f"trained_blocks is {trained}, {type(model).__name__} has {len(blocks)} blocks of layers")
    first = blocks[-trained] if trained else last + 1
    return {name: share if group[name] >= first or in_head(model, name) else 0.0 for name, share in shares.items()}


def groups(model: nn.Module) -> dict[str, int]:
    """Number of the group of layers of every parameter, from the input on, by timm's own matcher."""
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        raise UserError(f"timm does not say which layers {type(model).__name__} has")
    return group_parameters(model, model.group_matcher(coarse=False), reverse=True)
