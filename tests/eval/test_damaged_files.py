"""Files that are broken, hostile or of something else: one sentence, a documented exit status."""

import json
import os
import shutil
import struct

import pytest
from command import CONTEXT, VOCAB


class Folder:
    """A copy of the small model, to be damaged."""

    def __init__(self, path):
        self.path = path
        self.weights = path / "model.safetensors"

    def header(self) -> dict:
        data = self.weights.read_bytes()
        (size,) = struct.unpack_from("<Q", data)
        return json.loads(data[8 : 8 + size])

    def change_header(self, change) -> None:
        """change(header) in place; the tensors' bytes stay."""
        data = self.weights.read_bytes()
        (size,) = struct.unpack_from("<Q", data)
        header = self.header()
        change(header)
        text = json.dumps(header).encode()
        self.weights.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    def change_config(self, **changes) -> None:
        path = self.path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(model_folder, tmp_path) -> Folder:
    shutil.copytree(model_folder, tmp_path / "model")
    return Folder(tmp_path / "model")


@pytest.fixture
def tokens(kvlab):
    path = kvlab.folder / "tokens.json"
    path.write_text(json.dumps([i % VOCAB for i in range(CONTEXT)]))
    return path


@pytest.fixture
def ppl(folder, tokens):
    return ["ppl", "--model", folder.path, "--tokens", tokens, "--protocol", "decode(32,31)"]


NORM = "model.norm.weight"
HEAD = "lm_head.weight"


def truncated(folder):
    folder.weights.write_bytes(folder.weights.read_bytes()[:-100])


def cut_in_the_header(folder):
    folder.weights.write_bytes(folder.weights.read_bytes()[:50])


def empty(folder):
    folder.weights.write_bytes(b"")


def huge_header(folder):
    data = folder.weights.read_bytes()
    folder.weights.write_bytes(struct.pack("<Q", 1 << 62) + data[8:])


def deep_header(folder):
    text = b'{"a":' * 100000
    folder.weights.write_bytes(struct.pack("<Q", len(text)) + text)


def overlapping(folder):
    def change(header):
        begin, end = header[HEAD]["data_offsets"]
        header[HEAD]["data_offsets"] = [begin - 4, end - 4]

    folder.change_header(change)


def beyond_the_end(folder):
    def change(header):
        last = max(header, key=lambda name: header[name].get("data_offsets", [0, 0])[1])
        header[last]["data_offsets"] = [1 << 60, (1 << 60) + 4]

    folder.change_header(change)


def unknown_dtype(folder):
    folder.change_header(lambda header: header[NORM].update(dtype="F7"))


def missing_tensor(folder):
    def change(header):
        header["something.else"] = header.pop(NORM)

    folder.change_header(change)


def wrong_shape(folder):
    def change(header):
        header[HEAD]["shape"].reverse()

    folder.change_header(change)


def not_a_number(folder):
    begin, _ = folder.header()[NORM]["data_offsets"]
    data = bytearray(folder.weights.read_bytes())
    (size,) = struct.unpack_from("<Q", data)
    struct.pack_into("<f", data, 8 + size + begin, float("nan"))
    folder.weights.write_bytes(data)


def no_weights(folder):
    folder.weights.unlink()


DAMAGES = {  # what is done: what kvlab answers, and what it names
    truncated: ("E_FORMAT", "model.safetensors"),
    cut_in_the_header: ("E_FORMAT", "model.safetensors"),
    empty: ("E_FORMAT", "model.safetensors"),
    huge_header: ("E_FORMAT", "model.safetensors"),
    deep_header: ("E_FORMAT", "model.safetensors"),
    overlapping: ("E_FORMAT", "overlap"),
    beyond_the_end: ("E_FORMAT", "model.safetensors"),
    unknown_dtype: ("E_FORMAT", "F7"),
    missing_tensor: ("E_WEIGHT", NORM),
    wrong_shape: ("E_SHAPE", HEAD),
    not_a_number: ("E_NONFINITE", NORM),
    no_weights: ("E_FILE", "safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_weights(kvlab, folder, ppl, damage):
    code, says = DAMAGES[damage]
    damage(folder)
    assert says in kvlab.refused(code, 1 if code == "E_NONFINITE" else 3, *ppl)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, "E_UNSUPPORTED"),
        ({"num_attention_heads": 0}, "E_FORMAT"),
        ({"num_hidden_layers": -1}, "E_FORMAT"),
        ({"hidden_size": 1 << 40}, "E_FORMAT"),
        ({"vocab_size": "many"}, "E_FORMAT"),
        ({"num_key_value_heads": 3}, "E_FORMAT"),
        ({"rope_scaling": {"rope_type": "spiral"}}, "E_UNSUPPORTED"),
    ],
    ids=lambda value: json.dumps(value)[:30] if isinstance(value, dict) else value,
)
def test_model_configs(kvlab, folder, ppl, changes, code):
    folder.change_config(**changes)
    sentence = kvlab.refused(code, 3, *ppl)
    assert "config.json" in sentence or next(iter(changes)) in sentence


def test_files_that_are_not_there(kvlab, folder, ppl, tokens):
    (folder.path / "config.json").unlink()
    kvlab.refused("E_FILE", 3, *ppl)
    kvlab.refused("E_FILE", 3, "ppl", "--model", tokens / "x", "--tokens", tokens)
    kvlab.refused("E_FILE", 3, "ppl", "--model", "recall2", "--tokens", tokens / "x")
    kvlab.refused("E_FILE", 3, "ppl", "--model", "recall2", "--tokens", kvlab.folder)
    kvlab.refused("E_FILE", 3, "eval", tokens / "config.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_that_may_not_be_read(kvlab, tokens):
    tokens.chmod(0)
    kvlab.refused("E_FILE", 3, "ppl", "--model", "recall2", "--tokens", tokens)


def test_a_text_needs_a_tokenizer(kvlab, folder, tokens):
    sentence = kvlab.refused("E_NO_TOKENIZER", 3, "ppl", "--model", folder.path, "--text", tokens)
    assert "tokens instead of text" in sentence


def test_prompts(kvlab, folder, tokens):
    generate = ["generate", "--model", folder.path, "--prompt-tokens", tokens, "--max-new"]
    assert str(CONTEXT) in kvlab.refused("E_CONTEXT_TOO_LONG", 3, *generate, "1")
    tokens.write_text(f"[0, {VOCAB}]")
    assert str(VOCAB) in kvlab.refused("E_POSITION", 3, *generate, "1")
    tokens.write_text("[]")
    kvlab.refused("E_TEXT_TOO_SHORT", 3, *generate, "1")
    tokens.write_text("[" * 100000)
    kvlab.refused("E_FORMAT", 3, *generate, "1")
    kvlab.refused("E_NO_TOKENIZER", 3, *generate[:3], "--prompt", "hello", "--max-new", "1")


def test_a_plugin_of_another_abi(kvlab):
    plugin = kvlab.path.parent / "tests" / "core" / "test_plugin_other_abi.so"
    if not plugin.exists():
        pytest.skip("no build folder beside this kvlab")
    sentence = kvlab.refused("E_PLUGIN", 3, "info", "--plugin", plugin)
    assert "was built for" in sentence


def test_a_run_directory_that_cannot_be_one(kvlab, tokens):
    kvlab.refused("E_DISK", 5, "eval", kvlab.config(), "--out", tokens / "below a file")
