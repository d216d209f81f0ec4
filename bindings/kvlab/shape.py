"""What a network looks like to a cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rope:
    """Rotary embedding: pair c of a head turns by position * inv_freq[c].

    style: "half_split" pairs features (c, c + rotary_dim / 2), "interleaved" (2c, 2c + 1).
    rotary_dim: features that turn, even; those above are left alone.
    inv_freq: rotary_dim / 2 numbers, radians per position.
    attention_factor: cos and sin are multiplied by it (YaRN).
    """

    rotary_dim: int
    inv_freq: tuple[float, ...]
    style: Literal["half_split", "interleaved"] = "half_split"
    attention_factor: float = 1.0

    @staticmethod
    def plain(head_dim: int, theta: float = 10000.0) -> Rope:
        """inv_freq[c] = theta ** (-2 c / head_dim), all features.

        >>> Rope.plain(4).inv_freq
        (1.0, 0.01)
        """
        pairs = range(head_dim // 2)
        return Rope(head_dim, tuple(theta ** (-2 * c / head_dim) for c in pairs))


@dataclass(frozen=True)
class Layer:
    """One place of a network that appends to a cache and attends over it.

    num_heads: H, query heads.  num_kv_heads: Hkv, a divisor of H; 0: as many.  Query head h reads
    kv head h / (H / Hkv).
    head_dim: d of queries and keys.  value_dim: dv of values; 0: d.
    scale: logits = scale * <q, k>; 0: 1 / sqrt(d).
    softcap: logits = softcap * tanh(logits / softcap); 0: none.
    window_left: keys at positions >= query - window_left are visible; -1: all.
    rope: None where keys are not rotated.
    learned_sink: attend() is given one logit per head that has no value.
    alibi_slopes: H numbers, or none; logits += slope * (key position - query position).
    distance_bias: entries per head of the bias that attend() is given (T5); 0: none.
    """

    num_heads: int
    head_dim: int
    num_kv_heads: int = 0
    value_dim: int = 0
    scale: float = 0.0
    softcap: float = 0.0
    window_left: int = -1
    rope: Rope | None = None
    learned_sink: bool = False
    alibi_slopes: tuple[float, ...] = ()
    distance_bias: int = 0

    def __post_init__(self) -> None:
        put = object.__setattr__  # what 0 stands for
        put(self, "num_kv_heads", self.num_kv_heads or self.num_heads)
        put(self, "value_dim", self.value_dim or self.head_dim)
        put(self, "scale", self.scale or 1 / math.sqrt(max(self.head_dim, 1)))


@dataclass(frozen=True)
class ModelShape:
    """A network: its layers, and what methods may ask about the rest.

    width: D of hidden states, for methods that read them; 0: H * d of the first layer.
    fingerprint: of the weights.  Saved rows and artifacts of another are refused.
    """

    layers: tuple[Layer, ...]
    width: int = 0
    architecture: str = "custom"
    fingerprint: str = ""
    vocab_size: int = 1
    max_positions: int = 1 << 20

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        object.__setattr__(self, "layers", layers)
        if layers:
            width = self.width or layers[0].num_heads * layers[0].head_dim
            object.__setattr__(self, "width", width)

    @staticmethod
    def alike(num_layers: int, num_heads: int, head_dim: int, **more) -> ModelShape:
        """Layers that are all the same; `more` goes to Layer.

        >>> len(ModelShape.alike(32, num_heads=32, num_kv_heads=8, head_dim=128).layers)
        32
        """
        return ModelShape((Layer(num_heads=num_heads, head_dim=head_dim, **more),) * num_layers)
