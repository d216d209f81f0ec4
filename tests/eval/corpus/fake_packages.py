"""Small packages as pip leaves them, in any folder, and a corpus of them."""

import hashlib
import json
import random
from pathlib import Path

WORDS = ["cache", "token", "layer", "head", "page", "score", "model", "array", "shape", "value"]


def source(name, lines=40):
    """Python that nobody has written twice: what it says follows from its name."""
    drawn = random.Random(name)
    text = [f'"""Of {name}."""', ""]
    for i in range(lines):
        first, second, third = (drawn.choice(WORDS) for _ in range(3))
        number = drawn.randrange(1000)
        text.append(f"def {first}_{second}_{i}({third}):")
        text.append(
            f"    return {third} + {second}({number})  # the {first} of a {drawn.choice(WORDS)}"
        )
    return "\n".join(text) + "\n"


def write_package(site, name, files, version="1.0"):
    """files: path -> text.  Returns its entry of the configuration."""
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    info = site / f"{name}-{version}.dist-info"
    (info / "licenses").mkdir(parents=True)
    (info / "licenses" / "LICENSE").write_text(f"Copyright of {name}\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    own = ["METADATA", "RECORD", "licenses/LICENSE"]
    names = [*files, *(f"{info.name}/{path}" for path in own)]
    random.Random(str(site)).shuffle(names)  # the order of a RECORD means nothing
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in names))
    sha = hashlib.sha256()
    for path in sorted(path for path in files if path.endswith((".py", ".md"))):
        content = (site / path).read_bytes()
        sha.update(f"{path}\0{len(content)}\0".encode() + content)
    return {"name": name, "version": version, "licence": "MIT", "sha256": sha.hexdigest()}


def write_packages(site):
    """Two packages; the second has a fifth of the first's files again, with a line changed."""
    alpha = {f"alpha/part{i}/file{i}.py": source(f"alpha {i}") for i in range(60)}
    alpha["alpha/data.json"] = "{}"
    beta = {f"beta/file{i}.py": source(f"beta {i}") for i in range(30)}
    for i in range(0, 60, 5):
        beta[f"beta/again{i}.py"] = source(f"alpha {i}").replace("def", "async def", 1)
    return [write_package(site, "alpha", alpha), write_package(site, "beta", beta)]


def config(packages, **text):
    return {
        "schema": "kvlab-corpus/1",
        "seed": 5,
        "packages": packages,
        "text": {
            "suffixes": [".py", ".md"],
            "install": "pip install them",
            "least_bytes": 100,
            "most_bytes": 100000,
            "longest_line": 200,
            "most_digits": 0.2,
            "most_non_ascii": 0.05,
            "least_letters": 0.3,
            "most_seen": 0.3,
            "most_seen_held_out": 0.1,
            "most_bytes_of_package": 1000000,
            "split": {"valid": 0.15, "test": 0.15},
            "excerpt": {"packages": ["beta"]},
            "vocabulary": 400,
            "tokenizer_bytes": 200000,
            "context": 512,
        }
        | text,
        "recall": {
            "lengths": [256, 512],
            "tokens": [6000, 8000],
            "kinds": {
                name: [1, 1]
                for name in ("needles", "lookups", "assignments", "passages", "repeats")
            }
            | {name: [0, 1] for name in ("crowd", "chains", "lists")},
            "tasks": [{"builtin": "passkey", "max_new_tokens": 8, "shares": [1, 1]}],
            "tokenizer_documents": 20,
        },
    }


def write_config(folder, site, **text) -> Path:
    path = folder / "corpus.json"
    path.write_text(json.dumps(config(write_packages(site), **text)))
    return path
