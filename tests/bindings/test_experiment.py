"""evaluate() and method_info() give what the command gives."""

import json
import subprocess

import kvlab
import pytest

CONFIG = {
    "schema": "kvlab-config/1",
    "name": "small",
    "seed": 3,
    "model": {"builtin": "recall2"},
    "tasks": [{"builtin": "mqar", "pairs": 4, "context": 64, "samples": 2}],
    "methods": ["dense"],
}


def untimed(records):
    return [r for r in records if not r.get("timing")]


def test_it_gives_the_records_of_the_command(kvlab_command, tmp_path):
    file = tmp_path / "small.json"
    file.write_text(json.dumps(CONFIG))
    command = [kvlab_command, "eval", file, "--json", "--out", tmp_path / "run"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = untimed(json.loads(printed.stdout)["records"])
    assert expected
    assert untimed(kvlab.evaluate(CONFIG)) == expected
    assert untimed(kvlab.evaluate(file)) == expected


def test_a_run_directory_keeps_what_is_finished(tmp_path):
    fed = []
    kvlab.evaluate(CONFIG, run_directory=tmp_path / "run", progress=lambda *at: fed.append(at))
    assert fed[-1][0] == fed[-1][1] > 0
    lines = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    again = kvlab.evaluate(CONFIG, run_directory=tmp_path / "run")
    assert again == [json.loads(line) for line in lines]


def test_overrides_replace_values():
    records = kvlab.evaluate(CONFIG, overrides={"tasks.0.samples": 1})
    assert {r["n"] for r in records if r["metric"] == "acc"} == {1}


def test_what_progress_raises_ends_the_run():
    def stop(done, total, what):
        raise InterruptedError(what)

    with pytest.raises(InterruptedError):
        kvlab.evaluate(CONFIG, progress=stop)


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"methods": ["dnese"]}, kvlab.UnknownError, "E_UNKNOWN"),
        ({"metods": []}, kvlab.UnknownError, "E_UNKNOWN"),
        ({"seed": float("nan")}, kvlab.InputError, "E_FORMAT"),
        ({"seed": {1, 2}}, kvlab.InputError, "E_FORMAT"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change, error, code):
    with pytest.raises(error) as caught:
        kvlab.evaluate({**CONFIG, **change})
    assert caught.value.code == code


@pytest.mark.parametrize("name", kvlab.methods())
def test_a_card_says_what_the_command_says(kvlab_command, name):
    command = [kvlab_command, "info", name, "--tokens", "64", "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert kvlab.method_info(name, tokens=64) == json.loads(printed.stdout)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(LookupError, match="did you mean `dense`"):
        kvlab.method_info("dnese")


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(OSError, match=r"E_FILE.*nowhere\.json"):
        kvlab.evaluate("nowhere.json")
