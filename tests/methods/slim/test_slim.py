"""Slim attention through the command, on the trained model: prepared, run, held against dense."""

import json
import subprocess

import pytest

pytest.importorskip("tokenizers")

TEXT_BYTES = 24_000  # of calibration: about 7000 tokens
WINDOW, WINDOWS = 256, 2
MODES = {
    "keys": {"mode": "keys"},
    "keys_shaped_side": {"mode": "keys_shaped_side"},
    "keys24": {"mode": "keys24"},
    "strict": {"target": "strict"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slim")


@pytest.fixture(scope="module")
def run(kvlab_command, folder):
    """The command; returns what it printed."""

    def command(*arguments, expect=0):
        done = subprocess.run(
            [kvlab_command, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=300,
            check=False,
        )
        assert done.returncode == expect, done.stderr
        return done.stdout if expect == 0 else done.stderr

    return command


@pytest.fixture(scope="module")
def model(repository):
    return repository / "models" / "ref-mha"


@pytest.fixture(scope="module")
def calibration(repository, folder):
    """Text the model is not judged on below: the end of the excerpt, which begins elsewhere."""
    text = (repository / "models" / "excerpt.txt").read_text()
    path = folder / "calibration.txt"
    path.write_text(text[-TEXT_BYTES:])
    return path


@pytest.fixture(scope="module")
def artifact(run, model, calibration, folder):
    """artifact(name, **params) prepares once."""
    made = {}

    def prepare(name, dtype="bfloat16", **params):
        path = folder / f"{name}.safetensors"
        if name not in made:
            method = json.dumps({"name": "slim", "params": {"calibration_length": 512} | params})
            arguments = ["--model", model, "--dtype", dtype, "--text", calibration, "--out", path]
            made[name] = json.loads(run("prepare", method, *arguments, "--json"))["header"]
        return path, made[name]

    return prepare


@pytest.fixture(scope="module")
def table(run, model, repository, folder):
    """Values of an experiment by title and metric, on the start of the excerpt."""

    def evaluate(name, methods, dtype):
        task = {"ppl": "disjoint", "Lw": WINDOW, "windows": WINDOWS, "fidelity": True}
        config = {
            "schema": "kvlab-config/1",
            "output": str(folder / name),
            "model": {"path": str(model), "dtype": dtype},
            "tasks": [task | {"text": str(repository / "models" / "excerpt.txt")}],
            "methods": ["dense", *methods],
            "matrix": {"read_policy": ["masked"]},
        }
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config))
        run("eval", path)
        lines = (folder / name / "results.jsonl").read_text().splitlines()
        return {(line["title"], line["metric"]): line["value"] for line in map(json.loads, lines)}

    return evaluate


def test_every_layer_of_a_trained_model_amplifies_rounding(artifact):
    """The measured error of values is what the noise gain predicts, far from a dense cache's."""
    _, header = artifact("keys", mode="keys")
    assert len(header["layers"]) == 8
    for layer in header["layers"]:
        assert layer["gain"] > 2
        assert layer["value_error"] == pytest.approx(layer["predicted_value_error"], rel=0.5)
        assert layer["share_of_dense"] == 0.5


def test_repairs_come_in_the_order_of_what_they_store(artifact):
    errors = {
        mode: [layer["value_error"] for layer in artifact(mode, mode=mode)[1]["layers"]]
        for mode in ("keys", "keys_shaped", "keys_shaped_side", "keys24")
    }
    for plain, shaped, side in zip(
        errors["keys"], errors["keys_shaped"], errors["keys_shaped_side"], strict=True
    ):
        assert side < shaped < plain
    for plain, fine in zip(errors["keys"], errors["keys24"], strict=True):
        assert fine == pytest.approx(plain / 256, rel=0.3)


def test_strict_keeps_its_promise_or_stays_dense(artifact):
    _, header = artifact("strict", target="strict")
    for layer in header["layers"]:
        assert layer["value_error"] <= 2 * layer["rounding"]
        assert layer["mode"] == "dense" or layer["share_of_dense"] < 1


@pytest.fixture(scope="module")
def in_bfloat16(artifact, table):
    methods = [{"name": "quant", "params": {"bits": 8, "group": 0}}]
    for name, params in MODES.items():
        path, _ = artifact(name, **params)
        methods.append({"name": "slim", "artifact": str(path), "params": params})
    return table("bfloat16", methods, "bfloat16")


def title(name):
    """Tables name every parameter in which methods of one name differ."""
    params = {"mode": "auto", "target": "near"} | MODES[name]
    return f"slim(mode={params['mode']},target={params['target']})"


def test_the_cache_is_half_of_dense_and_the_side_cache(in_bfloat16):
    """To the byte, from what was allocated; a side cache is a sixteenth of the key row."""
    dense = in_bfloat16["dense", "payload_bytes"]
    for name, share in (("keys", 1 / 2), ("keys_shaped_side", 17 / 32), ("keys24", 3 / 4)):
        assert in_bfloat16[title(name), "payload_bytes"] == dense * share
        assert in_bfloat16[title(name), "meta_bytes"] == 0


def test_strict_reads_the_text_as_dense_does(in_bfloat16):
    assert in_bfloat16[title("strict"), "ppl_ratio"] == pytest.approx(1, abs=1e-3)


def test_keys_alone_are_no_match_for_8_bits(in_bfloat16):
    """The same bytes; the trained network's values are lost in the rounding of its keys."""
    int8 = "quant(bits=8,group=0)"
    assert in_bfloat16[title("keys"), "payload_bytes"] == in_bfloat16[int8, "payload_bytes"]
    assert in_bfloat16[title("keys"), "kl"] > 100 * in_bfloat16[int8, "kl"]
    assert in_bfloat16[title("keys_shaped_side"), "kl"] < in_bfloat16[title("keys"), "kl"] / 10


def test_in_float32_logits_are_those_of_the_dense_cache(artifact, table):
    path, _ = artifact("float32", dtype="float32", mode="keys")
    got = table("float32", [{"name": "slim", "artifact": str(path)}], "float32")
    assert got["slim", "logit_rel_fro"] < 1e-4
    assert got["slim", "cr_run_dtype"] == 2


def test_keys_alone_turn_and_x_is_refused(run, model, calibration, folder):
    method = json.dumps({"name": "slim", "params": {"mode": "input"}})
    arguments = ["--model", model, "--text", calibration, "--out", folder / "x.safetensors"]
    assert "SLIM_E_ROPE_ABSORB" in run("prepare", method, *arguments, expect=3)


def test_grouped_queries_have_nothing_to_save(run, repository, calibration, folder):
    arguments = ["--text", calibration, "--out", folder / "gqa.safetensors"]
    sentence = run(
        "prepare", "slim", "--model", repository / "models" / "ref-gqa", *arguments, expect=3
    )
    assert "SLIM_E_NO_SAVING" in sentence and "Palu" in sentence


def test_a_text_is_needed_where_keys_turn(run, model, folder):
    sentence = run(
        "prepare", "slim", "--model", model, "--out", folder / "none.safetensors", expect=3
    )
    assert "--text" in sentence
