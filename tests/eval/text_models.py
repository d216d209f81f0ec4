"""Small random Llamas that read and write text."""

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

POSITIONS = 16384
SAMPLE = [
    "Rain fell on the hills. The secret number of mukabo-nudumo is 2285144.",
    "What is the secret uuid of 76cc1103-f1ba-4bd0-af41-1435ebad3f93? Set RKBXR = 52305.",
]


def with_begin(tokenizer):
    begin = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    return tokenizer


def word_level() -> Tokenizer:
    """A token for each word, number and run of signs; most words are one and the same."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<s>", "<unk>", "</s>"]
    tokenizer.train_from_iterator(SAMPLE, trainers.WordLevelTrainer(special_tokens=special))
    return with_begin(tokenizer)


def byte_level() -> Tokenizer:
    """Byte pairs, as most models have them; spaces begin the tokens they are part of."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(SAMPLE * 4, trainer)
    return with_begin(tokenizer)


TOKENIZERS = {"words": word_level, "bytes": byte_level}


def write_model(folder: Path, tokenizer: Tokenizer, positions: int = POSITIONS) -> Path:
    """Two layers of four heads over two kv heads, weights drawn with seed 0."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def encoder(folder: Path):
    """The folder's tokenizer as text_task_definition wants it."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(text, special):
        encoding = tokenizer.encode(text, add_special_tokens=special)
        at = [0]
        for character in text:
            at.append(at[-1] + len(character.encode()))
        return encoding.ids, [(at[begin], at[end]) for begin, end in encoding.offsets]

    return encode


def builtin(name: str, **parameters) -> str:
    """A task as the command takes it."""
    return json.dumps({"builtin": name} | parameters)
