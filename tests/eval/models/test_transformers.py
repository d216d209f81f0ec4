"""Every architecture of the Llama family, against transformers.

A small random network is written by `save_pretrained`; kvlab must give the same logits however the
tokens are fed, and the same greedy text.  Norm weights and biases are random too, and weights large
enough that attention, windows and soft-caps matter: a network that ignores one of them fails.
"""

from dataclasses import dataclass, field

import pytest
import torch
import transformers
from agreement import FP32_BOUND, assert_greedy, assert_rounding_alone, random_tokens

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = (150, 1, 37, 96)  # of a ragged batch; the first is longer than every window below
PROMPTS = (37, 20, 33)  # continued together
NEW_TOKENS = 16


@dataclass
class Network:
    """A family and the numbers of one member of it."""

    family: str
    options: dict = field(default_factory=dict)
    model: dict = field(default_factory=dict)  # what kvlab is told beyond the path
    shards: str | None = None  # max_shard_size
    lengths: tuple = LENGTHS

    def config(self):
        sizes = {
            "vocab_size": 131,
            "hidden_size": 64,
            "intermediate_size": 112,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": None,
        }
        return getattr(transformers, self.family + "Config")(**(sizes | self.options))


def rope(rope_type, **more):
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **more}}


def longrope(pretrained):
    return rope(
        "longrope",
        short_factor=[1.0 + 0.05 * i for i in range(8)],
        long_factor=[2.0 + 0.5 * i for i in range(8)],
        original_max_position_embeddings=pretrained,
    ) | {"original_max_position_embeddings": pretrained}


