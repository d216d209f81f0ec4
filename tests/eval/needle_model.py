"""A Llama that answers needle questions, constructed, not trained.

It recalls by two words: where the newest two words stood together before, it looks up the word that
followed and says it.  "The secret number of K is" therefore ends in K's number as long as the cache
holds what followed "K is", and in anything else when it does not.

Layer 1 has two heads that look one and two positions back; layer 2 looks for the two words.  The
residual stream holds the token, the two before it and the answer, one-hot, and a constant.  A word
is a token, so the vocabulary is made of the texts that are to be answered.
"""

from pathlib import Path

import torch
import transformers
from text_models import with_begin
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = 80  # of the vocabulary at most
HEAD, PAIRS = 256, 128
THETA = 1e16
FAST = range(0, 24, 3)  # pairs that tell neighbours apart: 10^(-3/8), 10^(-6/8), ... per position
SLOW = 48  # from here on a pair turns by less than 1e-6 per position: its angle is a code
TOKEN, BEFORE, EARLIER, ANSWER, ONE = (WORDS * i for i in range(5))
WIDTH = ONE + 2  # even, for two heads; the last is unused
EPSILON = 1e-9


def tokenizer_of(texts: list[str]) -> Tokenizer:
    words = dict.fromkeys(["<s>", "<unk>", *(word for text in texts for word in text.split())])
    assert len(words) <= WORDS
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return with_begin(tokenizer)


def look_back(attention):
    """Head h attends to the position h + 1 back and takes its token along."""
    norm = (WIDTH / 2) ** 0.5  # of a token and the constant
    strength = (400 * HEAD**0.5 / len(FAST)) ** 0.5
    for pair in FAST:
        angle = THETA ** (-pair / PAIRS)
        attention["k"][pair, ONE] = strength / norm
        for head in range(2):
            turn = torch.tensor(-(head + 1) * angle, dtype=torch.float64)
            attention["q"][HEAD * head + pair, ONE] = strength / norm * turn.cos()
            attention["q"][HEAD * head + PAIRS + pair, ONE] = strength / norm * turn.sin()
    for word in range(WORDS):
        attention["v"][word, TOKEN + word] = 1 / norm
        attention["o"][BEFORE + word, word] = 1
        attention["o"][EARLIER + word, HEAD + word] = 1


def match(attention):
    """Head 0 attends to where the two words before are the newest two."""
    norm = (WIDTH / 4) ** 0.5
    strength = (40 * HEAD**0.5) ** 0.5
    for word in range(WORDS):
        for i, (asked, found) in enumerate([(TOKEN, BEFORE), (BEFORE, EARLIER)]):
            pair, side = divmod(WORDS * i + word, 2)
            code = SLOW + pair + PAIRS * side
            attention["q"][code, asked + word] = strength / norm
            attention["k"][code, found + word] = strength / norm
        attention["v"][word, TOKEN + word] = 1 / norm
        attention["o"][ANSWER + word, word] = 1


def write_needle_model(folder: Path, texts: list[str], positions: int = 2048) -> Path:
    """For texts of these words; all others are one and the same."""
    rope = {"rope_type": "default", "rope_theta": THETA}
    config = transformers.LlamaConfig(
        vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=1, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=HEAD, rms_norm_eps=EPSILON,
        max_position_embeddings=positions, rope_parameters=rope, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    network = transformers.LlamaForCausalLM(config).to(torch.float32)
    weights = {
        name: torch.ones_like(weight) if "norm" in name else torch.zeros_like(weight)
        for name, weight in network.state_dict().items()
    }
    for layer, fill in enumerate([look_back, match]):
        names = {p: f"model.layers.{layer}.self_attn.{p}_proj.weight" for p in "qkvo"}
        fill({p: weights[name] for p, name in names.items()})
    for word in range(WORDS):
        weights["model.embed_tokens.weight"][word, TOKEN + word] = 1
        weights["lm_head.weight"][word, ANSWER + word] = 12 / (WIDTH / 5) ** 0.5
    weights["model.embed_tokens.weight"][:, ONE] = 1
    network.load_state_dict(weights)
    network.save_pretrained(folder)
    tokenizer_of(texts).save(str(folder / "tokenizer.json"))
    return folder
