"""What each command prints, as people and scripts read it."""

import contextlib
import hashlib
import json
import os
import pty
import subprocess

import pytest
from command import CONTEXT, VOCAB

pytestmark = pytest.mark.examples("quant", "window")


def canonical(value) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def test_version_needs_no_half_second(kvlab):
    with subprocess.Popen([kvlab.path, "--version"], stdout=subprocess.PIPE, text=True) as process:
        lines = process.stdout.read().splitlines()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert [line.split()[0] for line in lines] == ["kvlab", "commit", "build", "torch"]
    assert usage.ru_utime + usage.ru_stime < 0.5


@pytest.mark.parametrize(
    "command", ["info", "eval", "ppl", "generate", "prepare", "bench", "selftest"]
)
def test_help_teaches_by_examples(kvlab, command):
    out = kvlab(command, "--help").out
    assert "Examples:\n  kvlab " + command in out or command == "bench"
    assert f"  {command} " in kvlab("--help").out


def test_info_lists_what_there_is(kvlab):
    document = kvlab("info", "--json").json
    methods = [method["name"] for method in document["methods"]]
    assert {"dense", "quant", "window"} <= set(methods)
    assert {task["name"] for task in document["tasks"]} >= {"mqar", "copy", "ppl"}
    assert "scalar" in document["instruction_sets"]
    assert all(f"| {name} " in kvlab("info").out for name in methods)


# 2 * layers * kv heads * head_dim * bytes; 4 and 2 bits in groups of 32 with 2 + 2 bytes a group.
# Heads of 48 have two groups a row.
BYTES = {
    "dense": [524288, 131072, 6912],
    '{"name": "quant", "params": {"bits": 4}}': [163840, 40960, 2 * 36 * (24 + 8)],
    '{"name": "quant", "params": {"bits": 2}}': [98304, 24576, 2 * 36 * (12 + 8)],
    '{"name": "quant", "params": {"bits": 8}}': [294912, 73728, 2 * 36 * (48 + 8)],
}


@pytest.mark.parametrize("method", BYTES)
def test_a_card_measures_bytes_per_token(kvlab, method):
    rows = kvlab("info", method, "--json").json["bytes_per_token"]
    assert [row["bytes_per_token"] for row in rows] == BYTES[method]
    assert [row["dense_per_token"] for row in rows] == BYTES["dense"]


def test_a_card_names_every_parameter(kvlab):
    card = kvlab("info", "window+quant", "--json").json
    assert [stage["name"] for stage in card["stages"]] == ["window", "quant"]
    out = kvlab("info", "window+quant").out
    for stage in card["stages"]:
        for parameter in stage["parameters"]:
            assert parameter["doc"]
            assert f"| {parameter['name']} " in out


def test_info_describes_a_model(kvlab, model_folder):
    document = kvlab("info", model_folder, "--json").json
    assert document["num_layers"] == 2
    assert document["vocab_size"] == VOCAB
    assert document["max_positions"] == CONTEXT
    assert document["dense_bytes_per_token"] == 2 * 2 * 2 * 16 * 2
    assert document["tokenizer"] == "none"
    assert "| 0-1 " in kvlab("info", model_folder).out


def test_a_list_names_cells_and_runs_none(kvlab):
    config = kvlab.config(
        methods=[{"name": "quant", "params": {"bits": {"sweep": [8, 4]}}}],
        matrix={"prefill_chunk": [0, 64]},
    )
    cells = kvlab("eval", config, "--list", "--json").json["cells"]
    assert [cell["method"][0]["params"].get("bits") for cell in cells] == [None] * 2 + [8, 8, 4, 4]
    for cell in cells:
        identity = cell.pop("id")
        assert identity == hashlib.sha256(canonical(cell).encode()).hexdigest()[:16]
    out = kvlab("eval", config, "--list").out
    assert "quant(bits=8)" in out
    assert "quant(bits=4)" in out
    assert not (kvlab.folder / "config").exists()


