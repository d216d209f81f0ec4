"""`--jobs N`: cells in several processes are the cells of one, whatever happens to a process."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command import read_lines
from test_resume import METHODS, TASKS, identity, without_timing

LONG = [TASKS[0] | {"samples": 4000, "pairs": 4}]


def lasting(run: Path) -> list[str]:
    """Lines of results.jsonl that may not differ from run to run."""
    lines = (run / "results.jsonl").read_text().splitlines()
    return [line for line in lines if '"timing":true' not in line]


def children(process: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process and fields[0] != "Z":
                found.append(int(status.parent.name))
    return found


def wait_for(condition, seconds: float = 60):
    """What the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError("nothing happened in time")


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextlib.contextmanager
def running(command, *arguments):
    """The command as a process, which does not outlive the test."""
    process = subprocess.Popen(
        [command.path, "eval", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=command.folder,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def large_model(tmp_path_factory) -> Path:
    """Weights of 4 MiB, which do not fit a core's cache, so all threads are used; long texts."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=8192,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=1 << 15,
        initializer_range=0.3,
    )
    folder = tmp_path_factory.mktemp("large")
    transformers.LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    for name, tokens in (("tokens", 64), ("long", 1 << 15)):
        (folder / f"{name}.json").write_text(json.dumps([1 + 7 * i % 8191 for i in range(tokens)]))
    return folder


@pytest.mark.examples("quant", "window")
def test_two_processes_give_what_one_gives(kvlab, repository):
    config = repository / "configs" / "constructed.json"
    kvlab("eval", config, "--out", "one")
    done = kvlab("eval", config, "--out", "two", "--jobs", 2)
    assert len(lasting(kvlab.folder / "one")) > 100
    assert lasting(kvlab.folder / "one") == lasting(kvlab.folder / "two")
    assert "cells run, 0 kept" in done.out


@pytest.mark.examples("quant", "window")
@pytest.mark.parametrize("jobs", [1, 3])
def test_killed_ten_times_it_ends_with_the_results_of_an_undisturbed_run(kvlab, jobs):
    config = kvlab.config(tasks=TASKS, methods=METHODS)
    begin = time.monotonic()
    kvlab("eval", config, "--out", "whole", "--jobs", jobs)
    whole = time.monotonic() - begin
    cells = kvlab.folder / "config" / "cells"
    seed = 7
    chance = random.Random(seed)
    kept: dict[str, tuple[int, int]] = {}
    for attempt in range(10):
        with running(kvlab, config, "--jobs", jobs) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=chance.uniform(0.1, 1) * whole)
            workers = children(process.pid)
            process.kill()
            process.wait()
            wait_for(lambda gone=workers: all(map(is_gone, gone)))
        now = identity(cells) if cells.exists() else {}
        assert kept.items() <= now.items(), f"seed {seed}, attempt {attempt}"
        kept = now
    document = kvlab("eval", config, "--json", "--jobs", jobs).json
    assert (document["kept"], document["cells"]) == (len(kept), 24)
    assert lasting(kvlab.folder / "config") == lasting(kvlab.folder / "whole")
    samples = [without_timing(kvlab.folder / run / "samples.jsonl") for run in ("config", "whole")]
    for line in samples[0] + samples[1]:
        del line["timing"]
    assert samples[0] == samples[1]
    assert not list((kvlab.folder / "config").rglob("*.tmp"))


def test_a_killed_worker_names_its_cell_and_the_others_finish_theirs(kvlab):
    tasks = [LONG[0], TASKS[1] | {"samples": 400}]
    config = kvlab.config(tasks=tasks)
    cells = {cell["task"]["builtin"]: cell["id"] for cell in listed(kvlab, config)}
    with running(kvlab, config, "--jobs", 2) as process:
        workers = wait_for(lambda: len(children(process.pid)) == 2 and children(process.pid))
        os.kill(min(workers), signal.SIGKILL)  # the first one, which has the first cell
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (5, "")
    warning, error = err.splitlines()
    assert error.startswith(f"kvlab: E_WORKER: cell {cells['mqar']} (mqar, dense) is not finished")
    assert "ended by signal 9" in error
    assert "--jobs" in error
    assert warning.endswith("; waiting for copy, dense to be finished")
    assert [path.stem for path in (kvlab.folder / "config" / "cells").iterdir()] == [cells["copy"]]
    document = kvlab("eval", config, "--set", "tasks.0.samples=4", "--json", "--jobs", 2).json
    assert (document["kept"], document["ran"]) == (1, 1)


def listed(kvlab, config) -> list[dict]:
    return kvlab("eval", config, "--list", "--json").json["cells"]


def test_an_interrupt_ends_every_process_and_keeps_what_is_finished(kvlab):
    config = kvlab.config(tasks=[*TASKS[1:], *LONG, LONG[0] | {"samples": 5000}])
    cells = kvlab.folder / "config" / "cells"
    with running(kvlab, config, "--jobs", 2) as process:
        wait_for(lambda: cells.exists() and identity(cells))
        workers = children(process.pid)
        for each in [process.pid, *workers]:  # as a terminal does
            os.kill(each, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("kvlab: E_INTERRUPTED: eval: 2 of 3 cells are missing")
    assert workers
    assert all(map(is_gone, workers))
    assert len(identity(cells)) == 1


def test_no_worker_outlives_its_run(kvlab):
    """Neither a parent that is killed nor one that is done leaves a process behind."""
    for samples, killed in ((4000, True), (4, False)):
        config = kvlab.config(tasks=[TASKS[0] | {"samples": samples}])
        with running(kvlab, config, "--jobs", 2) as process:
            workers = wait_for(lambda p=process: len(children(p.pid)) == 2 and children(p.pid))
            if killed:
                process.kill()
            process.wait(timeout=60)
            wait_for(lambda gone=workers: all(map(is_gone, gone)), seconds=5)


def test_a_worker_that_cannot_do_anything_dies_with_its_parent(kvlab):
    """A stopped process reads no input and runs no code; it must not wake up beside a new run."""
    config = kvlab.config(tasks=LONG)
    with running(kvlab, config, "--jobs", 2) as process:
        (worker,) = wait_for(lambda: children(process.pid))
        wait_for(lambda: ignores(worker, signal.SIGTERM))
        time.sleep(0.1)
        os.kill(worker, signal.SIGSTOP)
        process.kill()
        process.wait()
        try:
            wait_for(lambda: is_gone(worker), seconds=5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def test_an_interrupt_does_not_wait_for_a_long_pass(kvlab, large_model):
    """A prefill of 24000 tokens in one pass takes 9 s of a core."""
    task = {"ppl": "decode", "tokens": str(large_model / "long.json"), "P": 24000, "S": 31}
    config = kvlab.config(
        model={"path": str(large_model)}, tasks=[task], matrix={"prefill_chunk": [0]}
    )
    with running(kvlab, config, "--jobs", 2) as process:
        (worker,) = wait_for(lambda: children(process.pid))
        wait_for(lambda: seconds_of_work(worker) > 1)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert time.monotonic() - begin < 3
    assert process.returncode == 130


def seconds_of_work(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def test_a_worker_that_is_stopped_by_hand_does_not_stop_the_run(kvlab):
    """Signals that end a program are the parent's to answer."""
    config = kvlab.config(tasks=[TASKS[0] | {"samples": 64}])
    with running(kvlab, config, "--jobs", 2) as process:
        for worker in wait_for(lambda: children(process.pid)):
            wait_for(lambda w=worker: ignores(w, signal.SIGTERM) or is_gone(w))
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def ignores(process: int, number: int) -> bool:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return False
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return bool(mask >> (number - 1) & 1)


@pytest.mark.parametrize("jobs", [0, -1, 1025])
def test_a_number_of_processes_that_cannot_be_is_refused(kvlab, jobs):
    sentence = kvlab.refused("E_CONFIG", 3, "eval", kvlab.config(), "--jobs", jobs)
    assert f"--jobs {jobs} is outside 1..1024" in sentence
    assert not (kvlab.folder / "config").exists()


def test_an_error_in_a_cell_is_the_same_as_in_one_process(kvlab, model_folder):
    """The weights are found to be cut off when they are loaded, which is after planning."""
    config = kvlab.config(model={"path": str(broken_copy(model_folder, kvlab.folder / "broken"))})
    task = {"ppl": "decode", "tokens": "tokens.json", "P": 32, "S": 31}
    (kvlab.folder / "tokens.json").write_text(json.dumps([1 + i % 31 for i in range(64)]))
    changes = ["--set", f"tasks=[{json.dumps(task)}]"]
    alone = kvlab("eval", config, *changes, expect=3).err
    beside = kvlab("eval", config, *changes, "--jobs", 2, expect=3).err
    code, _, sentence = alone.removeprefix("kvlab: ").strip().partition(": ")
    assert beside == f"kvlab: {code}: ppl, dense: {sentence}\n"


def broken_copy(model: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in model.iterdir():
        data = file.read_bytes()
        (folder / file.name).write_bytes(data[:-100] if file.suffix == ".safetensors" else data)
    return folder


def test_a_time_limit_is_for_all_processes(kvlab):
    config = kvlab.config(tasks=TASKS, limits={"max_seconds": 1e-9})
    result = kvlab("eval", config, "--json", "--jobs", 2, expect=5)
    assert "kvlab: E_TIME: eval: 3 of 3 cells are missing" in result.err


@pytest.mark.examples("window")
def test_warnings_are_those_of_one_process(kvlab):
    config = kvlab.config(methods=[{"name": "window", "params": {"sink": 1, "recent": 4096}}])
    alone = kvlab("eval", config, "--out", "one")
    beside = kvlab("eval", config, "--out", "two", "--jobs", 2)
    assert "nothing was compressed" in alone.err
    assert alone.err == beside.err


def test_nan_is_the_exit_status_of_one_process(kvlab, loud_model):
    (kvlab.folder / "tokens.json").write_text(json.dumps([1 + i % 31 for i in range(64)]))
    task = {"ppl": "decode", "tokens": "tokens.json", "P": 32, "S": 31}
    config = kvlab.config(model={"path": str(loud_model)}, tasks=[task])
    alone = kvlab("eval", config, "--out", "one", expect=1)
    beside = kvlab("eval", config, "--out", "two", "--jobs", 2, expect=1)
    assert "E_NONFINITE: eval: 1 samples met logits" in alone.err
    assert alone.err == beside.err


@pytest.mark.parametrize("arguments", [(1,), (2,), (3,), (8,), (2, "--threads", 3)])
def test_processes_share_the_threads_and_say_so(kvlab, large_model, arguments):
    """As many in all as one process would use; `--threads` is for each process."""
    task = {"ppl": "decode", "tokens": str(large_model / "tokens.json"), "P": 32, "S": 31}
    config = kvlab.config(model={"path": str(large_model)}, tasks=[task])
    kvlab("eval", config, "--jobs", *arguments)
    record = json.loads((kvlab.folder / "config" / "record.json").read_text())
    (cell,) = (kvlab.folder / "config" / "cells").iterdir()
    provenance = json.loads(cell.read_text())["provenance"]
    jobs, pool = arguments[0], record["threads"]["pool"]
    asked = arguments[2] if len(arguments) > 1 else 0
    assert record["threads"] == {"asked": asked, "pool": pool, "jobs": jobs}
    assert provenance["threads"] == (asked or max(1, pool // jobs))
    assert provenance["jobs"] == jobs
    note = f"Cells ran {jobs} at a time: their times are not comparable"
    assert (note in (kvlab.folder / "config" / "summary.md").read_text()) == (jobs > 1)


def test_equal_threads_give_equal_results_whatever_the_number_of_processes(kvlab, large_model):
    task = {"ppl": "decode", "tokens": str(large_model / "tokens.json"), "P": 32, "S": 31}
    config = kvlab.config(model={"path": str(large_model)}, tasks=[task])
    for out, jobs in (("one", 1), ("two", 2)):
        kvlab("eval", config, "--out", out, "--jobs", jobs, "--threads", 2)
    assert lasting(kvlab.folder / "one") == lasting(kvlab.folder / "two")


@pytest.mark.examples("window")
def test_unequal_threads_in_one_table_are_told(kvlab):
    """The order of sums depends on them, so a difference in the last digits says nothing."""
    kvlab("eval", kvlab.config(), "--threads", 1)
    window = kvlab.config(methods=[{"name": "window", "params": {"sink": 1, "recent": 16}}])
    out = kvlab("eval", window, "--threads", 2).out
    assert "Cells of this table ran on 1 and 2 threads" in out


def test_a_worker_is_no_command_for_people(kvlab):
    assert "\n  worker" not in kvlab("--help").out
    sentence = kvlab.refused("E_USAGE", 2, "worker", stdin=subprocess.DEVNULL)
    assert "--jobs" in sentence


def test_lines_of_samples_are_in_the_order_of_the_config(kvlab):
    config = kvlab.config(tasks=[LONG[0] | {"samples": 40}, TASKS[1]])
    kvlab("eval", config, "--jobs", 2)  # the second is done first
    lines = read_lines(kvlab.folder / "config" / "samples.jsonl")
    assert [line["task"] for line in lines] == ["mqar"] * 40 + ["copy"] * 8
