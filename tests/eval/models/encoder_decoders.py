"""Small random networks with an encoder, written by `save_pretrained`, and what transformers says
of them.  As in test_transformers.py nothing is left at 0 or 1, where a mistake could hide.
"""

from dataclasses import dataclass, field

import torch
import transformers
from agreement import random_tokens
from safetensors.torch import load_file
from spoiling import set_config

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

LENGTHS = (150, 1, 37)  # of what the decoder is fed; the first reaches beyond every max_distance
SOURCES = (90, 1, 301)  # of what the encoder reads; the last takes two blocks of query rows


def randomised(model, dtype):
    """In 16 bits logits are smaller: two ways to round differ by their square."""
    gain, embedding = (1.3, 0.3) if dtype == torch.float32 else (0.5, 0.08)
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "embed" in name or "shared" in name:
                parameter.copy_(torch.randn_like(parameter) * embedding)
            else:
                parameter.copy_(torch.randn_like(parameter) * gain / parameter[0].numel() ** 0.5)
    return model.to(dtype)


@dataclass
class T5:
    """The numbers of one member of the family."""

    options: dict = field(default_factory=dict)
    untied: bool = False
    says: dict = field(default_factory=dict)  # of config.json, in place of what transformers writes
    vocab_size = 131

    def write(self, folder, dtype):
        sizes = {
            "vocab_size": self.vocab_size,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 112,
            "num_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 4,
            "decoder_start_token_id": 0,
            "eos_token_id": None,
        }
        config = transformers.T5Config(**(sizes | self.options))
        model = transformers.T5ForConditionalGeneration(config)
        if self.untied:
            model.lm_head.weight = torch.nn.Parameter(torch.empty(self.vocab_size, 64))
        randomised(model, dtype).save_pretrained(folder)
        if self.untied:
            assert "lm_head.weight" in load_file(folder / "model.safetensors")
        set_config(folder, **self.says)

    def load(self, folder, dtype):
        return transformers.T5ForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager"
        ).eval()

    def sources(self):
        return random_tokens(self.vocab_size, SOURCES, seed=5)

    @torch.no_grad()
    def logits(self, model, source, tokens):
        ids = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([tokens])}
        return model(**ids, use_cache=False).logits[0].float()


@dataclass
class Whisper:
    """The same of this family."""

    options: dict = field(default_factory=dict)
    frames: tuple = (40, 40, 40)  # of the sources; transformers takes 2 max_source_positions alone
    untied: bool = False
    vocab_size = 120

    def write(self, folder, dtype):
        sizes = {
            "vocab_size": self.vocab_size,
            "num_mel_bins": 10,
            "d_model": 48,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 80,
            "decoder_ffn_dim": 112,
            "max_source_positions": 20,
            "max_target_positions": 170,
            "pad_token_id": 1,
            "bos_token_id": 1,
            "eos_token_id": None,
            "decoder_start_token_id": 1,
        }
        config = transformers.WhisperConfig(**(sizes | self.options))
        model = transformers.WhisperForConditionalGeneration(config)
        if self.untied:
            model.proj_out.weight = torch.nn.Parameter(torch.empty(self.vocab_size, 48))
        randomised(model, dtype).save_pretrained(folder)
        (folder / "generation_config.json").unlink()

    def load(self, folder, dtype):
        return transformers.WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager"
        ).eval()

    def sources(self):
        generator = torch.Generator().manual_seed(5)
        return [torch.randn(10, n, generator=generator).tolist() for n in self.frames]

    @torch.no_grad()
    def logits(self, model, source, tokens):
        features = torch.tensor([source], dtype=model.dtype)
        # Shorter sources are what a network with fewer positions of the same embedding reads.
        positions, encoder = features.shape[2] // 2, model.model.encoder
        whole, encoder.embed_positions = (
            encoder.embed_positions,
            torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:positions]),
        )
        most, model.config.max_source_positions = model.config.max_source_positions, positions
        try:
            ids = torch.tensor([tokens])
            return model(features, decoder_input_ids=ids, use_cache=False).logits[0].float()
        finally:
            encoder.embed_positions, model.config.max_source_positions = whole, most


class Written:
    """A network on disk, and what transformers says of it."""

    def __init__(self, network, folder, dtype):
        self.network, self.folder = network, folder
        network.write(folder / "model", dtype)
        self.sources = network.sources()
        self.sequences = random_tokens(network.vocab_size, LENGTHS)

    def loaded(self, dtype):
        return self.network.load(self.folder / "model", dtype)

    def logits(self, model):
        pairs = zip(self.sources, self.sequences, strict=True)
        return [self.network.logits(model, source, tokens) for source, tokens in pairs]