def test_set_replaces_values(kvlab):
    config = kvlab.config()
    changes = ["--set", "seed=8", "--set", "tasks.0.samples=3", "--set", 'methods=["window"]']
    cells = kvlab("eval", config, "--list", "--json", *changes).json["cells"]
    assert [cell["seed"] for cell in cells] == [8, 8]
    assert cells[0]["task"]["samples"] == 3
    assert cells[1]["method"][0]["name"] == "window"
    kvlab.refused("E_CONFIG", 3, "eval", config, "--set", "tasks.7.samples=3")
    kvlab.refused("E_UNKNOWN", 3, "eval", config, "--set", "limit.max_seconds=3")


def test_a_run_leaves_everything_needed_to_judge_it(kvlab):
    document = kvlab("eval", kvlab.config(methods=["quant"]), "--json").json
    folder = kvlab.folder / "config"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"cells", "record.json", "results.jsonl", "samples.jsonl", "summary.md"}
    assert "report.html" in names
    assert document["records"] == [
        json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()
    ]
    record = json.loads((folder / "record.json").read_text())
    assert record["config"]["methods"] == ["quant"]
    assert record["sessions"][0]["argv"][1] == "eval"
    assert record["build"]["compiler"]
    assert record["machine"]["cpu"]
    assert record["random"]["scheme"] == "splitmix64/1"
    assert set(record["kernels"]) == set(record["cells"])
    values = {
        (line["method"], line["metric"]): line["value"]
        for line in document["records"]
        if not line.get("timing")
    }
    assert values["quant", "cr"] == 3.2
    assert values["quant", "bits_per_element"] == 5
    assert values["dense", "cache_bytes"] == 144 * 2 * 2 * 64 * 4


def test_summaries_show_dense_first(kvlab):
    out = kvlab("eval", kvlab.config(methods=["quant", "window"])).out
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")]
    assert rows == ["method", "dense", "quant", "window"]
    assert "cr" in out
    assert "decode tok/s" in out


def test_published_numbers_are_listed_with_their_sources(kvlab):
    rows = kvlab("info", "--references", "--json").json["references"]
    assert len(rows) > 300
    ruler = [row for row in rows if row["source"] == "RULER README"]
    assert [row["value"] for row in ruler] == [95.5, 93.8, 91.6, 87.4, 84.7, 77.0]
    text = kvlab("info", "--references").out
    assert text.startswith("Reported elsewhere, other models and settings: not comparable.")
    dense = kvlab("info", "dense", "--references", "--json").json["references"]
    assert {row["method"] for row in dense} == {"dense"}
    assert "`dense`" in kvlab.refused("E_UNKNOWN", 3, "info", "dence", "--references")


def test_published_numbers_stand_under_tables_of_their_kind(kvlab):
    tokens = kvlab.folder / "tokens.json"
    tokens.write_text(json.dumps([0] + [1 + i % 31 for i in range(63)]))
    ppl = {"ppl": "decode", "tokens": "tokens.json", "P": 32, "S": 31}
    config = kvlab.config(
        tasks=[{"builtin": "mqar", "pairs": 8, "context": 128, "samples": 2}, ppl]
    )
    recall, perplexity = kvlab("eval", config).out.split("## ppl")
    assert "Reported elsewhere" not in recall
    _, _, quoted = perplexity.partition("> Reported elsewhere")
    lines = [line for line in quoted.splitlines() if line.startswith("> | dense")]
    assert len(lines) == 6
    assert "19.44" in lines[0]
    assert "> " in quoted
    assert "more: `kvlab info --references`" in quoted


def test_a_terminal_shows_published_numbers_in_grey(kvlab):
    (kvlab.folder / "tokens.json").write_text(json.dumps([1 + i % 31 for i in range(64)]))
    config = kvlab.config(tasks=[{"ppl": "decode", "tokens": "tokens.json", "P": 32, "S": 31}])
    reader, writer = pty.openpty()
    process = subprocess.Popen([kvlab.path, "eval", config], stdout=writer, cwd=kvlab.folder)
    os.close(writer)
    shown = b""
    with contextlib.suppress(OSError):  # nobody holds the other end any more
        while block := os.read(reader, 1 << 16):
            shown += block
    os.close(reader)
    assert process.wait() == 0
    lines = shown.decode().splitlines()
    assert any(line.startswith("\x1b[2m> | dense") and line.endswith("\x1b[0m") for line in lines)
    assert any(line.startswith("| dense") for line in lines)


