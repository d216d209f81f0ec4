"""`kvlab samples` prints, byte for byte, what the tasks' definitions in Python make."""

import json

import pytest
import text_task_definition as definition
from command import Command
from text_models import TOKENIZERS, builtin, encoder, write_model

TEXT = """Der  grüne Baum stands here!\nIs it old? Nobody knows.  The wind, however,
asks for 5 € every day.\n\n\tSo be it."""


@pytest.fixture(scope="session", params=sorted(TOKENIZERS))
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text.txt").write_text(TEXT)
    return write_model(folder, TOKENIZERS[request.param]())


def niah(name, haystack=None, **options):
    kind = definition.NIAH[name][0]
    kind = haystack or ("prose" if kind == "text" else kind)
    words = TEXT.split() if kind == "text" else ()
    return definition.niah(name, definition.Haystack(kind, words), **options)


def hidden(kind):
    return definition.Haystack(kind, TEXT.split())


# The task, its parameters, and the definition for a length and a tokenizer.
CASES = {
    name: (name, {}, lambda length, encode, name=name: niah(name)) for name in definition.NIAH
} | {
    "in a text": (
        "niah_single_2",
        {"text": "text.txt"},
        lambda length, encode: niah("niah_single_2", "text"),
    ),
    "in noise": (
        "niah_multivalue",
        {"haystack": "noise"},
        lambda length, encode: niah("niah_multivalue", "noise"),
    ),
    "in turns": (
        "niah_multiquery",
        {"turns": 3},
        lambda length, encode: niah("niah_multiquery", turns=3),
    ),
    "in turns from the context": (
        "niah_single_1",
        {"turns": 2, "rollback": True},
        lambda length, encode: niah("niah_single_1", turns=2, rollback=True),
    ),
    "vt": ("vt", {}, lambda length, encode: definition.vt(hidden("noise"))),
    "vt in prose": (
        "vt",
        {"haystack": "prose"},
        lambda length, encode: definition.vt(hidden("prose")),
    ),
    "cwe": ("cwe", {"length": 3500}, lambda length, encode: definition.cwe(length)),
    "cwe, long": ("cwe", {"length": 10000}, lambda length, encode: definition.cwe(length)),
    "fwe": ("fwe", {}, definition.fwe),
    "qa_syn_1": ("qa_syn_1", {}, lambda length, encode: definition.qa_syn(1)),
    "qa_syn_2": ("qa_syn_2", {}, lambda length, encode: definition.qa_syn(2)),
    "passkey": (
        "passkey",
        {"digits": 9},
        lambda length, encode: definition.passkey(hidden("noise"), 9),
    ),
}
SEEDS, SAMPLES, LENGTH = (7, 42), 3, 2000


@pytest.fixture(scope="session")
def printed(kvlab_command, folder):
    """What the command prints for each case and seed, in one call: a tokenizer starts slowly."""
    tasks = [
        {"builtin": task, "length": LENGTH, "samples": SAMPLES} | parameters
        for task, parameters, _ in CASES.values()
    ]
    config = {
        "schema": "kvlab-config/1",
        "model": {"path": "."},
        "tasks": tasks,
        "repeat": {"seeds": SEEDS},
    }
    (folder / "experiment.json").write_text(json.dumps(config))
    done = Command(kvlab_command, folder)("samples", "--config", "experiment.json")
    lines = iter(done.out.splitlines())
    return {
        (case, seed): [json.loads(next(lines)) for _ in range(SAMPLES)]
        for case in CASES
        for seed in SEEDS
    }


@pytest.mark.parametrize("case", CASES)
def test_a_text_task_is_its_definition(printed, folder, case):
    _, parameters, task = CASES[case]
    encode, length = encoder(folder), parameters.get("length", LENGTH)
    for seed in SEEDS:
        fitted = definition.Fitted(task(length, encode), seed, encode, length)
        assert printed[case, seed] == [fitted.record(index) for index in range(SAMPLES)]
        assert all(record["meta"]["n_tokens"] <= length for record in printed[case, seed])


def test_a_grid_is_its_definition(kvlab, folder):
    encode = encoder(folder)
    numbers = {"lengths": [600, 900], "depths": [0, 50, 100], "repetitions": 2}
    printed = kvlab("samples", builtin("needle_grid", **numbers), "--model", folder)
    task = definition.needle_grid(hidden("noise"), *numbers.values())
    fitted = definition.Fitted(task, 0, encode)
    assert [json.loads(line) for line in printed.out.splitlines()] == [
        fitted.record(index) for index in range(12)
    ]


