"""What every Python test may use."""

import sysconfig
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kvlab_command() -> Path:
    """The `kvlab` command of the build that `import kvlab` finds."""
    import kvlab  # tests of the tools run without a build

    in_build = Path(kvlab.__file__).absolute().parents[2] / "kvlab"
    return in_build if in_build.is_file() else Path(sysconfig.get_path("scripts"), "kvlab")


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent
