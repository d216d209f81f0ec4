"""Which methods there are and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvlab import _kvlab


def methods() -> list[str]:
    """The names of all methods of this build, sorted.

    >>> "dense" in methods()
    True
    """
    return _kvlab.methods()


def method_info(method: str | Mapping[str, Any], *, tokens: int = 4096) -> dict[str, Any]:
    """A method's card, as `kvlab info METHOD --json` prints it.

    method: a name, a chain ("window+quant") or the JSON of a config.
    tokens: the length of the prefill that its bytes are measured after.
    "method": its title.  "stages": per method of the chain name, summary, "params" (completed) and
    "parameters" (types, default, range, unit, meaning).  "capabilities": what it promises.
    "bytes_per_token": what caches of well-known shapes really took, a dict each.
    E_UNKNOWN with the nearest name, E_CONFIG for wrong parameters.

    >>> method_info("dense", tokens=64)["capabilities"]["exact"]
    True
    """
    return _kvlab.method_info(method, tokens)
