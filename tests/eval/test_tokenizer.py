"""eval/tokenizer.py: both kinds of files say which bytes of a text their tokens stand for."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SCRIPT = Path(__file__).parents[2] / "eval" / "tokenizer.py"

TEXT = "der grüne  Baum, €5"


def byte_level(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        ["der grüne Baum"] * 9, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet)
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def sentences(folder):
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, "der Wald grüßt"] * 50),
        model_writer=model,
        vocab_size=22,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder / "tokenizer.model"


@pytest.mark.parametrize("make", [byte_level, sentences])
@pytest.mark.parametrize("special", [False, True])
def test_spans_cover_the_text_in_order(tmp_path, make, special):
    requests = json.dumps({"encode": TEXT, "special": special})
    done = subprocess.run(
        [sys.executable, "-P", SCRIPT, make(tmp_path)],
        input=requests.encode(),
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[1])
    spans = answer["bytes"]
    assert len(spans) == len(answer["tokens"])
    assert spans == sorted(spans)
    raw = TEXT.encode()
    covered = {i for begin, end in spans for i in range(begin, end)}
    assert {i for i in range(len(raw)) if raw[i : i + 1] != b" "} <= covered
    assert spans[-1][1] == len(raw)
