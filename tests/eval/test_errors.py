"""Whatever is wrong gives one sentence and a documented exit status."""

import json

import pytest

TOKENS = [0] + [1 + i % 31 for i in range(63)]


@pytest.fixture
def tokens(kvlab):
    path = kvlab.folder / "tokens.json"
    path.write_text(json.dumps(TOKENS))
    return path


def ppl(tokens, *arguments):
    return ["ppl", "--model", "recall2", "--tokens", tokens, *arguments]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["evaluate"],
        ["eval"],
        ["eval", "a.json", "--sett", "x=1"],
        ["ppl", "--model", "recall2"],
        ["ppl", "--model", "recall2", "--text", "a", "--tokens", "b"],
        ["ppl", "--model", "recall2", "--tokens", "t", "--prefill-chunk", "-1"],
        ["generate", "--model", "recall2", "--max-new", "3"],
        ["generate", "--model", "recall2", "--prompt-tokens", "f", "--max-new", "0"],
        ["bench"],
        ["prepare", "dense", "--model", "recall2"],
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_usage(kvlab, arguments):
    assert "--help" in kvlab.refused("E_USAGE", 2, *arguments)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("E_UNKNOWN", {"tasks": [{"builtin": "mqar", "pair": 8}]}),
        ("E_UNKNOWN", {"methods": ["quantt"]}),
        ("E_UNKNOWN", {"model": {"builtin": "recall3"}}),
        ("E_UNKNOWN", {"matrixx": {}}),
        ("E_CONFIG", {"schema": "kvlab-config/2"}),
        ("E_CONFIG", {"tasks": []}),
        ("E_CONFIG", {"matrix": {"query_aware": [True]}}),
        ("E_MQAR_SHAPE", {"tasks": [{"builtin": "mqar", "pairs": 16}]}),
        ("E_NO_TOKENIZER", {"tasks": [{"ppl": "decode", "text": "config.json"}]}),
        ("E_FILE", {"tasks": [{"ppl": "decode", "tokens": "missing.json"}]}),
        ("E_FILE", {"model": {"path": "missing"}}),
        ("E_UNSUPPORTED", {"model": {"builtin": "recall2", "dtype": "int8"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:40],
)
def test_configs(kvlab, code, changes):
    config = kvlab.config(**changes)
    if code == "E_UNSUPPORTED":
        code = "E_CONFIG"  # the schema names the dtypes there are
    kvlab.refused(code, 3, "eval", config)
    assert not (kvlab.folder / "config").exists()


def test_config_files(kvlab):
    kvlab.refused("E_FILE", 3, "eval", "missing.json")
    kvlab.refused("E_FILE", 3, "eval", ".")
    path = kvlab.folder / "bad.json"
    for text in ["", "{", "[" * 100000, '{"a": 1, "a": 2}', "{} {}", "\xff"]:
        path.write_text(text, encoding="latin-1")
        kvlab.refused("E_FORMAT", 3, "eval", path)


def test_texts(kvlab, tokens):
    short = kvlab.refused("E_TEXT_TOO_SHORT", 3, *ppl(tokens, "--protocol", "decode(64,15)"))
    assert "needs 80 tokens, the text has 64" in short
    kvlab.refused("E_BAD_WINDOW", 3, *ppl(tokens, "--protocol", "decode(0,15)"))
    kvlab.refused("E_BAD_STRIDE", 3, *ppl(tokens, "--protocol", "strided(8,9)"))
    kvlab.refused("E_UNKNOWN", 3, *ppl(tokens, "--protocol", "decod"))
    kvlab.refused("E_NO_TOKENIZER", 3, "ppl", "--model", "recall2", "--text", tokens)
    tokens.write_text("[0, 1, 32]")
    assert "32" in kvlab.refused("E_POSITION", 3, *ppl(tokens))
    tokens.write_text("[0, 1, -1]")
    kvlab.refused("E_POSITION", 3, *ppl(tokens))
    tokens.write_text("[0, 1, 1.5]")
    kvlab.refused("E_FORMAT", 3, *ppl(tokens))


@pytest.mark.examples("window")
def test_policies(kvlab, tokens):
    window = ["--method", "window", "--protocol", "disjoint(64)"]
    assert "masked" in kvlab.refused(
        "E_READ_POLICY", 3, *ppl(tokens, *window, "--read-policy", "stored")
    )
    kvlab.refused("E_CONFIG", 3, *ppl(tokens, "--read-policy", "raw"))
    kvlab.refused(
        "E_READ_POLICY",
        3,
        *ppl(tokens, "--protocol", "decode(32,8)", "--freeze", "--read-policy", "masked"),
    )


def test_plugins(kvlab):
    kvlab.refused("E_FILE", 3, "info", "--plugin", "missing.so")
    (kvlab.folder / "text.so").write_text("not a shared object")
    kvlab.refused("E_PLUGIN", 3, "info", "--plugin", "text.so")


def test_stdout_that_cannot_be_written(kvlab):
    with open("/dev/full", "w") as full:
        import subprocess

        done = subprocess.run(
            [kvlab.path, "info"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 5
    assert done.stderr.startswith("kvlab: E_DISK: stdout")


def test_the_exit_table_is_the_documented_one(kvlab, repository):
    """README and --help list the same statuses and errors."""
    table = {}
    for line in (repository / "eval" / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].isdigit():
            table[cells[0]] = f"{cells[1]} ({cells[2].replace('`', '')})" if cells[2] else cells[1]
    lines = kvlab("--help").out.split("Exit status:\n")[1].splitlines()
    assert {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.strip()} == table


def test_prepare(kvlab, tokens):
    made = ["--model", "recall2", "--tokens-file", tokens, "--out"]
    assert "dense has no offline step" in kvlab.refused(
        "E_UNSUPPORTED", 3, "prepare", "dense", *made, "x"
    )
    assert "one by one" in kvlab.refused("E_CONFIG", 3, "prepare", "dense+dense", *made, "x")
