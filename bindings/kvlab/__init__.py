"""KV-cache compression, really stored: the Python face of libkvlab.

methods() names the methods, method_info() describes one, evaluate() runs an experiment, samples()
shows what a task asks, Cache holds the keys and values of a model of your own.
"""

import torch  # noqa: F401  # first: its libraries are loaded by torch's own rules

from kvlab._kvlab import version
from kvlab.cache import Bytes, Cache, Ran
from kvlab.errors import (
    Error,
    FileError,
    InputError,
    InternalError,
    ResourceError,
    RuleError,
    StateError,
    UnknownError,
    UnsupportedError,
)
from kvlab.experiment import evaluate, samples
from kvlab.registry import method_info, methods
from kvlab.shape import Layer, ModelShape, Rope

__version__ = version()["number"]
__all__ = [
    "Bytes",
    "Cache",
    "Error",
    "FileError",
    "InputError",
    "InternalError",
    "Layer",
    "ModelShape",
    "Ran",
    "ResourceError",
    "Rope",
    "RuleError",
    "StateError",
    "UnknownError",
    "UnsupportedError",
    "__version__",
    "evaluate",
    "method_info",
    "methods",
    "samples",
    "version",
]
