"""The program that says which logits kvlab computes."""

import json
import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def one_thread():
    """Of LibTorch's, where networks are too small for more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def dump_logits():
    """The program beside the tests of the build that `import kvlab` finds."""
    import kvlab
    from safetensors.torch import load_file

    program = Path(kvlab.__file__).absolute().parents[2] / "tests/eval/models/dump_logits"
    if not program.is_file():
        pytest.skip(f"{program} is not built: this package was installed without its tests")

    def dump(folder, request):
        (folder / "request.json").write_text(json.dumps(request))
        done = subprocess.run(
            [program, folder / "request.json", folder / "out.safetensors"],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return load_file(folder / "out.safetensors")

    return dump