def test_compare_is_a_gate(kvlab):
    config = kvlab.config(
        methods=["quant", {"name": "window", "params": {"recent": 16}}],
        tasks=[{"builtin": "mqar", "pairs": 8, "context": 128, "samples": 16}],
    )
    for out in ("a", "b"):
        kvlab("eval", config, "--out", kvlab.folder / out)
    same = kvlab("compare", kvlab.folder / "a", kvlab.folder / "b", "--json").json
    assert same["worse"] is False
    assert {line["delta"] for line in same["comparisons"]} == {0}
    across = [kvlab.folder / "a", kvlab.folder / "b", "--methods", "quant", "window(recent=16)"]
    worse = kvlab("compare", *across, "--json", expect=1).json
    assert worse["worse"] is True
    assert "| worse" in kvlab("compare", *across, expect=1).out
    kvlab("compare", *across, "--metric", "acc", "--tolerance", "acc=1")
    kvlab.refused("E_CONFIG", 3, "compare", *across, "--tolerance", "acc=much")
    kvlab.refused("E_UNKNOWN", 3, "compare", *across, "--metric", "acuracy")
    kvlab.refused("E_FILE", 3, "compare", kvlab.folder, kvlab.folder)


def test_compare_fails_when_cells_have_vanished(kvlab):
    config = kvlab.config(methods=["quant"])
    kvlab("eval", config, "--out", "whole")
    kvlab("eval", config, "--out", "part", "--set", "methods=[]")
    text = kvlab("compare", "whole", "part", expect=1).out
    assert "**Missing in B**: quant on mqar" in text
    document = kvlab("compare", "whole", "part", "--json", expect=1).json
    assert (document["worse"], document["missing"]) == (False, ["quant on mqar"])
    kvlab("compare", "whole", "part", "--allow-missing")
    more = kvlab("compare", "part", "whole", "--json").json
    assert (more["missing"], more["added"]) == ([], ["quant on mqar"])


def test_a_vacuous_run_is_reproduced_as_it_was_made(kvlab):
    (kvlab.folder / "tokens.json").write_text(json.dumps([1 + i % 31 for i in range(64)]))
    task = {"ppl": "disjoint", "tokens": "tokens.json", "Lw": 64}
    config = kvlab.config(tasks=[task], methods=["quant"])
    kvlab.refused("E_METHOD_CANNOT_MATTER", 4, "eval", config)
    kvlab("eval", config, "--allow-vacuous")
    kvlab.refused("E_METHOD_CANNOT_MATTER", 4, "reproduce", "config")
    again = kvlab("reproduce", "config", "--allow-vacuous", "--jobs", 2, "--json").json
    assert again["reproduced"] is True
    assert again["equal"] > 5


def test_list_prints_the_cells_that_would_run(kvlab):
    config = kvlab.config(methods=["quant"])
    cells = kvlab("eval", config, "--list", "--json").json["cells"]
    table = kvlab("eval", config, "--list").out
    assert not (kvlab.folder / "config").exists()
    kvlab("eval", config)
    files = {path.stem for path in (kvlab.folder / "config" / "cells").iterdir()}
    assert {cell["id"] for cell in cells} == files
    assert all(f"| {cell['id']} |" in table for cell in cells)


