"""Packages to text, text to a tokenizer, text to tokens: the Python half of `kvlab corpus build`.

Started as `python -c <this file> OUT`; the configuration (configs/corpus.json) is the one line of
standard input.  Lines out: {"step": TEXT} while it works, then {"done": FACTS}, or
{"error": MESSAGE, "code": CODE}.  Written into OUT: tokenizer.json, tokenizer_config.json,
text-train.bin, text-valid.bin, text-test.bin, test.txt, words.txt; excerpt.txt and
excerpt-licences.txt where the configuration asks for them.

Everything follows from the bytes of the packages and the configuration: files are taken in the
order of their paths, draws are SHA-256 of paths, and nothing depends on locale, time or threads.
"""

import hashlib
import json
import os
import re
import string
import sys
from array import array
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path

BOS = "<|bos|>"
SPLITS = ("test", "valid", "train")


class Refused(Exception):
    """What cannot be done, in one sentence."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def draw(text):
    """In [0, 1), from the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


# --- Packages -------------------------------------------------------------------------------------


@dataclass
class Package:
    """One that is installed, with the files that its entry of the configuration takes."""

    name: str
    version: str
    files: dict = field(default_factory=dict)  # path -> bytes, in order of path
    sha256: str = ""


def installed(name):
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def takes(path, rules):
    if not path.endswith(tuple(rules["suffixes"])):
        return False
    return not any(fnmatchcase(path, pattern) for pattern in rules["exclude"])


def digest(files):
    """SHA-256 of path, NUL, size, NUL, content of every file, in order of path."""
    sha = hashlib.sha256()
    for path, content in files.items():
        sha.update(path.encode() + b"\0" + str(len(content)).encode() + b"\0" + content)
    return sha.hexdigest()


def opened(entry, rules):
    """The package as it is installed, or Refused where it is not the one that is pinned."""
    name, version = entry["name"], entry["version"]
    install = f"install it with `{rules['install']}`"
    distribution = installed(name)
    if distribution is None:
        raise Refused("E_PACKAGE", f"{name} {version} is not installed; {install}")
    if distribution.version != version:
        raise Refused(
            "E_PACKAGE",
            f"{name} is {distribution.version}, the corpus is pinned to {version}; {install}",
        )
    package = Package(name, version)
    paths = sorted({file.as_posix() for file in distribution.files or ()})
    for path in paths:
        if not path.startswith("..") and takes(path, rules):
            try:
                package.files[path] = Path(distribution.locate_file(path)).read_bytes()
            except OSError as error:
                raise Refused(
                    "E_PACKAGE",
                    f"{name} {version}: {path} cannot be read ({error.strerror}); {install}",
                ) from error
    package.sha256 = digest(package.files)
    return package


def checked(entry, rules):
    package = opened(entry, rules)
    if package.sha256 != entry["sha256"]:
        raise Refused(
            "E_PACKAGE",
            f"{package.name} {package.version}: its {len(package.files)} files have the SHA-256 "
            f"{package.sha256}, the corpus is pinned to {entry['sha256']}; they were changed after "
            f"installation: remove the package and install it with `{rules['install']}`",
        )
    return package


# --- Cleaning -------------------------------------------------------------------------------------

GENERATED = re.compile(
    r"auto-?\s?generated|automatically generated|generated (?:by|from)|do not edit|@generated", re.I
)
LICENCE = re.compile(r"copyright|licen[cs]ed? under|spdx-license|all rights reserved", re.I)
LEADING_COMMENTS = re.compile(r"\A(?:[ \t]*#[^\n]*\n|[ \t]*\n)+")
LEADING_RST_COMMENT = re.compile(
    r"\A\s*(?:\.\. [^\n]*\n(?:[ \t]+[^\n]*\n|\n)*|<!--.*?-->\s*)", re.S
)
LICENCE_FILE = re.compile(r"licen[cs]e|copying", re.I)
NON_ASCII = bytes(range(0x80, 0x100))
LONG_WORD = re.compile(r"[^\s]{200}")


def without_licence(text):
    """Without leading comments where they are a notice of copyright."""
    for leading in (LEADING_COMMENTS, LEADING_RST_COMMENT):
        if (found := leading.match(text)) and LICENCE.search(found.group()):
            text = text[found.end() :]
    return text


def normalised(text):
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = without_licence(text)
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"


def share_of(raw, characters):
    """Of the bytes of a text, those of some characters."""
    if isinstance(characters, str):
        characters = characters.encode()
    return 1 - len(raw.translate(None, characters)) / len(raw)


