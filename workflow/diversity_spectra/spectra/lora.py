"""LoRA adapters (Hu et al., arXiv 2106.09685) over their base: W = W_base + scale * B @ A."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra.low_rank import Product
from diversity_spectra.spectra.safetensors_file import Entry

# PEFT, its embeddings, diffusers before PEFT, and Kohya: (down, up) by the name of the part.
DOWN = re.compile(
    r"(?P<head>.*?)[._]?(lora_A|lora_embedding_A|lora\.down|lora_down|lora_linear_layer\.down)(\.(?P<adapter>[^.]+))??(\.weight)?$"
)
UP = {
    "lora_A": "lora_B",
    "lora_embedding_A": "lora_embedding_B",
    "lora.down": "lora.up",
    "lora_down": "lora_up",
    "lora_linear_layer.down": "lora_linear_layer.up",
}
PREFIX = re.compile(r"^(base_model\.model\.|lora_unet_|lora_te\d?_|lora_transformer_)")
OTHER_KINDS = re.compile(r"(hada_w|lokr_|lora_mid|oft_|ia3_l)")


@dataclass(frozen=True)
class Pair:
    """Names of the two factors and of what goes with them, of one adapted parameter."""

    module: str
    down: str
    up: str
    embedding: bool
    alpha: str | None
    magnitude: str | None


def is_adapter(entries: dict[str, Entry]) -> bool:
    return any(DOWN.match(name) and "lora" in name for name in entries)


class LoraAdapter:
    """An adapter read as the model that it makes of its base; alone, as the update that it is.

    Args:
        path: of the adapter, beside which its configuration stands.
        key: which adapter, where the file holds several.

    Raises:
        UserError: several adapters and no key; a damaged configuration; a base that has none of the adapted modules.
    """

    def __init__(self, path: Path, adapter, base=None, key: str | None = None):
        self.adapter, self.base, self.metadata = adapter, base, adapter.metadata
        self._config = _configuration(path)
        pairs = _pairs(path, adapter.entries, key)
        parts = {name for pair in pairs for name in (pair.down, pair.up, pair.alpha, pair.magnitude) if name}
        self._names = _Names(base.entries if base else {})
        self._pairs = {self._names.of(pair.module): pair for pair in pairs}
        # Whole modules that were trained beside the factors.
        self._saved = {
            self._names.of(re.sub(r"\.modules_to_save(\.[^.]+)?(?=\.)", "", name).removesuffix(".weight"), name): name
            for name in adapter.entries
            if name not in parts and "lora" not in name
        }
        if base is not None and not any(name in base.entries for name in self._pairs):
            shown, there = next(iter(self._pairs)), next(iter(base.entries), "nothing")
            raise UserError(
                f"{path}: none of its {len(pairs)} modules is in the base, which has no {shown} (but {there})"
            )
        self.entries = dict(base.entries) if base else {}
        for name, pair in self._pairs.items():
            self._enter(name, pair)
        self.entries |= {name: adapter.entries[saved] for name, saved in self._saved.items()}

    def _enter(self, name: str, pair: Pair) -> None:
        down, up = self.adapter.entries[pair.down], self.adapter.entries[pair.up]
        shape = (up.shape[0], *down.shape[1:])
        if self._transposed(pair):
            shape = shape[::-1]
        known = self.entries.get(name)
        problem = ""
        if len(down.shape) not in (2, 3, 4, 5) or prod(up.shape[1:]) != down.shape[0]:
            problem = f"factors of shapes {up.shape} and {down.shape} do not fit"
        elif self.base is not None and known is None:
            problem = "not in the base"
        elif known is not None and known.shape != shape:
            problem = f"update of shape {'x'.join(map(str, shape))}, in the base {'x'.join(map(str, known.shape))}"
        elif pair.magnitude and self.base is None:
            problem = "DoRA scales the columns of the sum: give the base with --reference"
        self.entries[name] = Entry(shape, known.dtype if known else down.dtype, problem)

    def note(self, name: str) -> str:
        """What the row of a parameter should say beside its numbers."""
        pair = self._pairs.get(name)
        unknown = pair and pair.alpha is None and self._config is None
        return "no adapter_config.json: its scale is taken as 1" if unknown else ""

    def only_update(self, name: str) -> bool:
        """Is all that is known of a parameter how much it was changed?"""
        return self.base is None and name in self._pairs

    def update(self, name: str) -> Product | np.ndarray | None:
        """What was added to the base's parameter, where that is scale * B @ A; None where it is not known as such."""
        pair = self._pairs.get(name)
        return self._product(pair) if pair and not pair.magnitude else None

    def read(self, name: str) -> np.ndarray:
        if name in self._saved:
            return self.adapter.read(self._saved[name])
        if name not in self._pairs:
            return self.base.read(name)
        pair = self._pairs[name]
        product = self._product(pair)
        total = product.dense() + self.base.read(name).astype(np.float64)
        if pair.magnitude:
            # Liu et al., "DoRA", arXiv 2402.09353, eq. 5: each output has a norm of its own.
            axes = tuple(range(1, total.ndim)) if not self._transposed(pair) else (0,)
            magnitude = self.adapter.read(pair.magnitude).astype(np.float64).reshape(-1)
            norms = np.sqrt(np.square(total).sum(axis=axes, keepdims=True))
            total *= magnitude.reshape(norms.shape) / norms
        return total

    def _transposed(self, pair: Pair) -> bool:
        return pair.embedding or bool((self._config or {}).get("fan_in_fan_out"))

    def _product(self, pair: Pair) -> Product:
        down, up = (self.adapter.read(name).astype(np.float64) for name in (pair.down, pair.up))
        rank = down.shape[0]
        product = Product(
            self._scale(pair, rank) * up.reshape(up.shape[0], rank), down.reshape(rank, -1), down.shape[1:]
        )
        return product.T if self._transposed(pair) else product

    def _scale(self, pair: Pair, rank: int) -> float:
        if pair.alpha:
            return float(self.adapter.read(pair.alpha).astype(np.float64).reshape(-1)[0]) / rank
        config = self._config
        if config is None:
            return 1.0
        alpha = _by_pattern(config.get("alpha_pattern"), pair.module, config.get("lora_alpha", rank))
        return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _pairs(path: Path, entries: dict[str, Entry], key: str | None) -> list[Pair]:
    if other := next((name for name in entries if OTHER_KINDS.search(name)), None):
        raise UserError(f"{path}: {other}: of the adapters only LoRA and DoRA are read; merge it into its base first")
    matches = {name: match for name in entries if (match := DOWN.match(name))}
    adapters = sorted({match["adapter"] or "default" for match in matches.values()})
    if key is None and len(adapters) > 1:
        raise UserError(
            f"{path}: holds {len(adapters)} adapters ({', '.join(adapters)}); name one with --key, of a reference with --reference-key"
        )
    if key is not None and key not in adapters:
        raise UserError(f"{path}: no adapter {key}; there are: {', '.join(adapters)}")
    pairs = []
    for name, match in matches.items():
        kind, head = match[2], match["head"]
        up = f"{name[: match.start(2)]}{UP[kind]}{name[match.end(2) :]}"
        if (match["adapter"] or "default") != (key or adapters[0]):
            continue
        if up not in entries:
            raise UserError(f"{path}: {name} without {up}")
        tail = name[match.end(2) :]
        magnitudes = (f"{head}.lora_magnitude_vector{tail}", f"{head}.lora_magnitude_vector", f"{head}.dora_scale")
        found = [next((n for n in names if n in entries), None) for names in ((f"{head}.alpha",), magnitudes)]
        pairs.append(Pair(PREFIX.sub("", head), name, up, kind == "lora_embedding_A", *found))
    return pairs


