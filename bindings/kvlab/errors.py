"""What kvlab raises: one sentence that says who, what was given, what is allowed, what to do.

>>> try:
...     Cache(ModelShape.alike(1, num_heads=1, head_dim=64), "dnese")
... except kvlab.Error as error:
...     print(error.code)
E_UNKNOWN
"""


class Error(Exception):
    """Anything kvlab refuses or fails at.

    code: a word of the list in core/README.md or eval/README.md, "E_SHAPE".
    message: the sentence without it; str() has both.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code, _, self.message = text.partition(": ")


class InputError(Error, ValueError):
    """A config, model, method, tensor or text that cannot be used: every code not named below."""


class UnknownError(Error, LookupError):
    """E_UNKNOWN, E_LAYER, E_SEQUENCE: there is nothing of that name or number."""


class UnsupportedError(Error, NotImplementedError):
    """E_UNSUPPORTED: a dtype, device, architecture or combination kvlab does not do."""


class StateError(Error, RuntimeError):
    """E_ORDER, E_STALE_PLAN, E_BUSY: a call out of turn."""


class ResourceError(Error, MemoryError):
    """E_FULL, E_MEMORY: a budget or the machine's memory is used up; nothing has changed."""


class FileError(Error, OSError):
    """E_FILE, E_DISK: a file cannot be read or written."""


class RuleError(Error, ValueError):
    """A measurement that would not mean what it seems to mean: E_METHOD_CANNOT_MATTER,
    E_NONCAUSAL_STORED_READ, E_INCOMPARABLE, E_BYTES_MISMATCH."""


class InternalError(Error, RuntimeError):
    """E_INTERNAL: a mistake in kvlab itself."""


_CLASSES: dict[str, type[Error]] = {
    "E_UNKNOWN": UnknownError,
    "E_LAYER": UnknownError,
    "E_SEQUENCE": UnknownError,
    "E_UNSUPPORTED": UnsupportedError,
    "E_ORDER": StateError,
    "E_STALE_PLAN": StateError,
    "E_BUSY": StateError,
    "E_FULL": ResourceError,
    "E_MEMORY": ResourceError,
    "E_FILE": FileError,
    "E_DISK": FileError,
    "E_METHOD_CANNOT_MATTER": RuleError,
    "E_NONCAUSAL_STORED_READ": RuleError,
    "E_INCOMPARABLE": RuleError,
    "E_BYTES_MISMATCH": RuleError,
    "E_INTERNAL": InternalError,
}


def class_of(code: str) -> type[Error]:
    """The class that an error of this code is raised as."""
    return _CLASSES.get(code, InputError)
