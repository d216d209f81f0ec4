"""What the package says of methods, and of errors."""

import re

import kvlab
import pytest
from kvlab.errors import class_of


def test_every_folder_of_methods_has_a_name(repository):
    folders = {f.parent.name for f in (repository / "methods").glob("*/CMakeLists.txt")}
    assert set(kvlab.methods()) == folders
    assert kvlab.methods() == sorted(kvlab.methods())


def test_every_code_has_a_class_and_every_class_is_an_error(repository):
    codes = set(re.findall(r"`(E_[A-Z_]+)`", (repository / "core/README.md").read_text()))
    assert len(codes) > 20
    for code in codes:
        error = class_of(code)(f"{code}: cache: a sentence: with colons")
        assert isinstance(error, kvlab.Error)
        assert (error.code, error.message) == (code, "cache: a sentence: with colons")


@pytest.mark.parametrize("name", kvlab.__all__)
def test_what_is_public_is_documented(name):
    thing = getattr(kvlab, name)
    assert name == "__version__" or thing.__doc__
