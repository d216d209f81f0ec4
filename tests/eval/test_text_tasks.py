"""Text tasks from the words to the score: generator, tokenizer, cache, generation, metric.

The model that answers is constructed (needle_model.py); what it cannot answer, it was not given.
"""

import json

import pytest
from command import read_lines
from needle_model import write_needle_model
from text_models import builtin, byte_level, write_model

WINDOW = {"name": "window", "params": {"sink": 1, "recent": 96}}


@pytest.fixture
def ask(kvlab, tmp_path):
    """Runs a task with a model made for its words; the values of its metrics by method."""

    def run(task, *methods, **config):
        draft = write_needle_model(tmp_path / "draft", [])
        given = builtin(task.pop("builtin"), **task)
        printed = kvlab("samples", given, "--model", draft, "--seed", 7)
        run.samples = {record["id"]: record for record in map(json.loads, printed.out.splitlines())}
        texts = [
            text
            for record in run.samples.values()
            for turn in record.get("turns", [record])
            for text in (record["context"], turn["query"], turn["answer_prefix"])
        ]
        model = write_needle_model(tmp_path / "model", texts)
        path = kvlab.config(
            model={"path": str(model)}, tasks=[json.loads(given)], methods=methods, **config
        )
        records = kvlab("eval", path, "--json").json["records"]
        values = {}
        for record in records:
            values.setdefault(record["method"], {})[record["metric"]] = record["value"]
        return values

    return run


def needles(**more):
    return {"builtin": "niah_single_1", "length": 700, "samples": 6, "max_new_tokens": 4} | more


def test_dense_answers_and_a_window_that_lost_the_needle_does_not(ask, kvlab):
    values = ask(needles(), WINDOW)
    assert values["dense"]["string_match_all"] == 1
    assert values["dense"]["string_match_strict"] == 1
    assert values["dense"]["needle_retention"] == 1
    assert values["dense"]["retrieval_given_kept"] == 1
    assert values["dense"]["empty_answers"] == 0
    lines = read_lines(kvlab.folder / "config" / "samples.jsonl")
    lost = [line for line in lines if line["method"].startswith("window")]
    kept = [ask.samples[line["id"]]["meta"]["depth"] > 90 for line in lost]
    assert [line["score"] for line in lost] == [float(k) for k in kept]
    assert values["window"]["needle_retention"] == pytest.approx(sum(kept) / len(kept))


def test_a_grid_shows_which_depths_a_window_holds(ask, kvlab):
    task = {"builtin": "needle_grid", "lengths": [300, 500], "depths": [0, 50, 100]}
    values = ask(task | {"max_new_tokens": 3}, WINDOW)
    assert values["dense"]["string_match_strict"] == 1
    lines = read_lines(kvlab.folder / "config" / "samples.jsonl")
    matrix = {
        (line["meta"]["length"], line["meta"]["depth"]): line["score"]
        for line in lines
        if line["method"].startswith("window")
    }
    assert matrix == {(n, d): float(d == 100) for n in (300, 500) for d in (0, 50, 100)}
    # What was kept was read.
    assert values["window"]["retrieval_given_kept"] == 1
    assert values["window"]["needle_retention"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("rollback", [False, True])
@pytest.mark.parametrize("query_aware", [False, True])
def test_every_turn_is_answered(ask, rollback, query_aware):
    task = needles(turns=3, rollback=rollback, samples=3)
    values = ask(task, matrix={"query_aware": [query_aware]})
    assert values["dense"]["string_match_all"] == 1


def test_the_key_that_is_asked_for_counts(ask):
    values = ask(needles(keys=4, samples=3))
    assert values["dense"]["string_match_all"] == 1


def test_the_first_integer_is_the_key(ask):
    values = ask({"builtin": "passkey", "length": 400, "samples": 4, "max_new_tokens": 3}, WINDOW)
    assert values["dense"]["first_int"] == 1
    assert values["window"]["first_int"] < 1


def test_a_random_model_runs_every_task_and_knows_nothing(kvlab, tmp_path):
    model = write_model(tmp_path / "model", byte_level())
    names = ["vt", "cwe", "fwe", "qa_syn_1", "qa_syn_2", "passkey"]
    names += [f"niah_{kind}" for kind in ("single_3", "multikey_3", "multivalue", "multiquery")]
    tasks = [{"builtin": name, "length": 2500, "samples": 1, "max_new_tokens": 4} for name in names]
    path = kvlab.config(model={"path": str(model)}, tasks=tasks, methods=[WINDOW])
    records = kvlab("eval", path, "--json").json["records"]
    scores = [r["value"] for r in records if r["metric"].startswith(("string_match", "first_int"))]
    assert len(scores) == 2 * (2 * len(names) - 1)  # two scores each, passkey one; two methods
    assert max(scores) == 0
    lost = [r for r in records if r["metric"] == "needle_retention" and r["method"] == "window"]
    assert len(lost) == 8
    assert all(r["value"] < 1 for r in lost)


def test_the_config_of_the_ruler_style_tasks_asks_all_thirteen(kvlab, repository):
    config = repository / "configs" / "ruler-style.json"
    cells = kvlab("eval", config, "--list", "--json", "--set", "model.path=/elsewhere").json[
        "cells"
    ]
    tasks = {cell["task"]["builtin"] for cell in cells}
    assert len(tasks) == 13
    assert {"niah_multikey_3", "vt", "cwe", "fwe", "qa_syn_2"} < tasks
    assert {cell["model"]["path"] for cell in cells} == {"/elsewhere"}