@pytest.mark.parametrize("seed", [7, 8])
@pytest.mark.parametrize("power_a", [1, 0.5, 0.01])
def test_mqar_is_its_definition(kvlab, seed, power_a):
    given = builtin("mqar", pairs=6, length=61, power_a=power_a)
    printed = kvlab("samples", given, "--model", "recall2", "--seed", seed, "--count", 5)
    for index, line in enumerate(printed.out.splitlines()):
        record = json.loads(line)
        expected = definition.mqar(seed, index, 6, 61, power_a)
        assert {key: record[key] for key in expected} == expected


def test_copy_is_its_definition(kvlab):
    printed = kvlab("samples", builtin("copy", tokens=9), "--model", "recall2", "--count", 4)
    for index, line in enumerate(printed.out.splitlines()):
        record = json.loads(line)
        expected = definition.copy(0, index, 9)
        assert {key: record[key] for key in expected} == expected


def test_the_worked_values_of_the_definition():
    stream = definition.Random(42, "niah_single_1", 0)
    assert [stream.value("numbers") for _ in range(3)] == ["2285144", "8596598", "6481790"]
    stream = definition.Random(42, "words", 0)
    words = [stream.value("words") for _ in range(3)]
    assert words == ["mukabo-nudumo", "sisaha-bibico", "rekaje-dikofe"]
    uuid = definition.Random(42, "uuid", 0).value("uuids")
    assert uuid == "76cc1103-f1ba-4bd0-af41-1435ebad3f93"
    stream = definition.Random(42, "vt", 0)
    names = [stream.letters(definition.UPPER, 5) for _ in range(5)]
    assert names == ["RKBXR", "SQQND", "JCMBT", "QEPQU", "EQIFK"]
    assert 10000 + stream.below(89999) == 52305
    assert definition.DEPTHS[:11] == [0, 3, 5, 8, 10, 13, 15, 18, 21, 23, 26]
    assert definition.DEPTHS[-1] == 100
    ids = definition.mqar(7, 0, 4, 24)
    assert ids["query_ids"] == [12, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0]


def test_a_record_has_the_fields_of_its_kind(kvlab, folder):
    one = kvlab("samples", builtin("niah_single_1", length=400), "--model", folder, "--count", 1)
    assert set(one.json) == {
        "id", "task", "seed", "context", "query", "answer_prefix", "answers", "match",
        "max_new_tokens", "meta",
    }  # fmt: skip
    assert set(one.json["meta"]) == {"n_tokens", "depth", "needle_spans"}


def test_a_config_gives_the_samples_it_asks_of_its_model(kvlab):
    config = kvlab.config(
        tasks=[{"builtin": "mqar", "pairs": 3, "samples": 2}, {"builtin": "copy", "samples": 3}],
        methods=["dense", "window"],
        matrix={"prefill_chunk": [0, 64]},
        repeat={"seeds": [1, 2]},
    )
    lines = kvlab("samples", "--config", config).out.splitlines()
    found = [(record["id"], record["seed"]) for record in map(json.loads, lines)]
    expected = [
        (f"{task}-{i}", seed) for task, n in (("mqar", 2), ("copy", 3)) for seed in (1, 2)
        for i in range(n)
    ]  # fmt: skip
    assert found == expected


@pytest.mark.parametrize(
    ("code", "status", "parameters"),
    [
        ("E_HAYSTACK_TOO_SHORT", 3, {"length": 160}),
        ("E_CONTEXT_TOO_LONG", 3, {"length": 16385}),
        ("E_CONFIG", 3, {"text": "nothing.txt", "haystack": "noise"}),
        ("E_CONFIG", 3, {"haystack": "text"}),
        ("E_CONFIG", 3, {"haystack": "prose", "keys": 41}),
        ("E_FILE", 3, {"haystack": "text", "text": "nothing.txt"}),
    ],
)
def test_what_cannot_be_asked_is_refused(kvlab, folder, code, status, parameters):
    given = builtin("niah_single_1", **parameters)
    kvlab.refused(code, status, "samples", given, "--model", folder)


def test_texts_need_a_tokenizer(kvlab):
    kvlab.refused("E_NO_TOKENIZER", 3, "samples", "vt", "--model", "recall2")


def test_tasks_need_a_model_and_a_config_has_one(kvlab):
    kvlab.refused("E_USAGE", 2, "samples")
    kvlab.refused("E_USAGE", 2, "samples", "copy")
    config = kvlab.config()
    kvlab.refused("E_USAGE", 2, "samples", "--config", config, "--model", "recall2")
    kvlab.refused("E_USAGE", 2, "samples", "copy", "--config", config)
