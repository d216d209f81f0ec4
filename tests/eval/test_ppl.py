"""kvlab ppl on a small random model: one number per token, whatever the feeding."""

import json
import math

import numpy as np
import pytest
from command import VOCAB

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.examples("quant")


@pytest.fixture(scope="module")
def text() -> list[int]:
    return np.random.default_rng(1).integers(0, VOCAB, 3 * 80 + 5).tolist()


@pytest.fixture
def ppl(kvlab, model_folder, text):
    path = kvlab.folder / "tokens.json"
    path.write_text(json.dumps(text))

    def run(*arguments, **options):
        command = ["ppl", "--model", model_folder, "--tokens", path, "--json", "--per-token"]
        return kvlab(*command, *arguments, **options)

    return run


@pytest.fixture(scope="module")
def reference(model_folder, text) -> np.ndarray:
    """-ln p of the tokens 1.. of each window of 80, by transformers, in float64."""
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder).double()
    windows = torch.tensor(text[:240]).reshape(3, 80)
    with torch.no_grad():
        log_p = torch.log_softmax(model(windows).logits, -1)
    return -log_p[:, :-1].gather(-1, windows[:, 1:, None])[..., 0].numpy()


def test_one_pass_equals_transformers(ppl, reference):
    got = ppl("--protocol", "disjoint(80)").json
    assert got["tokens"] == 3 * 79
    assert got["per_token"] == pytest.approx(reference.ravel().tolist(), abs=1e-4)
    assert got["nats_per_token"] == pytest.approx(reference.mean(), abs=1e-5)
    assert got["ppl_disjoint80"] == pytest.approx(math.exp(reference.mean()), rel=1e-4)


@pytest.mark.parametrize("chunk", [0, 7, 64])
@pytest.mark.parametrize("scored", [1, 3, 39])
def test_decode_equals_one_pass_for_dense(ppl, reference, scored, chunk):
    got = ppl("--protocol", f"decode(40,39,{scored},{chunk})").json
    assert got["tokens"] == 3 * 39
    assert got["per_token"] == pytest.approx(reference[:, 40:].ravel().tolist(), abs=1e-4)
    assert got["delta_nll"] == 0
    assert got["noise_floor"] < 1e-5
    assert got["prefill_chunk"] == chunk


def test_a_prefill_chunk_from_the_command_line(ppl, reference):
    got = ppl("--protocol", "disjoint(80)", "--prefill-chunk", "13").json
    assert got["per_token"] == pytest.approx(reference.ravel().tolist(), abs=1e-4)
    assert got["prefill_chunk"] == 13


def test_bytes_are_the_formula(ppl):
    """2 layers, 2 kv heads of 16: 128 numbers a token; 40 + 39 tokens are fed."""
    got = ppl("--protocol", "decode(40,39)").json
    assert got["cache_bytes"] == 79 * 128 * 4
    assert got["dense_bytes"] == 79 * 128 * 2
    assert got["dense_bytes_run_dtype"] == got["cache_bytes"]
    assert got["cr"] == 0.5
    assert got["cr_run_dtype"] == 1
    assert ppl("--protocol", "decode(40,39)", "--dtype", "bfloat16").json["cr"] == 1


def test_a_lossy_method_stands_beside_dense(ppl):
    got = ppl("--protocol", "decode(40,39)", "--method", "quant").json
    dense = got["dense"]
    assert dense["method"] == "dense"
    assert len(got["per_token"]) == len(dense["per_token"]) == got["tokens"]
    difference = np.subtract(got["per_token"], dense["per_token"])
    assert np.abs(difference).max() > 0
    assert got["delta_nll"] == pytest.approx(difference.mean(), abs=1e-12)
    assert got["ppl_ratio"] == pytest.approx(math.exp(difference.mean()))
    assert got["cache_bytes"] < dense["cache_bytes"] / 4
    assert got["first_scored_after_compress"] is True
    assert {use["phase"] for use in got["kernels"]} == {"prefill", "decode"}
    assert all(use["kernel"] and use["level"] for use in got["kernels"])


def test_a_bos_is_fed_and_not_counted(ppl, model_folder, text):
    got = ppl("--protocol", "decode(40,39)", "--bos", "each_window").json
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder).double()
    window = torch.tensor([[model.config.bos_token_id, *text[:80]]])
    with torch.no_grad():
        log_p = torch.log_softmax(model(window).logits, -1)[0]
    want = [-log_p[t, text[t]].item() for t in range(41, 80)]
    assert got["per_token"][:39] == pytest.approx(want, abs=1e-4)
    assert got["dense_bytes"] == 80 * 128 * 2


def test_frozen_reads_the_prefix_as_stored_and_the_rest_as_it_came(ppl):
    stored = ppl("--protocol", "decode(40,39)", "--method", "quant").json
    frozen = ppl("--protocol", "decode(40,39)", "--method", "quant", "--freeze").json
    assert frozen["protocol"] == "decode(40,39,freeze)"
    assert abs(frozen["delta_nll"]) > 0
    assert frozen["per_token"][0] == pytest.approx(stored["per_token"][0], abs=1e-5)
    assert frozen["per_token"] != stored["per_token"]


def test_defaults_come_from_the_model(ppl):
    got = ppl().json  # 96 positions: 64 tokens are prefilled, 23 scored
    assert got["protocol"] == "decode(64,23,1)"
    assert got["windows"] == 2
    assert got["bos"] == "none"


def test_the_table_shows_dense_first(kvlab, model_folder, text):
    path = kvlab.folder / "tokens.txt"
    path.write_text(" ".join(map(str, text)))

    def row(method):
        out = kvlab("ppl", "--model", model_folder, "--tokens", path, "--method", method).out
        rows = [line for line in out.splitlines() if line.startswith("| ")]
        assert "| delta_nll |" in " ".join(rows[0].split())
        assert rows[1].startswith("| dense")
        assert rows[2].startswith(f"| {method}")
        return rows[2]

    assert "noise" not in row("quant")
    assert "≤ noise" in row("window")  # of more tokens than the text has


def test_a_window_longer_than_the_model_is_refused(kvlab, model_folder, text):
    path = kvlab.folder / "tokens.json"
    path.write_text(json.dumps(text))
    sentence = kvlab.refused(
        "E_CONTEXT_TOO_LONG",
        3,
        *["ppl", "--model", model_folder, "--tokens", path, "--protocol", "decode(60,60)"],
    )
    assert "takes 121 positions, the model has 96" in sentence


def test_logits_that_are_not_finite_end_the_sample(kvlab, loud_model, text):
    path = kvlab.folder / "tokens.json"
    path.write_text(json.dumps(text))
    result = kvlab("ppl", "--model", loud_model, "--tokens", path, "--json", expect=1)
    assert result.json["nan_samples"] == 2
    assert result.json["tokens"] == 0
    assert result.json["nats_per_token"] is None
    assert result.err.startswith("kvlab: E_NONFINITE: ppl: ")
