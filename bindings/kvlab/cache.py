"""The compressed cache, for a model of your own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

import torch

from kvlab import _kvlab
from kvlab.shape import ModelShape

ReadPolicy = Literal["raw_chunk", "stored", "masked"]
ChunkEnd = Literal["chunk", "prompt", "step"]


@dataclass(frozen=True)
class Bytes:
    """Counted where memory was allocated, in bytes.

    payload: stored numbers; residual is the part of it that is not compressed yet.  metadata:
    scales, positions, page tables.  state: recurrent states.  committed: what the cache holds of
    the machine's memory; reserved: addresses.  scratch: beside the cache, now and at most.
    """

    payload: int
    metadata: int
    residual: int
    state: int
    committed: int
    reserved: int
    scratch: int
    scratch_peak: int

    @property
    def cache_bytes(self) -> int:
        """What every report calls the size of a cache."""
        return self.payload + self.metadata + self.state

    @property
    def slack(self) -> int:
        """Committed and not used."""
        return self.committed - self.cache_bytes


@dataclass(frozen=True)
class Ran:
    """What the last attend of a layer did: its level and kernel and why, what it counted."""

    level: str
    kernel: str
    reason: str
    bytes_read: int
    flops: int
    scratch_bytes: int
    certified_error: float


class Cache:
    """Keys and values of a batch of sequences, stored as a method says and attended as stored.

    shape: the network's layers.
    method: a name ("quant"), a chain ("window+quant") or the JSON of a config
        ({"name": "quant", "params": {"bits": 4}}); see methods() and method_info().
    dtype: of the rows you append; float32, bfloat16 or float16.
    threads: 0 for torch's own number.
    addressing: "automatic", "paged" or "contiguous"; page_tokens: a power of two.
    max_bytes: committed memory at most (E_FULL beyond); None: the machine's.
    max_tokens: per sequence.  rollback: positions that truncate() can surely take back.
    split_tokens: cut work at multiples of this many positions, so that a sequence's result does
        not depend on its batch or on threads; 0: balanced.
    level: "automatic", "fused", "absorbed" or "materialised".

    Everything is on the CPU.  One thread at a time may be inside a cache.  Errors: kvlab.Error.

    >>> shape = ModelShape.alike(1, num_heads=4, num_kv_heads=2, head_dim=64)
    >>> cache = Cache(shape, {"name": "quant", "params": {"bits": 8}}, dtype=torch.float32)
    >>> one = cache.add_sequence()
    >>> with cache.chunk({one: 3}):
    ...     cache.append(0, keys=torch.randn(3, 2, 64), values=torch.randn(3, 2, 64))
    ...     out = cache.attend(0, torch.randn(3, 4, 64))
    >>> out.shape, cache.tokens_seen(one)
    (torch.Size([3, 4, 64]), 3)
    """

    def __init__(
        self,
        shape: ModelShape,
        method: str | Mapping[str, Any] = "dense",
        *,
        dtype: torch.dtype = torch.float32,
        threads: int = 0,
        addressing: str = "automatic",
        page_tokens: int = 64,
        max_bytes: int | None = None,
        max_tokens: int = 1 << 20,
        rollback: int = 0,
        compact_share: float = 0.25,
        split_tokens: int = 0,
        level: str = "automatic",
    ) -> None:
        where = {
            "dtype": str(dtype).removeprefix("torch."),
            "threads": threads,
            "addressing": addressing,
            "page_tokens": page_tokens,
            "max_bytes": -1 if max_bytes is None else max_bytes,
            "max_tokens": max_tokens,
            "rollback": rollback,
            "compact_share": compact_share,
            "split_tokens": split_tokens,
            "level": level,
        }
        self._native = _kvlab.Cache(shape, method, where)
        self.shape = shape

    # --- sequences ---

    def add_sequence(self) -> int:
        """A new, empty sequence; its number is never used again."""
        return self._native.add_sequence()

    def fork(self, sequence: int) -> int:
        """A sequence that reads the same from now on; memory is shared until one of them writes."""
        return self._native.fork(sequence)

    def drop(self, sequence: int) -> None:
        """Forgets a sequence and frees what only it held."""
        self._native.drop(sequence)

    def truncate(self, sequence: int, tokens: int) -> None:
        """Keeps the first `tokens` tokens, exactly as if no others had come, or E_TRUNCATE."""
        self._native.truncate(sequence, tokens)

    def tokens_seen(self, sequence: int) -> int:
        return self._native.tokens_seen(sequence)

    # --- a pass ---

    @contextmanager
    def chunk(
        self,
        tokens: Mapping[int, int],
        *,
        end: ChunkEnd = "step",
        read: ReadPolicy = "raw_chunk",
        token_ids: Sequence[int] = (),
    ) -> Iterator[Cache]:
        """One forward pass: begin_chunk, then end_chunk, or cancel_chunk if the body raises."""
        self.begin_chunk(tokens, read=read, token_ids=token_ids)
        try:
            yield self
            self.end_chunk(end)
        except BaseException:
            if self._native.in_chunk():
                self.cancel_chunk()
            raise

    def begin_chunk(
        self,
        tokens: Mapping[int, int],
        *,
        read: ReadPolicy = "raw_chunk",
        token_ids: Sequence[int] = (),
    ) -> None:
        """Says which sequences get how many tokens: {sequence: tokens}, in the order of the rows.

        read: what the pass reads of its own tokens: "raw_chunk" as they are given, "stored" as a
            token-by-token run would have stored them, "masked" also without what it would have
            dropped by then.
        token_ids: one per row, for methods that need them.
        Memory for the whole pass is reserved, or E_FULL and nothing has changed.
        """
        self._native.begin_chunk(list(tokens.items()), list(token_ids), read)

    def needs(self, layer: int, rows: int | None = None) -> tuple[str, ...]:
        """The fields append() wants for so many rows (None: those of the open chunk)."""
        return tuple(self._native.needs(layer, rows))

    def append(
        self,
        layer: int,
        *,
        keys: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
        keys_pre_rope: torch.Tensor | None = None,
        hidden: torch.Tensor | None = None,
        queries: torch.Tensor | None = None,
    ) -> None:
        """Stores the chunk's rows of one layer; exactly the fields of needs(), else E_NEEDS.

        R rows, sequence after sequence, in the cache's dtype; or [B, T, ...] where each of the B
        sequences has T tokens.  Read where they lie, nothing is copied on the way.
        keys: [R, Hkv, d], rotated at their positions.  keys_pre_rope: the same before that.
        values: [R, Hkv, dv].  hidden: [R, D], the input of the projections.
        queries: [R, H, d], before RoPE.
        E_SHAPE, E_ORDER, E_LAYER; E_UNSUPPORTED for tensors of another device, dtype or layout.
        """
        given = {
            "keys": keys,
            "values": values,
            "keys_pre_rope": keys_pre_rope,
            "hidden": hidden,
            "queries": queries,
        }
        self._native.append(layer, given)

    def attend(
        self,
        layer: int,
        queries: torch.Tensor,
        *,
        rotated: bool = False,
        newest: int | None = None,
        sinks: Sequence[float] = (),
        distance_bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention of the chunk's tokens over everything stored that they may see.

        queries: [R, H, d] or [B, T, H, d], float32, bfloat16 or float16; before RoPE, or already
            rotated at their positions (`rotated`).
        newest: ask for the last so many tokens of each sequence only.
        sinks: H logits without a value, of layers with learned_sink.
        distance_bias: [H, n] float32, of layers with n = distance_bias entries per head:
            logits += distance_bias[h, min(query position - key position, n - 1)], then soft-cap.
        Returns [..., H, dv] in the dtype of the queries; accumulated in float32.
        """
        return self._native.attend(
            layer, queries, rotated, newest, list(sinks), distance_bias, False
        )[0]

    def attend_with_lse(
        self, layer: int, queries: torch.Tensor, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """attend(), and the natural log-sum-exp of each query's logits, [..., H] float32."""
        more = {"rotated": False, "newest": None, "sinks": (), "distance_bias": None, **options}
        more["sinks"] = list(more["sinks"])
        return self._native.attend(layer, queries, lse=True, **more)

    def end_chunk(self, end: ChunkEnd = "step") -> None:
        """Why the pass ends: more of the prompt follows ("chunk"), it is complete ("prompt"), or
        it was a generated token ("step").  Selectors rank and drop now."""
        self._native.end_chunk(end)

    def cancel_chunk(self) -> None:
        """As if the pass had not begun."""
        self._native.cancel_chunk()

    # --- what it holds ---

    def bytes(self, layer: int | None = None) -> Bytes:
        """Of one layer, or of all."""
        return Bytes(**self._native.bytes(-1 if layer is None else layer))

    def ran(self, layer: int) -> Ran:
        return Ran(**self._native.ran(layer))

    def live_rows(self, layer: int, sequence: int) -> list[int]:
        """Rows in memory, of each list of a sequence (one per layer, or one per kv head)."""
        return self._native.live_rows(layer, sequence)

    def positions(self, layer: int, sequence: int, head_list: int = 0) -> list[int]:
        """The positions a list still holds, ascending."""
        return self._native.positions(layer, sequence, head_list)

    def materialise(
        self, layer: int, sequence: int, first: int, last: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decoded keys before RoPE [n, Hkv, d] and values [n, Hkv, dv], float32, of the positions
        [first, last); E_POSITION where one of them was dropped."""
        return self._native.materialise(layer, sequence, first, last)

    # --- elsewhere ---

    def save(self, sequence: int, path: str | PathLike[str]) -> None:
        """Writes a sequence as it is stored; what is read after load() is the same, bit for bit."""
        self._native.save(sequence, path)

    def load(self, path: str | PathLike[str]) -> int:
        """A new sequence with what was saved; E_IDENTITY for another model, method or format."""
        return self._native.load(path)

    def identity(self) -> dict[str, Any]:
        """Model, method, parameters, format: what rows must share to be exchanged."""
        return self._native.identity()