NETWORKS = {
    "llama": Network("Llama"),
    "llama-tied": Network("Llama", {"tie_word_embeddings": True}),
    "llama-biases": Network("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-linear": Network("Llama", rope("linear", factor=4.0)),
    "llama3-rope": Network(
        "Llama",
        rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    "llama-yarn": Network("Llama", rope("yarn", factor=8.0, original_max_position_embeddings=64)),
    "llama-sharded": Network("Llama", shards="60KB"),
    "llama-one-layer-head80": Network(
        "Llama",
        {"num_hidden_layers": 1, "head_dim": 80, "vocab_size": 203, "num_key_value_heads": 1},
    ),
    "llama-3-of-9-heads-of-48": Network(
        "Llama",
        {
            "hidden_size": 72,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 48,
            "vocab_size": 57,
        },
    ),
    "mistral": Network("Mistral", {"sliding_window": 16}),
    "mistral-no-window": Network("Mistral", {"sliding_window": None}),
    "qwen2": Network("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": Network(
        "Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
    ),
    "qwen3": Network("Qwen3", {"head_dim": 32}),
    "qwen3-window": Network(
        "Qwen3",
        {
            "head_dim": 48,
            "use_sliding_window": True,
            "sliding_window": 20,
            "max_window_layers": 2,
        },
    ),
    "phi3": Network("Phi3", {"sliding_window": 24}),
    "phi3-partial": Network("Phi3", rope("default", partial_rotary_factor=0.5)),
    "phi3-longrope-short": Network("Phi3", longrope(160)),
    "phi3-longrope-long": Network(
        "Phi3", longrope(16), model={"longrope": "long"}, lengths=(150, 37, 96)
    ),
    "gemma2": Network(
        "Gemma2",
        {
            "sliding_window": 16,
            "head_dim": 24,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma2-uncapped": Network(
        "Gemma2",
        {
            "sliding_window": 16,
            "head_dim": 16,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        },
    ),
}

FEEDINGS = {  # how the sequences of a ragged batch are fed
    "one pass": {"chunk": 0},
    "chunks of 7": {"chunk": 7},
    "chunks of 64": {"chunk": 64},
    "token by token": {"chunk": 1},
    "without a cache": {"attention": "definition"},
}


AutoModel = transformers.AutoModelForCausalLM


def random_network(config, dtype):
    """Nothing of it is left at 0 or 1, where a mistake could hide.

    In 16 bits its logits are smaller: two ways to round differ by their square.
    """
    gain, embedding = (1.3, 0.3) if dtype == torch.float32 else (0.5, 0.08)
    torch.manual_seed(7)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "embed_tokens" in name:
                parameter.copy_(torch.randn_like(parameter) * embedding)
            else:
                parameter.copy_(torch.randn_like(parameter) * gain / parameter.shape[1] ** 0.5)
    return model.to(dtype)


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.tensor([tokens]), use_cache=False).logits[0].float()


class Written:
    """A network on disk, and what transformers says of it."""

    def __init__(self, network, folder, dtype):
        config = network.config()
        self.folder = folder
        options = {"max_shard_size": network.shards} if network.shards else {}
        random_network(config, dtype).save_pretrained(folder / "model", **options)
        self.model = {"path": str(folder / "model"), **network.model}
        self.sequences = random_tokens(config.vocab_size, network.lengths)
        self.prompts = random_tokens(config.vocab_size, PROMPTS)

    def loaded(self, dtype):
        path = self.folder / "model"
        return AutoModel.from_pretrained(path, dtype=dtype, attn_implementation="eager").eval()

    def runs(self):
        feedings = [
            {"name": name, "sequences": self.sequences, **how} for name, how in FEEDINGS.items()
        ]
        return [*feedings, {"name": "alone", "sequences": self.sequences[:1], "chunk": 0}]

    def request(self):
        generate = [
            {"name": f"greedy {chunk}", "prompts": self.prompts, "max_new": NEW_TOKENS}
            | {"chunk": chunk}
            for chunk in (0, 16)
        ]
        return {"model": self.model, "runs": self.runs(), "generate": generate}


def written_and_dumped(network, dtype, dump_logits, factory):
    written = Written(network, factory.mktemp("network"), dtype)
    return written, written.loaded(dtype), dump_logits(written.folder, written.request())


@pytest.fixture(scope="module", params=NETWORKS)
def in_float32(request, dump_logits, tmp_path_factory):
    network = NETWORKS[request.param]
    return written_and_dumped(network, torch.float32, dump_logits, tmp_path_factory)


def test_logits_are_those_of_transformers(in_float32):
    written, reference, got = in_float32
    for i, tokens in enumerate(written.sequences):
        want = logits_of(reference, tokens)
        for run in written.runs():
            if i < len(run["sequences"]):
                off = (got[f"{run['name']}.{i}"] - want).abs().max()
                assert off <= FP32_BOUND, f"{run['name']}, sequence {i}: {off}"


def test_text_is_that_of_transformers(in_float32):
    written, reference, got = in_float32
    for i, prompt in enumerate(written.prompts):
        text = got[f"greedy 0.{i}"].tolist()
        assert len(text) == NEW_TOKENS
        logits = logits_of(reference, prompt + text)[len(prompt) - 1 : -1]
        assert_greedy(logits, text, 2 * FP32_BOUND)
        assert got[f"greedy 16.{i}"].tolist() == text


HALVES = [(name, torch.bfloat16) for name in NETWORKS] + [
    (name, torch.float16) for name in ("llama", "qwen3", "phi3", "gemma2")
]


@pytest.mark.parametrize(("name", "dtype"), HALVES, ids=str)
def test_sixteen_bits_differ_by_rounding_alone(name, dtype, dump_logits, tmp_path_factory):
    written, reference, got = written_and_dumped(
        NETWORKS[name], dtype, dump_logits, tmp_path_factory
    )
    theirs = [logits_of(reference, tokens) for tokens in written.sequences]
    exact = written.loaded(torch.float32)  # the same weights, nothing rounded between them
    truth = [logits_of(exact, tokens) for tokens in written.sequences]
    for run in written.runs():
        count = len(run["sequences"])
        ours = torch.cat([got[f"{run['name']}.{i}"] for i in range(count)])
        assert_rounding_alone(
            ours, torch.cat(theirs[:count]), torch.cat(truth[:count]), run["name"]
        )
