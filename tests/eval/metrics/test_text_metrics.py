"""Metrics of texts against their definitions in Python, written from the papers' descriptions."""

import collections
import json
import random
import re
import string
import subprocess
from fractions import Fraction
from itertools import chain
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def score_text():
    """Asks the program beside the tests of the build that `import kvlab` finds."""
    import kvlab

    program = Path(kvlab.__file__).absolute().parents[2] / "tests/eval/metrics/score_text"
    if not program.is_file():
        pytest.skip(f"{program} is not built: this package was installed without its tests")

    def ask(requests):
        lines = "".join(json.dumps(one) + "\n" for one in requests)
        done = subprocess.run(
            [program], input=lines, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.split("\n") if line]

    return ask


def qa_words(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def qa_f1(text, reference):
    ours, theirs = qa_words(text), qa_words(reference)
    common = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


def lcs_table(x, y):
    table = [[0] * (len(y) + 1) for _ in range(len(x) + 1)]
    for i, a in enumerate(x, 1):
        for j, b in enumerate(y, 1):
            same = table[i - 1][j - 1] + 1
            table[i][j] = same if a == b else max(table[i - 1][j], table[i][j - 1])
    return table


def rouge_l(text, reference):
    ours, theirs = text.split(), reference.split()
    common = lcs_table(ours, theirs)[-1][-1]
    if common == 0:
        return 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


def kept(x, y):
    """The words of one longest common subsequence, walking back from the ends."""
    table, i, j, words = lcs_table(x, y), len(x), len(y), set()
    while i and j:
        if x[i - 1] == y[j - 1]:
            words.add(x[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words


def rouge_l_compat(text, reference):
    def sentences(whole):
        return [" ".join(one.split()).split(" ") for one in whole.split(".") if one]

    ours, theirs = sentences(text), sentences(reference)
    if not ours or not theirs:
        return 0.0
    union = set().union(*(kept(want, got) for want in theirs for got in ours))
    precision, recall = (len(union) / len(set(chain(*side))) for side in (ours, theirs))
    return 2 * (precision * recall / (precision + recall + 1e-8))


def classification_compat(text, gold, classes):
    matches = [name for name in classes if name in text]
    for name in matches:
        if name in gold and name != gold:
            matches.remove(name)
    return 1 / len(matches) if gold in matches else 0.0


def code_sim(text, reference):
    lines = text.lstrip("\n").split("\n")
    line = next((one for one in lines if not re.search("`|#|//", one)), "")
    if line == reference:
        return 1.0
    common = lcs_table(line, reference)[-1][-1]
    return round(Fraction(200 * common, len(line) + len(reference))) / 100


def retrieval(text, reference):
    numbers = re.findall("[0-9]+", text)
    gold = re.findall("[0-9]+", reference)
    return numbers.count(gold[0]) / len(numbers) if numbers and gold else 0.0


METRICS = {
    "qa_f1": qa_f1,
    "rouge_l": rouge_l,
    "rouge_l_compat": rouge_l_compat,
    "code_sim": code_sim,
    "retrieval": retrieval,
}
PIECES = [
    "a",
    "the",
    "The",
    "cat",
    "ÉTÉ",
    "été",
    "7",
    "12",
    ".",
    ". ",
    ",",
    "\n",
    "#x",
    "//",
    " ",
    "中",
    "x_y",
    "!",
]


def random_text(random):
    pieces = random.choices(PIECES, k=random.randrange(16))
    return "".join(piece + random.choice(["", " "]) for piece in pieces)


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_its_definition(score_text, metric):
    generator = random.Random(7)
    pairs = [(random_text(generator), random_text(generator)) for _ in range(2000)]
    got = score_text({"metric": metric, "text": a, "references": [b]} for a, b in pairs)
    for (text, reference), value in zip(pairs, got, strict=True):
        assert value == pytest.approx(METRICS[metric](text, reference), abs=1e-12), (
            text,
            reference,
        )


def test_classification_compat_skips_what_the_loop_skips(score_text):
    generator = random.Random(7)
    classes = ["a", "b", "ab", "abc", "c", "bc"]
    pairs = [
        ("".join(generator.choices("abc", k=4)), generator.choice(classes)) for _ in range(500)
    ]
    got = score_text(
        {"metric": "classification_compat", "text": text, "references": [gold]}
        | {"meta": {"classes": classes}}
        for text, gold in pairs
    )
    assert got == [classification_compat(text, gold, classes) for text, gold in pairs]


LOWERED = [
    *(range(0x180), range(0x1CD, 0x1DD), range(0x218, 0x21C), (0x1A0, 0x1AF)),
    *(range(0x386, 0x3CF), range(0x3E2, 0x3F0), range(0x400, 0x590)),
    *(range(0x1E00, 0x1F00), range(0xFF00, 0x10000), range(0x4E00, 0x4E10)),
]


def test_lower_is_that_of_python(score_text):
    characters = [chr(c) for block in LOWERED for c in block]
    words = ["ΟΔΟΣ", "ΣΑΣ.Σ", "Σ", "ΩΣ'Ω", "'Σ", "ΩΣ\u0301", "ΩΣ1"]
    texts = characters + words
    got = score_text({"lower": text} for text in texts)
    assert got == [text.lower() for text in texts]
