"""Random streams: every random thing has a seed of its own, derived from its name."""

from __future__ import annotations

import hashlib
import json


def derive_seed(*parts: object) -> int:
    """A 63-bit seed for the thing that `parts` name, independent of order, batch and number of workers."""
    text = json.dumps([str(part) for part in parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
