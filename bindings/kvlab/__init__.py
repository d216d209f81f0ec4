"""KV-cache compression, really stored: the Python face of libkvlab."""

import torch  # noqa: F401  # first: its libraries are loaded by torch's own rules

from kvlab._kvlab import version

__version__ = version()["number"]
__all__ = ["__version__", "version"]
