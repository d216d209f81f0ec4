"""T5 and Whisper against transformers: kvlab must give the same logits however the decoder's tokens
are fed, and the same greedy text.
"""

import pytest
import torch
from agreement import FP32_BOUND, assert_greedy, assert_rounding_alone
from encoder_decoders import LENGTHS, T5, Whisper, Written

pytestmark = pytest.mark.usefixtures("one_thread")

NEW_TOKENS = 12
FEEDINGS = {
    "one pass": {"chunk": 0},
    "chunks of 7": {"chunk": 7},
    "token by token": {"chunk": 1},
    "without a cache": {"attention": "definition"},
}


NETWORKS = {
    "t5": T5(),
    # As the first files of v1.1 say it, and as transformers 5 does.
    "t5-v1.1": T5(
        {"feed_forward_proj": "gated-gelu"},
        untied=True,
        says={"tie_word_embeddings": False, "scale_decoder_outputs": "absent"},
    ),
    "t5-v1.1-resaved": T5(
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, untied=True
    ),
    "t5-untied-scaled": T5(untied=True),
    "t5-tied-unscaled": T5({"tie_word_embeddings": False}),
    "t5-gated-silu-wide-heads": T5(
        {"feed_forward_proj": "gated-silu", "num_heads": 5, "d_kv": 24, "num_decoder_layers": None}
    ),
    "t5-near": T5({"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}),
    "t5-far": T5({"relative_attention_num_buckets": 33, "relative_attention_max_distance": 400}),
    "t5-one-block": T5({"num_layers": 1, "num_decoder_layers": 1, "feed_forward_proj": "gelu"}),
    "whisper": Whisper(),
    "whisper-fewer-frames": Whisper(frames=(40, 2, 26)),
    "whisper-untied": Whisper({"tie_word_embeddings": False}, untied=True),
    "whisper-relu-other-heads": Whisper(
        {"activation_function": "relu", "encoder_attention_heads": 6, "decoder_attention_heads": 2}
    ),
}


def request(written):
    fed = {"sequences": written.sequences, "sources": written.sources}
    return {
        "model": {"path": str(written.folder / "model")},
        "runs": [{"name": name, **fed, **how} for name, how in FEEDINGS.items()],
        "generate": [
            {"name": "greedy", "prompts": [[0], [0, 5, 7], [0, 3]], "sources": written.sources}
            | {"max_new": NEW_TOKENS, "chunk": 2}
        ],
    }


def written_and_dumped(network, dtype, dump_logits, factory):
    written = Written(network, factory.mktemp("network"), dtype)
    return written, dump_logits(written.folder, request(written))


@pytest.fixture(scope="module", params=NETWORKS)
def in_float32(request, dump_logits, tmp_path_factory):
    return written_and_dumped(NETWORKS[request.param], torch.float32, dump_logits, tmp_path_factory)


def test_logits_are_those_of_transformers(in_float32):
    written, got = in_float32
    for i, want in enumerate(written.logits(written.loaded(torch.float32))):
        for run in FEEDINGS:
            off = (got[f"{run}.{i}"] - want).abs().max() / want.abs().max()
            assert off <= FP32_BOUND, f"{run}, sequence {i}: {off}"


def test_text_is_that_of_transformers(in_float32):
    written, got = in_float32
    model = written.loaded(torch.float32)
    for i, prompt in enumerate(request(written)["generate"][0]["prompts"]):
        text = got[f"greedy.{i}"].tolist()
        assert len(text) == NEW_TOKENS
        logits = written.network.logits(model, written.sources[i], prompt + text)
        bound = 2 * FP32_BOUND * float(logits.abs().max())
        assert_greedy(logits[len(prompt) - 1 : -1], text, bound)


HALVES = [(name, torch.bfloat16) for name in NETWORKS] + [
    (name, torch.float16) for name in ("t5", "t5-v1.1", "whisper")
]


@pytest.mark.parametrize(("name", "dtype"), HALVES, ids=str)
def test_sixteen_bits_differ_by_rounding_alone(name, dtype, dump_logits, tmp_path_factory):
    written, got = written_and_dumped(NETWORKS[name], dtype, dump_logits, tmp_path_factory)
    theirs = torch.cat(written.logits(written.loaded(dtype)))
    truth = torch.cat(written.logits(written.loaded(torch.float32)))
    for run in FEEDINGS:
        ours = torch.cat([got[f"{run}.{i}"] for i in range(len(LENGTHS))])
        assert_rounding_alone(ours, theirs, truth, run)
