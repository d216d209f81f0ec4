"""A model directory that is not what it claims: one sentence that names what is wrong."""

import json
import struct

import pytest
import torch
import transformers
from safetensors.torch import load_file
from spoiling import copied, set_config, set_tensor

PROJECTION = "model.layers.0.self_attn.k_proj.weight"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("written")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model(written, tmp_path):
    """A copy to spoil."""
    (tmp_path / "tokens.json").write_text(json.dumps([1 + i % 40 for i in range(32)]))
    return copied(written, tmp_path / "model")


@pytest.fixture
def refused(kvlab, model):
    def refused(code, status=3, *more):
        command = ["ppl", "--model", model, "--tokens", "tokens.json", "--protocol", "decode(16,8)"]
        return kvlab.refused(code, status, *command, *more)

    return refused


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(model, refused, value):
    weight = load_file(model / "model.safetensors")[PROJECTION]
    weight[1, 3] = value
    set_tensor(model, PROJECTION, weight)
    assert f"`{PROJECTION}`: element 35 " in refused("E_NONFINITE", 1)


def test_weights_that_float16_cannot_hold(model, refused):
    set_tensor(model, PROJECTION, load_file(model / "model.safetensors")[PROJECTION] + 1e6)
    assert "as float16" in refused("E_NONFINITE", 1, "--dtype", "float16")


@pytest.mark.parametrize(
    ("code", "tensor", "says"),
    [
        ("E_SHAPE", (PROJECTION, torch.zeros(16, 31)), "is [16, 31], the config says [16, 32]"),
        ("E_UNSUPPORTED", (PROJECTION, torch.zeros(16, 32, dtype=torch.int8)), "is int8"),
        ("E_WEIGHT", (PROJECTION, None), f"has no tensor `{PROJECTION}`"),
        ("E_WEIGHT", ("model.layers.1.mlp.up_proj.weight", torch.zeros(48, 32)), "belongs to no"),
    ],
    ids=["shape", "dtype", "missing", "extra"],
)
def test_tensors_that_do_not_fit_the_config(model, refused, code, tensor, says):
    set_tensor(model, *tensor)
    assert says in refused(code)


def test_files_that_are_cut_or_lie(model, refused):
    path = model / "model.safetensors"
    whole = path.read_bytes()
    for bytes_left in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:bytes_left])
        assert "model.safetensors" in refused("E_FORMAT")
    path.write_bytes(struct.pack("<Q", 1 << 62) + whole[8:])
    assert "header" in refused("E_FORMAT")
    path.unlink()
    assert "safetensors" in refused("E_FILE")
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {PROJECTION: "../model.safetensors"}})
    )
    assert "no plain file name" in refused("E_FORMAT")
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {PROJECTION: "model-00001-of-00002.safetensors"}})
    )
    refused("E_FILE")


@pytest.mark.parametrize(
    ("code", "changes", "says"),
    [
        ("E_UNSUPPORTED", {"model_type": "mamba", "architectures": None}, "`mamba`"),
        ("E_UNSUPPORTED", {"architectures": ["LlamaForTokenClassification"]}, "LlamaForCausalLM"),
        ("E_UNSUPPORTED", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("E_UNSUPPORTED", {"hidden_act": "relu"}, "`relu`"),
        (
            "E_UNSUPPORTED",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "dynamic",
        ),
        ("E_FORMAT", {"num_attention_heads": 3}, "num_key_value_heads"),
        ("E_FORMAT", {"hidden_size": "32"}, "hidden_size"),
        ("E_FORMAT", {"hidden_size": -32}, "hidden_size"),
        ("E_FORMAT", {"num_hidden_layers": 10**12}, "num_hidden_layers"),
        ("E_FORMAT", {"rms_norm_eps": "absent"}, "rms_norm_eps"),
        ("E_FORMAT", {"dtype": "float8"}, "float16"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_configs_that_are_no_network_of_ours(model, refused, code, changes, says):
    set_config(model, **changes)
    assert says in refused(code)
