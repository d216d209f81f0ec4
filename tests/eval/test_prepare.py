"""What an offline step found, printed and named in experiments: the example method that has one."""

import hashlib
import json
from pathlib import Path

import pytest
from command import read_lines


@pytest.fixture
def plugin(kvlab) -> Path:
    path = kvlab.path.parent / "tests" / "example_methods" / "example_methods.so"
    if not path.exists():
        pytest.skip("no build folder beside this kvlab")
    return path


@pytest.fixture
def tokens(kvlab) -> Path:
    path = kvlab.folder / "ids.txt"
    path.write_text("0 " + " ".join(str(1 + i * 7 % 31) for i in range(63)))
    return path


@pytest.fixture
def centred(kvlab, plugin, tokens):
    """Calls a command with the method, a model and a text."""

    def call(command, *arguments, method="centred_like", **options):
        given = ["--model", "recall2", "--tokens-file", tokens, "--plugin", plugin]
        return kvlab(command, method, *given, *arguments, **options)

    return call


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_paper_is_computed_anew(kvlab, plugin):
    info = ["info", "centred_like", "--plugin", plugin]
    out = kvlab(*info, "--paper").out
    assert out.startswith("## Share of normal keys beyond the limit\n\n| limit |")
    table = kvlab(*info, "--paper", "--json").json["tables"][0]
    assert table["columns"] == ["limit", "share"]
    assert table["rows"][0] == [1, pytest.approx(0.3173, abs=1e-4)]
    assert "--paper" in kvlab(*info).out
    assert "--paper" not in kvlab("info", "dense").out
    refusal = kvlab.refused("E_UNSUPPORTED", 3, "info", "dense", "--paper")
    assert refusal.endswith("dense has no tables of a paper to compute anew")
    kvlab.refused("E_CONFIG", 3, "info", "dense+dense", "--paper")
    kvlab.refused("E_UNKNOWN", 3, "info", "dence", "--paper")
    kvlab.refused("E_USAGE", 2, "info", "--paper")


def test_findings_are_shown_without_a_file(kvlab, centred):
    before = sorted(kvlab.folder.iterdir())
    out = centred("info").out
    assert "largest spread" in out
    assert out.endswith("\nspreads are those of 64 tokens\n")
    header = centred("info", "--json").json
    assert header["table"]["columns"] == ["layer", "largest spread"]
    assert [row[0] for row in header["table"]["rows"]] == [0, 1]
    assert header["method"] == "centred_like"
    assert header["made"]["data"]["tokens"] == 64
    assert sorted(kvlab.folder.iterdir()) == before
    wrote = centred("prepare", "--out", "made").out
    assert wrote.startswith(out)
    assert (kvlab.folder / "made").exists()
    assert centred("prepare", "--out", "made", "--json").json["header"] == header


def test_findings_need_a_method_with_an_offline_step_and_a_model(kvlab, centred, tokens):
    assert "dense has no offline step" in centred("info", method="dense", expect=3).err
    kvlab.refused("E_USAGE", 2, "info", "--model", "recall2")
    kvlab.refused("E_USAGE", 2, "info", "dense", "--tokens-file", tokens)
    kvlab.refused("E_USAGE", 2, "info", "dense", "--text", tokens)
    kvlab.refused("E_USAGE", 2, "info", "dense", "--paper", "--model", "recall2")


def test_a_config_names_an_artifact_beside_itself(kvlab, centred, plugin, tokens):
    (kvlab.folder / "made").mkdir()
    artifact = kvlab.folder / "made" / "centred.safetensors"
    method = {"name": "centred_like", "artifact": "made/centred.safetensors"}
    config = kvlab.config(output=str(kvlab.folder / "run"), methods=[method])

    def run(*arguments, **options):
        given = ["eval", config, "--plugin", plugin, "--json", *arguments]
        return kvlab(*given, cwd="/", **options).json

    missing = kvlab("eval", config, "--plugin", plugin, expect=3).err
    assert "E_FILE" in missing
    assert "`kvlab prepare` writes one" in missing

    centred("prepare", "--out", artifact)
    first = sha256(artifact)
    assert run()["ran"] == run()["kept"] == 2
    record = json.loads((kvlab.folder / "run" / "record.json").read_text())
    used = {"path": method["artifact"], "sha256": first, "bytes": artifact.stat().st_size}
    assert record["artifacts"] == [used]
    for line in read_lines(kvlab.folder / "run" / "results.jsonl"):
        assert line.get("artifacts") == ([used] if line["method"] == "centred_like" else None)
    cells = [json.loads(path.read_text()) for path in (kvlab.folder / "run" / "cells").iterdir()]
    assert {stage.get("artifact_sha256") for cell in cells for stage in cell["cell"]["method"]} == {
        None,
        first,
    }
    again = ["reproduce", kvlab.folder / "run", "--plugin", plugin, "--json"]
    assert kvlab(*again, "--out", "again").json["reproduced"] is True
    beside = run("--jobs", 2, "--out", kvlab.folder / "beside")
    assert beside["ran"] == 2
    compared = kvlab("compare", "run", "beside", "--json").json
    assert {line["delta"] for line in compared["comparisons"]} == {0}

    tokens.write_text(" ".join(str(1 + i % 5) for i in range(40)))
    centred("prepare", "--out", artifact)
    assert sha256(artifact) != first
    changed = kvlab(*again, "--out", "changed", expect=1).json
    assert any(first in one for one in changed["circumstances"])
    rerun = run()
    assert (rerun["ran"], rerun["kept"]) == (1, 1)
    assert run("--out", kvlab.folder / "other")["ran"] == 2
    compared = kvlab("compare", "beside", "other", "--tolerance", 1e9, "--json").json
    assert {line["method"] for line in compared["comparisons"]} == {
        "dense",
        "centred_like (another artifact)",
    }
