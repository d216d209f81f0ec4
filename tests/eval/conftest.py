"""The `kvlab` command and a small model for it."""

from pathlib import Path

import pytest
from command import CONTEXT, VOCAB, Command


@pytest.fixture
def kvlab(kvlab_command, tmp_path) -> Command:
    return Command(kvlab_command, tmp_path)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A small random Llama as transformers writes it, without a tokenizer."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
    )
    folder = tmp_path_factory.mktemp("model")
    transformers.LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def loud_model(model_folder, tmp_path_factory) -> Path:
    """The small model with weights that are finite, but not after a product."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("loud")
    (folder / "config.json").write_text((model_folder / "config.json").read_text())
    weights = load_file(model_folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].clone()
    weights["lm_head.weight"][3] = 3e38
    save_file(weights, folder / "model.safetensors")
    return folder
