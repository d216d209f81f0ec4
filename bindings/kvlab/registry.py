"""Which methods there are and what they are."""

from kvlab import _kvlab


def methods() -> list[str]:
    """The names of all methods of this build, sorted.

    >>> "dense" in methods()
    True
    """
    return _kvlab.methods()