def test_a_run_is_reproduced_from_its_record(kvlab):
    (kvlab.folder / "texts").mkdir()
    tokens = kvlab.folder / "texts" / "ids.txt"
    tokens.write_text("0 " + " ".join(str(1 + i * 7 % 31) for i in range(400)))
    config = kvlab.config(
        methods=["quant"], tasks=[{"ppl": "decode", "tokens": "texts/ids.txt", "P": 64, "S": 31}]
    )
    run = kvlab.folder / "run"
    kvlab("eval", config, "--out", run)
    again = kvlab("reproduce", run, "--json", cwd="/").json
    assert again["reproduced"] is True
    assert again["equal"] > 10
    assert again["differences"] == []
    assert (kvlab.folder / "run-again" / "record.json").exists()

    elsewhere = kvlab.folder / "elsewhere"
    (elsewhere / "texts").mkdir(parents=True)
    (elsewhere / "texts" / "ids.txt").write_text(tokens.read_text().replace(" 8 ", " 9 ", 1))
    changed = kvlab(
        *["reproduce", run / "record.json", "--folder", elsewhere, "--out", kvlab.folder / "x"],
        "--json",
        expect=1,
    ).json
    assert changed["reproduced"] is False
    assert {"data_sha", "value"} <= {one["field"] for one in changed["differences"]}
    kvlab.refused("E_CONFIG", 3, "reproduce", run, "--out", run)
    assert "holds all cells" in kvlab.refused("E_CONFIG", 3, "reproduce", run)
    kvlab.refused("E_FILE", 3, "reproduce", kvlab.folder)


def test_generate_continues_what_repeats(kvlab):
    words = [5, 9, 23, 14, 30, 2]
    path = kvlab.folder / "prompt.txt"
    path.write_text(" ".join(map(str, [0, *words, 7, words[0]])))
    generate = ["generate", "--model", "recall2", "--prompt-tokens", path, "--max-new", 5]
    for method in ("dense", "quant", "window+quant"):
        document = kvlab(*generate, "--method", method, "--json").json
        assert document["tokens"] == words[1:]
        assert document["dense_bytes"] == (9 + 4) * 2 * 2 * 64 * 2
    assert kvlab(*generate).out == "[9,23,14,30,2]\n"
    sampled = [*generate, "--temperature", 5, "--json", "--seed"]
    assert kvlab(*sampled, 1).json["tokens"] == kvlab(*sampled, 1).json["tokens"]
    assert len({tuple(kvlab(*sampled, seed).json["tokens"]) for seed in range(4)}) > 1


def test_selftest_passes(kvlab):
    document = kvlab("selftest", "--json").json
    assert document["passed"] is True
    assert {check["name"].split(",")[0] for check in document["checks"]} >= {"dense", "quant"}
    assert kvlab("selftest").out.endswith("all passed\n")


def test_a_plugin_adds_a_method(kvlab):
    plugin = kvlab.path.parent / "tests" / "core" / "test_plugin_good.so"
    if not plugin.exists():
        pytest.skip("no build folder beside this kvlab")
    methods = kvlab("info", "--plugin", plugin, "--json").json["methods"]
    assert "from_plugin" in [method["name"] for method in methods]


def test_progress_is_for_terminals(kvlab):
    config = kvlab.config(tasks=[{"builtin": "mqar", "context": 1024, "samples": 400}])
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [kvlab.path, "eval", config, "--set", "limits.max_seconds=60"],
        stdout=subprocess.DEVNULL,
        stderr=writer,
        cwd=kvlab.folder,
    )
    os.close(writer)
    seen = b""
    while b" left" not in seen and process.poll() is None:
        seen += os.read(reader, 4096)
    process.kill()
    process.wait()
    os.close(reader)
    assert b" %  " in seen
    assert b" left  mqar, dense" in seen
    assert kvlab("eval", kvlab.config("quiet.json")).err == ""


@pytest.mark.parametrize(
    "codec, row", [("bf16", 128), ("bfloat16", 128), ("int4", 40), ("fp32", 256)]
)
def test_a_bench_counts_what_it_reads(kvlab, codec, row):
    shape = ["--heads", "4", "--kv-heads", "2", "--head-dim", "64", "--tokens", "512"]
    bench = kvlab("bench", "attention", "--codec", codec, *shape, "--threads", "1", "--json").json
    assert bench["bytes_read"] == 2 * 2 * 512 * row
    assert {"ms", "read_bandwidth_gbs", "peak_gmacs", "share_of_roofline"} <= bench.keys()
    assert bench["ratio_to_dense"] > 0 and bench["ratio_to_torch"] > 0
