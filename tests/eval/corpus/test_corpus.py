"""kvlab corpus: the same bytes everywhere, nothing held out in train, marks that can be known."""

import itertools
import json
import os
from array import array
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_packages import source, write_config, write_package
from tokenizers import Tokenizer

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Corpus:
    path: Path

    def __post_init__(self):
        object.__setattr__(
            self, "tokenizer", Tokenizer.from_file(str(self.path / "tokenizer.json"))
        )
        object.__setattr__(self, "facts", json.loads((self.path / "corpus.json").read_text()))

    def tokens(self, name):
        tokens = array("H")
        tokens.frombytes((self.path / f"{name}.bin").read_bytes())
        return list(tokens)

    def documents(self, name):
        """(tokens, marks) of each, the first token included."""
        tokens = self.tokens(name)
        marks = self.path / f"{name}.marks"
        marks = list(marks.read_bytes()) if marks.exists() else [0] * len(tokens)
        begins = [i for i, token in enumerate(tokens) if token == 0] + [len(tokens)]
        return [
            (tokens[first:last], marks[first:last]) for first, last in itertools.pairwise(begins)
        ]

    def texts(self, name):
        return [self.tokenizer.decode(tokens[1:]) for tokens, _ in self.documents(name)]

    def bytes(self):
        return {file.name: file.read_bytes() for file in self.path.iterdir()}


def environment(site, **more):
    return os.environ | {"PYTHONPATH": str(site)} | more


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def config(site, tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config"), site)


@pytest.fixture(scope="module")
def corpus(kvlab_command, site, config, tmp_path_factory):
    from command import Command

    folder = tmp_path_factory.mktemp("built")
    build = Command(kvlab_command, folder)
    build("corpus", "build", config, "--out", "corpus", env=environment(site))
    assert [file.name for file in folder.iterdir()] == ["corpus"]
    return Corpus(folder / "corpus")


def test_two_builds_in_two_places_are_equal_byte_for_byte(corpus, kvlab, tmp_path):
    elsewhere = tmp_path / "another" / "site"
    again = write_config(tmp_path, elsewhere)
    strange = {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "1"}
    kvlab("corpus", "build", again, "--out", "x/y", env=environment(elsewhere, **strange))
    built = Corpus(tmp_path / "x" / "y").bytes()
    assert built.keys() == corpus.bytes().keys()
    for name, content in corpus.bytes().items():
        assert built[name] == content, name


def test_the_record_has_the_hash_of_every_file(corpus):
    import hashlib

    files = corpus.bytes()
    del files["corpus.json"]
    assert {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    } == corpus.facts["files"]
    assert [package["licence"] for package in corpus.facts["packages"]] == ["MIT", "MIT"]


def test_text_is_what_the_packages_say(corpus, site):
    for split in SPLITS:
        texts = corpus.texts(f"text-{split}")
        assert corpus.facts["text"][split]["files"] == len(texts) > 5
        assert corpus.facts["text"][split]["tokens"] == len(corpus.tokens(f"text-{split}"))
        files = {path.read_text() for path in site.glob("*/**/*.py")}
        assert set(texts) <= files
    assert (corpus.path / "test.txt").read_text() == "\n\n".join(corpus.texts("text-test"))


def test_an_excerpt_of_the_test_text_comes_with_its_licences(corpus):
    own = [text for text in corpus.texts("text-test") if text.startswith('"""Of beta')]
    assert (corpus.path / "excerpt.txt").read_text() == "\n\n".join(own)
    paths = {path for path in corpus.facts["held_out"]["test"] if path.startswith("beta/")}
    head, _, licence = (corpus.path / "excerpt-licences.txt").read_text().partition("\n\n")
    assert head.splitlines()[0] == "beta"
    assert {line.strip() for line in head.splitlines()[1:]} == paths
    assert licence == "Copyright of beta\n"
    assert corpus.facts["text"]["excerpt"]["files"] == len(paths) > 0


def test_an_excerpt_of_what_is_no_package_of_the_corpus_is_refused(kvlab, tmp_path):
    path = write_config(tmp_path, tmp_path / "site", excerpt={"packages": ["betta"]})
    said = kvlab.refused("E_UNKNOWN", 3, "corpus", "build", path)
    assert "text.excerpt.packages: betta is not among `packages`" in said
    assert "beta" in said.removeprefix("betta")


def test_an_excerpt_without_files_or_licences_is_refused(kvlab, tmp_path):
    site = tmp_path / "site"
    build = ("corpus", "build", tmp_path / "corpus.json")
    short = {"packages": ["beta"], "most_bytes_of_file": 1}
    write_config(tmp_path, site, excerpt=short)
    said = kvlab.refused("E_TEXT_TOO_SHORT", 3, *build, env=environment(site))
    assert "no held-out file of beta has 1 bytes or less" in said

    site = tmp_path / "without"
    write_config(tmp_path, site)
    record = site / "beta-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("beta-1.0.dist-info/licenses/LICENSE,,\n", ""))
    said = kvlab.refused("E_PACKAGE", 3, *build, env=environment(site))
    assert "beta comes without the text of its licence" in said


def windows(text):
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return {"\n".join(lines[i : i + 4]) for i in range(len(lines) - 3)}


def test_nothing_held_out_is_near_anything_else(corpus):
    seen = set().union(*map(windows, corpus.texts("text-train")))
    for split in ("valid", "test"):
        for text in corpus.texts(f"text-{split}"):
            assert len(windows(text) & seen) <= 0.1 * len(windows(text))
            seen |= windows(text)
    everything = [text for split in SPLITS for text in corpus.texts(f"text-{split}")]
    first_lines = [text.splitlines()[0] for text in everything]  # the same in near-duplicates
    assert len(set(first_lines)) == len(first_lines)
    dropped = corpus.facts["dropped_files"]
    assert sum(count for why, count in dropped.items() if why.startswith("near-dup")) == 12


def test_transformers_reads_the_same_tokens(corpus):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(corpus.path)
    text = "def plan(page):\n    return 20260 + π  # the number of x is 1234567.\n"
    ours = corpus.tokenizer.encode(text).ids
    assert theirs(text)["input_ids"] == ours
    assert theirs.decode(ours[1:]) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, len(theirs)) == (0, 0, 400)
    assert ours[0] == 0


