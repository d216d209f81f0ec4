"""A T5 directory that is not what it claims: one sentence that names what is wrong."""

import json

import pytest
import torch
import transformers
from spoiling import copied, set_config, set_tensor

CROSS = "decoder.block.0.layer.1.EncDecAttention.k.weight"
BIAS = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    config = transformers.T5Config(
        vocab_size=50,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=1,
        num_heads=4,
        decoder_start_token_id=0,
    )
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("written")
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model(written, tmp_path):
    """A copy to spoil, and a task for it."""
    document = {"encoder_ids": [3, 4], "context_ids": [0, 5], "query_ids": [6], "labels": [7]}
    (tmp_path / "docs.jsonl").write_text(json.dumps(document))
    file = {"task": "one", "type": "tokens", "docs": "docs.jsonl", "encoder_ids": "{encoder_ids}"}
    (tmp_path / "task.json").write_text(json.dumps(file))
    return copied(written, tmp_path / "model")


@pytest.fixture
def command(kvlab, model):
    task = {"task_file": "task.json"}
    return ("eval", kvlab.config(model={"path": str(model)}, tasks=[task]))


@pytest.fixture
def refused(kvlab, command):
    return lambda code, status=3: kvlab.refused(code, status, *command)


def test_what_is_spoilt_below_runs(kvlab, command):
    kvlab(*command)


def test_weights_that_are_not_finite(model, refused):
    weight = torch.zeros(32, 32)
    weight[1, 3] = float("nan")
    set_tensor(model, CROSS, weight)
    assert f"`{CROSS}`: element 35 " in refused("E_NONFINITE", 1)


@pytest.mark.parametrize(
    ("code", "tensor", "says"),
    [
        ("E_SHAPE", (CROSS, torch.zeros(32, 31)), "is [32, 31], the config says [32, 32]"),
        ("E_SHAPE", (BIAS, torch.zeros(31, 4)), "the config says [32, 4]"),
        ("E_UNSUPPORTED", (CROSS, torch.zeros(32, 32, dtype=torch.int8)), "is int8"),
        ("E_WEIGHT", (CROSS, None), f"has no tensor `{CROSS}`"),
        ("E_WEIGHT", (BIAS, None), f"has no tensor `{BIAS}`"),
        ("E_WEIGHT", ("decoder.block.1.layer.2.layer_norm.weight", torch.ones(32)), "belongs to"),
        ("E_WEIGHT", ("encoder.embed_tokens.weight", torch.ones(50, 32)), "differs from shared"),
    ],
    ids=["shape", "buckets", "dtype", "missing", "no bias", "extra", "other embedding"],
)
def test_tensors_that_do_not_fit_the_config(model, refused, code, tensor, says):
    set_tensor(model, *tensor)
    assert says in refused(code)


def test_copies_that_old_checkpoints_carry_are_no_harm(kvlab, model, command):
    from safetensors.torch import load_file

    shared = load_file(model / "model.safetensors")["shared.weight"]
    set_tensor(model, "encoder.embed_tokens.weight", shared.clone())
    set_tensor(model, "lm_head.weight", shared.clone())
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    set_tensor(model, unread, torch.ones(32, 4))
    kvlab(*command)


@pytest.mark.parametrize(
    ("code", "changes", "says"),
    [
        ("E_UNSUPPORTED", {"feed_forward_proj": "gated-tanh"}, "feed_forward_proj"),
        ("E_UNSUPPORTED", {"architectures": ["T5EncoderModel"]}, "T5ForConditionalGeneration"),
        ("E_UNSUPPORTED", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("E_UNSUPPORTED", {"model_type": "bart", "architectures": None}, "gemma2, t5, whisper"),
        ("E_FORMAT", {"d_kv": "8"}, "d_kv"),
        ("E_FORMAT", {"num_layers": 10**12}, "num_layers"),
        ("E_FORMAT", {"relative_attention_max_distance": 16}, "above half of"),
        ("E_FORMAT", {"vocab_size": "absent"}, "vocab_size"),
        ("E_FORMAT", {"dtype": "float8"}, "float16"),
        # Its head is said to be its own, and is not there.
        (
            "E_WEIGHT",
            {"tie_word_embeddings": False, "scale_decoder_outputs": "absent"},
            "lm_head.weight",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_configs_that_are_no_network_of_ours(model, refused, code, changes, says):
    set_config(model, **changes)
    assert says in refused(code)
