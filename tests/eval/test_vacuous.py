"""A score counts only if the compressed cache was read to get it.

One stream, one model, one method; only the feeding differs.  128 context tokens hold eight pairs,
eight queries follow; the method keeps one sink and the newest tokens, so that every pair is gone by
the time of the queries.
"""

import json
import math

import pytest
from command import read_lines
from recall_definition import answers, mqar

pytestmark = pytest.mark.examples("quant", "window")

# 64 stored tokens beside the sink; `recent` also counts the query's own.
WINDOW = {"name": "window", "params": {"sink": 1, "recent": 65}}
MQAR = {"builtin": "mqar", "pairs": 8, "context": 128, "samples": 1}
DENSE_NLL = 0.000191


def run(kvlab, task: dict, *arguments, **matrix) -> dict[tuple[str, str], float]:
    """(method, metric) -> value of an experiment with dense and the window."""
    config = kvlab.config(tasks=[MQAR | task], methods=[WINDOW], matrix=matrix)
    kvlab("eval", config, *arguments)
    lines = read_lines(kvlab.folder / "config" / "results.jsonl")
    return {(line["method"], line["metric"]): line["value"] for line in lines}


def test_one_pass_is_refused(kvlab):
    config = kvlab.config(
        tasks=[MQAR | {"protocol": "prefill"}], methods=[WINDOW], matrix={"prefill_chunk": [0]}
    )
    sentence = kvlab.refused("E_METHOD_CANNOT_MATTER", 4, "eval", config)
    assert "window" in sentence
    assert not (kvlab.folder / "config").exists()


def test_the_config_shows_it(kvlab, repository):
    eval_config = ["eval", repository / "configs" / "vacuous.json", "--out", "shown", "--json"]
    one_pass = ["--set", "tasks.0.protocol=prefill"]
    kvlab.refused("E_METHOD_CANNOT_MATTER", 4, *eval_config, *one_pass)
    records = kvlab(*eval_config).json["records"]
    right = {line["method"]: 8 * line["value"] for line in records if line["metric"] == "acc"}
    assert right == {"dense": 8, "window": 0}


def test_one_pass_that_is_allowed_gives_the_dense_score(kvlab):
    got = run(kvlab, {"protocol": "prefill"}, "--allow-vacuous", prefill_chunk=[0])
    assert got["dense", "acc"] == got["window", "acc"] == 1
    assert got["dense", "nll"] == got["window", "nll"] == pytest.approx(DENSE_NLL, abs=1e-6)


def keep_all(positions, newest):
    return positions >= 0


def keep_window(positions, newest):
    return (positions < 1) | (positions > newest - 64)


@pytest.mark.parametrize(
    ("task", "chunk", "passes", "right"),
    [
        ({"protocol": "prefill"}, 72, [72, 72], 5),
        ({"protocol": "prefill"}, 48, [48, 48, 48], 0),
        ({"query_chunk": 1}, 0, [128] + 16 * [1], 0),
    ],
    ids=["chunks of 72", "chunks of 48", "decode"],
)
def test_feeding_decides_what_is_seen(kvlab, task, chunk, passes, right):
    got = run(kvlab, task, prefill_chunk=[chunk])
    stream = mqar(seed=7, index=0, pairs=8, context=128)
    for method, keep, want in (("dense", keep_all, 8), ("window", keep_window, right)):
        defined, nll = answers(*stream, passes, keep)
        assert got[method, "acc"] == defined / 8 == want / 8
        assert got[method, "nll"] == pytest.approx(nll, rel=1e-4)


def test_dense_does_not_depend_on_feeding(kvlab):
    config = kvlab.config(
        tasks=[MQAR | {"protocol": "prefill"}], matrix={"prefill_chunk": [0, 7, 128]}
    )
    kvlab("eval", config)
    lines = read_lines(kvlab.folder / "config" / "results.jsonl")
    nll = [line["value"] for line in lines if line["metric"] == "nll"]
    assert len(nll) == 3
    assert nll == pytest.approx([DENSE_NLL] * 3, abs=1e-6)
    assert math.ulp(1) < DENSE_NLL  # a real loss, not a rounded zero


def test_a_masked_pass_reads_what_token_by_token_reads(kvlab):
    one_pass = run(kvlab, {"protocol": "prefill"}, prefill_chunk=[0], read_policy=["masked"])
    stepwise = run(kvlab, {"protocol": "prefill"}, prefill_chunk=[1], read_policy=["masked"])
    assert one_pass["window", "nll"] == pytest.approx(stepwise["window", "nll"], abs=1e-5)
    assert one_pass["window", "acc"] == 0


def test_the_record_says_whether_anything_was_read_compressed(kvlab):
    run(kvlab, {"query_chunk": 1}, prefill_chunk=[0])
    samples = read_lines(kvlab.folder / "config" / "samples.jsonl")
    by_method = {line["method"].split("(")[0]: line for line in samples}
    assert by_method["window"]["first_scored_after_compress"] is True
    assert by_method["window"]["compress_events"] > 0
    assert by_method["dense"]["first_scored_after_compress"] is False
    assert by_method["dense"]["compress_events"] == 0


def test_ppl_refuses_one_pass_too(kvlab):
    tokens = kvlab.folder / "tokens.json"
    tokens.write_text(json.dumps([0] + [1 + i % 31 for i in range(63)]))
    ppl = ["ppl", "--model", "recall2", "--tokens", tokens, "--method", "quant"]
    sentence = kvlab.refused(
        "E_METHOD_CANNOT_MATTER", 4, *ppl, "--protocol", "disjoint(64)", "--json"
    )
    assert "decode" in sentence
    assert "read policy stored" in sentence
    stored = [*ppl, "--protocol", "disjoint(64)", "--read-policy", "stored"]
    assert kvlab(*stored, "--json").json["tokens"] == 63
    assert kvlab(*ppl, "--protocol", "decode(32,31)", "--json").json["tokens"] == 31
