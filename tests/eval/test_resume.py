"""A run that was killed, interrupted or out of disk goes on where it stopped."""

import json
import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command import read_lines

pytestmark = pytest.mark.examples("quant", "window")

METHODS = [
    {"name": "quant", "params": {"bits": {"sweep": [8, 4, 2]}}},
    {"name": "window", "params": {"sink": 1, "recent": {"sweep": [8, 16, 32, 64]}}},
]
TASKS = [
    {"builtin": "mqar", "pairs": {"sweep": [4, 8]}, "context": 256, "samples": 8},
    {"builtin": "copy", "samples": 8},
]


def identity(cells: Path) -> dict[str, tuple[int, int]]:
    """Which file each finished cell is: a cell that was run again is another one."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in cells.glob("*.json")}


def without_timing(path: Path) -> list[dict]:
    return [line for line in read_lines(path) if not line.get("timing")]


def kill_after(command, config: Path, seconds: float) -> None:
    process = subprocess.Popen(
        [command.path, "eval", config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=command.folder,
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_killed_twenty_times_it_repeats_nothing_and_loses_nothing(kvlab):
    config = kvlab.config(tasks=TASKS, methods=METHODS)
    begin = time.monotonic()
    kvlab("eval", config, "--out", "whole")
    whole = time.monotonic() - begin
    cells = kvlab.folder / "config" / "cells"
    seed = 7
    chance = random.Random(seed)
    kept: dict[str, tuple[int, int]] = {}
    for attempt in range(20):
        kill_after(kvlab, config, chance.uniform(0.1, 1) * whole)
        now = identity(cells) if cells.exists() else {}
        assert kept.items() <= now.items(), f"seed {seed}, attempt {attempt}"
        for name in now:
            json.loads((cells / name).read_text())
        kept = now
    document = kvlab("eval", config, "--json").json
    assert document["kept"] == len(kept)
    assert document["kept"] + document["ran"] == document["cells"] == 24
    assert kept.items() <= identity(cells).items()
    assert without_timing(kvlab.folder / "config" / "results.jsonl") == without_timing(
        kvlab.folder / "whole" / "results.jsonl"
    )
    assert not list((kvlab.folder / "config").rglob("*.tmp"))


def test_a_finished_run_is_not_run_again(kvlab):
    config = kvlab.config()
    kvlab("eval", config)
    before = identity(kvlab.folder / "config" / "cells")
    document = kvlab("eval", config, "--json").json
    assert (document["ran"], document["kept"]) == (0, 1)
    assert identity(kvlab.folder / "config" / "cells") == before
    record = json.loads((kvlab.folder / "config" / "record.json").read_text())
    assert [session["cells_run"] for session in record["sessions"]] == [1, 0]


def test_another_method_adds_its_cells_alone(kvlab):
    kvlab("eval", kvlab.config())
    document = kvlab("eval", kvlab.config(methods=["quant"]), "--json").json
    assert (document["ran"], document["kept"]) == (1, 1)


def test_two_runs_are_equal_but_for_timing(kvlab):
    config = kvlab.config(tasks=TASKS, methods=METHODS)
    for out in ("a", "b"):
        kvlab("eval", config, "--out", out)
    texts = [
        [
            line
            for line in (kvlab.folder / out / "results.jsonl").read_text().splitlines()
            if '"timing":true' not in line
        ]
        for out in ("a", "b")
    ]
    assert len(texts[0]) > 200
    assert texts[0] == texts[1]  # byte for byte
    samples = [read_lines(kvlab.folder / out / "samples.jsonl") for out in ("a", "b")]
    for line in samples[0] + samples[1]:
        del line["timing"]
    assert samples[0] == samples[1]


def test_a_half_written_cell_is_run_again(kvlab):
    config = kvlab.config()
    kvlab("eval", config)
    (cell,) = (kvlab.folder / "config" / "cells").glob("*.json")
    cell.write_text(cell.read_text()[:1000])
    assert kvlab("eval", config, "--json").json["ran"] == 1


def test_a_full_disk_loses_nothing(kvlab):
    """No file may grow beyond a limit: what a full disk looks like, for any user."""
    config = kvlab.config(tasks=TASKS, methods=METHODS)
    kvlab("eval", config, "--set", 'methods=["quant"]')
    cells = kvlab.folder / "config" / "cells"
    before = identity(cells)
    largest = max(path.stat().st_size for path in cells.iterdir())
    sentence = kvlab.refused(
        "E_DISK",
        5,
        "eval",
        config,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2,) * 2),
    )
    assert "run the same" in sentence
    assert before.items() <= identity(cells).items()
    assert kvlab("eval", config, "--json").json["kept"] >= len(before)


def test_a_time_limit_stops_before_the_next_cell(kvlab):
    config = kvlab.config(methods=METHODS, limits={"max_seconds": 1e-9})
    result = kvlab("eval", config, "--json", expect=5)
    assert "kvlab: E_TIME: eval: 8 of 8 cells are missing" in result.err
    assert result.json["missing"] == 8


def test_an_interrupt_keeps_what_is_finished(kvlab):
    config = kvlab.config(tasks=[TASKS[0] | {"samples": 4000, "pairs": 4}])
    process = subprocess.Popen(
        [kvlab.path, "eval", config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=kvlab.folder,
    )
    while not (kvlab.folder / "config" / "record.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "E_INTERRUPTED" in err


def test_two_writers_do_not_share_a_directory(kvlab):
    (kvlab.folder / "config" / "cells").mkdir(parents=True)
    lock = os.open(kvlab.folder / "config" / "lock", os.O_RDWR | os.O_CREAT)
    import fcntl

    fcntl.flock(lock, fcntl.LOCK_EX)
    kvlab.refused("E_BUSY", 5, "eval", kvlab.config())


def test_results_of_other_data_are_not_mixed(kvlab):
    tokens = kvlab.folder / "tokens.json"
    tokens.write_text(json.dumps([0] + [1 + i % 31 for i in range(63)]))
    config = kvlab.config(tasks=[{"ppl": "decode", "tokens": "tokens.json", "P": 32, "S": 31}])
    kvlab("eval", config)
    tokens.write_text(json.dumps([0] + [1 + i % 30 for i in range(63)]))
    sentence = kvlab.refused("E_INCOMPARABLE", 4, "eval", config)
    assert "data_sha" in sentence
    kvlab("eval", config, "--allow-mixed")
    kvlab("eval", config, "--out", "fresh")
