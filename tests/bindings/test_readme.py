"""The Python of the README and of docstrings runs as it stands there."""

import doctest
import re

import kvlab
import pytest
from kvlab import cache, errors, experiment, registry, shape

pytestmark = pytest.mark.examples("quant")


def test_the_readme_runs(repository):
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        scope = {}
        exec(block, scope)
    assert scope["out"].shape == (16, 32, 128)


@pytest.mark.parametrize("module", [cache, errors, experiment, registry, shape])
def test_docstrings_run(module):
    names = {name: getattr(kvlab, name) for name in kvlab.__all__}
    results = doctest.testmod(module, extraglobs={"kvlab": kvlab, **names})
    assert results.failed == 0