class _Names:
    """The base's names of parameters, found also from names whose dots are underscores or that lack a prefix."""

    def __init__(self, entries: dict[str, Entry]):
        self._known = entries
        self._flat = {
            name.removesuffix(".weight").replace(".", "_"): name for name in entries if name.endswith(".weight")
        }

    def of(self, module: str, parameter: str | None = None) -> str:
        """Of a module's weight, or of the parameter itself where it is given by its name in the adapter."""
        weight = parameter is None or parameter.endswith(".weight")
        name = f"{module}.weight" if weight else module
        name = PREFIX.sub("", name)
        candidates = [
            name,
            name.removeprefix("model."),
            f"model.{name}",
            re.sub(r"^(unet|transformer|text_encoder)\.", "", name),
        ]
        found = next((candidate for candidate in candidates if candidate in self._known), None)
        return found or self._flat.get(name.removesuffix(".weight").replace(".", "_"), name)


def _by_pattern(patterns: dict | None, module: str, otherwise: float) -> float:
    """PEFT's rule: a pattern is a regular expression for the end of the module's path."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _configuration(path: Path) -> dict | None:
    file = path.parent / "adapter_config.json"
    if not file.exists():
        return None
    try:
        config = json.loads(file.read_text())
        if not isinstance(config, dict):
            raise ValueError
        for pattern in config.get("alpha_pattern") or {}:
            re.compile(pattern)
    except (ValueError, re.error) as error:
        raise UserError(f"{file}: not a readable configuration of an adapter ({error})") from None
    return config