def test_every_digit_is_a_token_and_every_byte_has_one(corpus):
    pieces = corpus.tokenizer.encode("x = 1234567", add_special_tokens=False).tokens
    assert pieces[-7:] == list("1234567")
    assert not any(
        any(map(str.isdigit, piece)) and len(piece) > 1 for piece in corpus.tokenizer.get_vocab()
    )
    for text in ("\x00\x7f", "żółć", "日本語 😀", "\t\r\n  \n"):
        ids = corpus.tokenizer.encode(text, add_special_tokens=False).ids
        assert corpus.tokenizer.decode(ids) == text


def runs(marks):
    """[first, last) of marked stretches."""
    edges = [i for i in range(1, len(marks)) if (marks[i] == 1) != (marks[i - 1] == 1)]
    if len(edges) % 2:
        edges.append(len(marks))
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("length", [256, 512])
def test_what_is_marked_stands_in_the_document_before(corpus, length):
    documents = corpus.documents(f"recall-{length}")
    assert len(documents) == corpus.facts["recall"][str(length)]["documents"]
    for tokens, marks in documents:
        assert len(tokens) <= length
        assert tokens[0] == 0
        assert marks[0] == 0
        assert 1 in marks
        for first, last in runs(marks):
            before = corpus.tokenizer.decode(tokens[1:first])
            answer = corpus.tokenizer.decode(tokens[first:last]).strip()
            for piece in [answer] if answer in before else answer.split(", "):
                assert piece in before