def reason_to_drop(text, rules):
    """Why a file is no text to learn from; None where it is."""
    raw = text.encode()
    if not rules["least_bytes"] <= len(raw) <= rules["most_bytes"]:
        return "size"
    if BOS in text:
        return "special token"
    if any(GENERATED.search(line) for line in text.split("\n", 12)[:12]):
        return "generated"
    lines = [line for line in text.split("\n") if line]
    if max(map(len, lines)) > rules["longest_line"] or LONG_WORD.search(text):
        return "long lines"
    for reason, (characters, least, most) in {
        "numbers": (string.digits, 0, rules["most_digits"]),
        "not ASCII": (NON_ASCII, 0, rules["most_non_ascii"]),
        "no words": (string.ascii_letters, rules["least_letters"], 1),
    }.items():
        if not least <= share_of(raw, characters) <= most:
            return reason
    return None


@dataclass
class File:
    package: str
    path: str
    text: str
    size: int
    shingles: frozenset = frozenset()


def cleaned(package, rules, dropped):
    files = []
    for path, content in package.files.items():
        try:
            text = normalised(content.decode("utf-8"))
        except UnicodeDecodeError:
            dropped["not UTF-8"] = dropped.get("not UTF-8", 0) + 1
            continue
        if reason := reason_to_drop(text, rules):
            dropped[reason] = dropped.get(reason, 0) + 1
            continue
        files.append(File(package.name, path, text, len(text.encode())))
    return files


# --- Duplicates and splits ------------------------------------------------------------------------

SHINGLE_LINES = 4


def shingles_of(text):
    """Hashes of every few consecutive lines, blank ones and indentation left out."""
    lines = [words for line in text.split("\n") if (words := " ".join(line.split()))]
    windows = range(max(1, len(lines) - SHINGLE_LINES + 1))
    return frozenset(
        hashlib.blake2b("\n".join(lines[i : i + SHINGLE_LINES]).encode(), digest_size=8).digest()
        for i in windows
    )


def share_seen(shingles, seen):
    return len(shingles & seen) / len(shingles)


def split_of(path, shares):
    at = draw(path)
    for split in ("test", "valid"):
        if at < shares[split]:
            return split
        at -= shares[split]
    return "train"


def capped(files, most_bytes):
    """Files in the order of their draws, until the package has its share."""
    size, kept = 0, []
    for file in sorted(files, key=lambda file: draw("cap/" + file.path)):
        if size + file.size <= most_bytes:
            size += file.size
            kept.append(file)
    return kept


def without_duplicates(files, most_seen):
    seen, kept = set(), []
    for file in files:
        if share_seen(file.shingles, seen) <= most_seen:
            seen |= file.shingles
            kept.append(file)
    return kept, seen


def split(files, rules, dropped):
    """{"train": [File], ...} without near-duplicates, none of a held-out file among them."""
    files = sorted(files, key=lambda file: (draw("order/" + file.path), file.path))
    parts = {name: [] for name in SPLITS}
    for file in files:
        file.shingles = shingles_of(file.text)
        parts[split_of(file.path, rules["split"])].append(file)
    kept, seen = without_duplicates(parts["train"], rules["most_seen"])
    dropped["near-duplicates"] = len(parts["train"]) - len(kept)
    parts["train"] = kept
    for name in ("valid", "test"):
        fresh = []
        for file in parts[name]:
            if share_seen(file.shingles, seen) <= rules["most_seen_held_out"]:
                seen |= file.shingles
                fresh.append(file)
        dropped["near-duplicates, " + name] = len(parts[name]) - len(fresh)
        parts[name] = fresh
    return parts


# --- Tokens ---------------------------------------------------------------------------------------


