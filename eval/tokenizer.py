"""Text to tokens and back, one JSON object per line: what kvlab asks of a model's own tokenizer.

Started as `python -c <this file> FILE` with FILE a tokenizer.json or a tokenizer.model.  The first
line out describes the tokenizer.  Then for each line in there is one out:

    {"encode": TEXT, "special": BOOL}   {"tokens": [IDS], "bytes": [[BEGIN, END], ...]}
    {"decode": [IDS]}                   {"text": TEXT}
    {"chat": TEXT}                      {"text": TEXT}, or {} where there is no chat template

or {"error": MESSAGE}.  `special` adds what the model's tokenizer adds by itself, usually a first
token; `bytes` are where in the UTF-8 text a token stands, empty for those that were added.
"""

import hashlib
import json
import os
import sys
from functools import cache


def in_bytes(text, spans):
    """Spans of characters as spans of UTF-8 bytes."""
    if text.isascii():
        return spans
    offset = [0]
    for character in text:
        offset.append(offset[-1] + len(character.encode()))
    return [(offset[begin], offset[end]) for begin, end in spans]


class JsonTokenizer:
    """tokenizer.json, through the `tokenizers` package."""

    def __init__(self, path):
        from tokenizers import Tokenizer

        self.inner = Tokenizer.from_file(path)
        self.inner.no_truncation()  # a file may carry a limit from training
        self.inner.no_padding()
        self.vocab_size = self.inner.get_vocab_size(with_added_tokens=True)

    def encode(self, text, special):
        encoding = self.inner.encode(text, add_special_tokens=special)
        return encoding.ids, in_bytes(text, encoding.offsets)

    def decode(self, ids):
        return self.inner.decode(ids, skip_special_tokens=False)


class SentencePieceTokenizer:
    """tokenizer.model, through the `sentencepiece` package.

    Such a file does not say whether text starts with a token of its own; tokenizer_config.json
    beside it does, and where that is missing it starts with one if the vocabulary has one.
    """

    def __init__(self, path):
        from sentencepiece import SentencePieceProcessor

        self.inner = SentencePieceProcessor(model_file=path)
        self.vocab_size = self.inner.vocab_size()
        beside = os.path.join(os.path.dirname(path), "tokenizer_config.json")
        config = {}
        if os.path.exists(beside):
            with open(beside, encoding="utf-8") as file:
                config = json.load(file)
        self.begin = [self.inner.bos_id()] if config.get("add_bos_token", True) else []
        self.end = [self.inner.eos_id()] if config.get("add_eos_token", False) else []

    def encode(self, text, special):
        raw = text.encode()
        made = self.inner.encode(raw, return_type="offset_mapping")
        ids, spans = made["ids"], made["offsets"]
        if special:
            begin, end = ([i for i in added if i >= 0] for added in (self.begin, self.end))
            ids = begin + ids + end
            spans = [(0, 0)] * len(begin) + spans + [(len(raw), len(raw))] * len(end)
        return ids, spans

    def decode(self, ids):
        return self.inner.decode(ids)


class ChatTemplate:
    """The model's own, rendered as `transformers` renders it, but for the date."""

    def __init__(self, folder):
        config = {}
        if os.path.exists(path := os.path.join(folder, "tokenizer_config.json")):
            with open(path, encoding="utf-8") as file:
                config = json.load(file)
        source = config.get("chat_template")
        if isinstance(source, list):  # several by name
            source = {one["name"]: one["template"] for one in source}.get("default")
        if os.path.exists(path := os.path.join(folder, "chat_template.jinja")):
            with open(path, encoding="utf-8") as file:
                source = file.read()
        self.tokens = {
            key: value["content"] if isinstance(value, dict) else value
            for key, value in config.items()
            if key.endswith("_token") and isinstance(value, str | dict)
        }
        self.template = source and self.compiled(source)

    @staticmethod
    def compiled(source):
        try:
            from jinja2 import TemplateError
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise ValueError(f"its chat template needs the Python package {error.name}") from error

        def raise_exception(message):
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = lambda value, **how: json.dumps(
            value, **({"ensure_ascii": False} | how)
        )
        environment.globals["raise_exception"] = raise_exception
        return environment.from_string(source)

    def render(self, prompt):
        return self.template.render(
            messages=[{"role": "user", "content": prompt}],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **self.tokens,
        )


def first_line(error):
    return (str(error).strip() or repr(error)).splitlines()[0]


def opened(path):
    """The tokenizer, or what to say instead."""
    kind = SentencePieceTokenizer if path.endswith(".model") else JsonTokenizer
    try:
        tokenizer = kind(path)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except ImportError as error:
        return None, {"missing": error.name or "tokenizers", "python": sys.executable}
    except Exception as error:  # noqa: BLE001  what the packages raise is not documented
        return None, {"error": first_line(error)}
    return tokenizer, {"vocab_size": tokenizer.vocab_size, "sha256": digest}


def answer(tokenizer, chat, request):
    if "chat" in request:
        template = chat()
        return {"text": template.render(request["chat"])} if template.template else {}
    if "encode" in request:
        ids, spans = tokenizer.encode(request["encode"], request["special"])
        return {"tokens": ids, "bytes": spans}
    return {"text": tokenizer.decode(request["decode"])}


def main():
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not reach the protocol

    def say(message):
        out.write(json.dumps(message, separators=(",", ":")) + "\n")
        out.flush()

    tokenizer, greeting = opened(sys.argv[1])
    say(greeting)
    if tokenizer is None:
        return
    chat = cache(lambda: ChatTemplate(os.path.dirname(sys.argv[1])))
    for line in sys.stdin.buffer:
        try:
            say(answer(tokenizer, chat, json.loads(line)))
        except Exception as error:  # noqa: BLE001
            say({"error": first_line(error)})


if __name__ == "__main__":
    main()