def test_a_task_of_the_harness_is_in_its_own_words(corpus):
    texts = corpus.texts("recall-512")
    assert any("What is the secret number of the gate?" in text for text in texts)
    assert corpus.facts["recall"]["512"]["kinds"]["passkey"] > 0


def test_a_package_that_is_not_the_pinned_one_is_refused_by_name(kvlab, tmp_path):
    site = tmp_path / "site"
    config = write_config(tmp_path, site)
    built = ("corpus", "build", config, "--out", "corpus")

    path = site / "beta" / "file3.py"
    path.write_text(path.read_text() + "# changed\n")
    said = kvlab.refused("E_PACKAGE", 3, *built, env=environment(site))
    assert "beta 1.0: its 42 files have the SHA-256 " in said
    assert "pip install them" in said

    path.unlink()
    said = kvlab.refused("E_PACKAGE", 3, *built, env=environment(site))
    assert "beta 1.0: beta/file3.py cannot be read" in said

    (site / "beta-1.0.dist-info" / "METADATA").write_text("Name: beta\nVersion: 1.1\n")
    said = kvlab.refused("E_PACKAGE", 3, *built, env=environment(site))
    assert "beta is 1.1, the corpus is pinned to 1.0; install it with `pip install them`" in said

    said = kvlab.refused("E_PACKAGE", 3, *built, env=environment(tmp_path / "empty"))
    assert "alpha 1.0 is not installed; install it with `pip install them`" in said
    assert sorted(file.name for file in tmp_path.iterdir()) == ["corpus.json", "site"]


def test_pin_prints_what_is_installed(kvlab, config, site, tmp_path):
    expected = json.loads(config.read_text())
    bare = expected | {"packages": [{"name": "alpha", "licence": "MIT"}, expected["packages"][1]]}
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    pinned = kvlab("corpus", "pin", "bare.json", env=environment(site)).json
    assert pinned["packages"] == expected["packages"]


def test_a_folder_that_is_no_corpus_is_left_alone(kvlab, config, site, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("chapter 1")
    built = ("corpus", "build", config, "--out", "mine")
    assert "mine: exists and is no corpus" in kvlab.refused(
        "E_FILE", 3, *built, env=environment(site)
    )
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "chapter 1"


def test_a_text_too_small_for_its_vocabulary_is_refused(kvlab, tmp_path):
    site = tmp_path / "site"
    path = write_config(tmp_path, site)
    wanted = json.loads(path.read_text())
    wanted["text"]["vocabulary"] = 60000
    path.write_text(json.dumps(wanted))
    said = kvlab.refused("E_CONFIG", 3, "corpus", "build", path, env=environment(site))
    assert "`vocabulary` is 60000" in said


def test_a_text_without_files_to_hold_out_is_refused(kvlab, tmp_path):
    site = tmp_path / "site"
    entry = write_package(site, "alpha", {"alpha/one.py": source("one")})
    from fake_packages import config

    path = tmp_path / "one.json"
    path.write_text(json.dumps(config([entry], excerpt={})))
    said = kvlab.refused("E_TEXT_TOO_SHORT", 3, "corpus", "build", path, env=environment(site))
    assert "no file is left for " in said


def test_baselines_are_between_nothing_and_chance(kvlab, corpus):
    printed = kvlab("corpus", "baselines", corpus.path).out
    assert "5-gram" in printed
    unigram, ngram = kvlab("corpus", "baselines", corpus.path, "--json").json
    assert ngram["perplexity"] < 0.5 * unigram["perplexity"] < 200
    expected = sum(len(tokens) - 1 for tokens, _ in corpus.documents("text-test"))
    assert unigram["tokens"] == ngram["tokens"] == expected


def test_baselines_of_something_else_are_refused(kvlab, tmp_path):
    (tmp_path / "corpus.json").write_text('{"schema": "kvlab-config/1"}')
    said = kvlab.refused("E_FORMAT", 3, "corpus", "baselines", tmp_path)
    assert "is not written by `kvlab corpus build`" in said