def trained(texts, vocabulary):
    """Byte-level BPE; every digit is a token of its own; BOS is token 0 and put first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[BOS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, 0)]
    )
    return tokenizer


def drawn_texts(files, purpose, most_bytes):
    """Of files by their draws, up to so many bytes."""
    size = 0
    for file in sorted(files, key=lambda file: draw(f"{purpose}/{file.path}")):
        if size + file.size <= most_bytes:
            size += file.size
            yield file.text


def write_tokens(path, tokenizer, files):
    tokens = array("H")
    for begin in range(0, len(files), 256):
        batch = [file.text for file in files[begin : begin + 256]]
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            tokens.append(0)
            tokens.extend(encoding.ids)
    if sys.byteorder == "big":
        tokens.byteswap()
    path.write_bytes(tokens.tobytes())
    return len(tokens)


def joined(files):
    return "\n\n".join(file.text for file in files)


def licences_of(name):
    """Of an installed package, what its metadata folder says: who may do what with its files."""
    texts = []
    for file in sorted(metadata.distribution(name).files or (), key=lambda file: file.as_posix()):
        if file.parts[0].endswith(".dist-info") and LICENCE_FILE.match(file.name):
            texts.append(file.locate().read_text(encoding="utf-8").strip("\n"))
    if not texts:
        raise Refused(
            "E_PACKAGE",
            f"{name} comes without the text of its licence, so no excerpt may have its files; "
            "take it out of `excerpt.packages`",
        )
    return "\n\n".join(texts)


def write_excerpt(out, files, rules):
    """Some held-out files that may be given to others, and the licences they ask to be given."""
    files = [
        file
        for file in files
        if file.package in rules["packages"] and file.size <= rules["most_bytes_of_file"]
    ]
    if not files:
        raise Refused(
            "E_TEXT_TOO_SHORT",
            f"no held-out file of {', '.join(rules['packages'])} has "
            f"{rules['most_bytes_of_file']} bytes or less; name more packages for `excerpt`",
        )
    (out / "excerpt.txt").write_bytes(joined(files).encode())
    parts = []
    for name in rules["packages"]:
        paths = "".join(f"  {file.path}\n" for file in files if file.package == name)
        parts.append(f"{name}\n{paths}\n{licences_of(name)}\n")
    (out / "excerpt-licences.txt").write_bytes(f"\n{'-' * 80}\n\n".join(parts).encode())
    return {"files": len(files), "bytes": sum(file.size for file in files)}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")


def build(config, out, say):
    rules = config["text"]
    dropped, files, packages = {}, [], []
    for entry in config["packages"]:
        say(f"reading {entry['name']} {entry['version']}")
        package = checked(entry, rules)
        found = cleaned(package, rules, dropped)
        kept = capped(found, rules["most_bytes_of_package"])
        dropped["share of one package"] = (
            dropped.get("share of one package", 0) + len(found) - len(kept)
        )
        files += kept
        packages.append({**entry, "files": len(package.files)})
    parts = split(files, rules, dropped)
    for name in SPLITS:
        if not parts[name]:
            raise Refused(
                "E_TEXT_TOO_SHORT",
                f"no file is left for {name} of the {len(files)} that the packages have; "
                "name more packages, or drop less",
            )
    for package in packages:
        for name in SPLITS:
            package[name + "_bytes"] = sum(
                file.size for file in parts[name] if file.package == package["name"]
            )
    say("training the tokenizer")
    tokenizer = trained(
        [
            *drawn_texts(parts["train"], "tokenizer", rules["tokenizer_bytes"]),
            *config["recall_sample"],
        ],
        rules["vocabulary"],
    )
    tokenizer.save(str(out / "tokenizer.json"))
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": BOS,
            "model_max_length": rules["context"],
            "clean_up_tokenization_spaces": False,
        },
    )
    facts = {"packages": packages, "dropped_files": dict(sorted(dropped.items())), "text": {}}
    for name in SPLITS:
        say(f"tokens of {name}")
        facts["text"][name] = {
            "files": len(parts[name]),
            "bytes": sum(file.size for file in parts[name]),
            "tokens": write_tokens(out / f"text-{name}.bin", tokenizer, parts[name]),
        }
    (out / "words.txt").write_bytes(
        "".join(drawn_texts(parts["train"], "words", 4_000_000)).encode()
    )
    (out / "test.txt").write_bytes(joined(parts["test"]).encode())
    if rules["excerpt"]["packages"]:
        facts["text"]["excerpt"] = write_excerpt(out, parts["test"], rules["excerpt"])
    facts["held_out"] = {
        name: sorted(file.path for file in parts[name]) for name in ("valid", "test")
    }
    return facts


def pinned(config):
    """The packages of the configuration with the version and hash that are installed now."""
    found = []
    for entry in config["packages"]:
        distribution = installed(entry["name"])
        version = distribution.version if distribution else "of any version"
        package = opened({**entry, "version": version}, config["text"])
        found.append({**entry, "version": version, "sha256": package.sha256})
    return {"packages": found}


def main():
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not reach the protocol

    def say(message):
        out.write(json.dumps(message, separators=(",", ":")) + "\n")
        out.flush()

    config = json.loads(sys.stdin.buffer.readline())
    try:
        if sys.argv[1] == "--pin":
            say({"done": pinned(config)})
        else:
            facts = build(config, Path(sys.argv[1]), lambda step: say({"step": step}))
            say({"done": facts})
    except Refused as refused:
        say({"error": str(refused), "code": refused.code})
    except ImportError as error:
        say({"error": f"{sys.executable} has no package `{error.name}`", "code": "E_PACKAGE"})
    except OSError as error:
        say({"error": f"{error.filename}: {error.strerror}", "code": "E_FILE"})


if __name__ == "__main__":
    main()
