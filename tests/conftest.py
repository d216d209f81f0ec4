"""What every Python test may use."""

import sysconfig
from pathlib import Path

import pytest


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "examples(*methods): takes these methods as examples; skipped where one of their folders "
        "has been deleted, so that a method's folder is all there is of it",
    )


def pytest_runtest_setup(item):
    methods = Path(__file__).resolve().parent.parent / "methods"
    for mark in item.iter_markers("examples"):
        missing = [name for name in mark.args if not (methods / name).is_dir()]
        if missing:
            pytest.skip(f"there is no methods/{missing[0]}")


@pytest.fixture(scope="session")
def kvlab_command() -> Path:
    """The `kvlab` command of the build that `import kvlab` finds."""
    import kvlab  # tests of the tools run without a build

    in_build = Path(kvlab.__file__).absolute().parents[2] / "kvlab"
    return in_build if in_build.is_file() else Path(sysconfig.get_path("scripts"), "kvlab")


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent
