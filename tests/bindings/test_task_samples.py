"""samples() gives what `kvlab samples` prints."""

import json
import subprocess

import kvlab
import pytest


@pytest.mark.parametrize("task", ["copy", {"builtin": "mqar", "pairs": 3, "power_a": 0.5}])
def test_it_gives_the_samples_of_the_command(kvlab_command, task):
    given = task if isinstance(task, str) else json.dumps(task)
    command = [kvlab_command, "samples", given, "--model", "recall2", "--seed", "3", "--count", "2"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = [json.loads(line) for line in printed.stdout.splitlines()]
    assert len(expected) == 2
    assert kvlab.samples(task, model="recall2", seed=3, count=2) == expected
    assert kvlab.samples(task, model={"builtin": "recall2"}, seed=3)[:2] == expected


def test_a_task_of_text_needs_a_tokenizer():
    with pytest.raises(kvlab.Error, match="E_NO_TOKENIZER"):
        kvlab.samples("vt", model="recall2")


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(LookupError, match="did you mean `copy`"):
        kvlab.samples("coppy", model="recall2")


def test_a_negative_count_is_refused():
    with pytest.raises(kvlab.InputError, match="count is -1"):
        kvlab.samples("copy", model="recall2", count=-1)
