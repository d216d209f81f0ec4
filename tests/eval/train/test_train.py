"""`kvlab train`: a killed run goes on to the same bits, and transformers reads what it writes."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 96,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def words(values) -> bytes:
    return b"".join(int(v).to_bytes(2, "little") for v in values)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Text that counts in steps, and documents that repeat their first half."""
    folder = tmp_path_factory.mktemp("corpus")
    chance = random.Random(3)
    for name, tokens in (("train", 6000), ("valid", 1000), ("test", 1000)):
        text, at = [], 1
        while len(text) < tokens:
            step = chance.randrange(1, 4)
            for _ in range(chance.randrange(5, 20)):
                at = at % 127 + step
                text.append(at % 127 + 1)
        (folder / f"text-{name}.bin").write_bytes(words(text))
    ids, marks = [], []
    for _ in range(120):
        half = [chance.randrange(1, 128) for _ in range(chance.randrange(6, 12))]
        ids += [0, *half, *half]
        marks += [0] * (len(half) + 2) + [1] * (len(half) - 1)
    (folder / "recall-32.bin").write_bytes(words(ids))
    (folder / "recall-32.marks").write_bytes(bytes(marks))
    return folder


def recipe(folder: Path, corpus: Path, **changes) -> Path:
    config = {
        "schema": "kvlab-train/1",
        "name": "small",
        "model": MODEL,
        "data": {"directory": str(corpus), "held_out_documents": 16},
        "stages": [
            {
                "until_step": 12,
                "sequence_length": 32,
                "batch_sequences": 8,
                "shares": {"text": 0.5, "recall-32": 0.5},
            },
            {
                "until_step": 24,
                "sequence_length": 80,
                "batch_sequences": 4,
                "accumulate": 2,
                "shares": {"text": 1},
            },
        ],
        "optimiser": {"learning_rate": 0.003},
        "schedule": {"warmup_steps": 4},
        "validation": {
            "text_windows": 4,
            "text_length": 64,
            "recall": ["recall-32"],
            "documents": 16,
        },
        "seed": 5,
        "threads": 1,
        "checkpoint_every": 5,
        "validate_every": 8,
    }
    path = folder / "recipe.json"
    path.write_text(json.dumps(config | changes))
    return path


def log(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("timing")
    return lines


@pytest.mark.parametrize(("dtype", "threads"), [("bfloat16", 2), ("float32", 1)])
def test_killed_at_random_it_arrives_at_the_same_bits(kvlab, corpus, tmp_path, dtype, threads):
    config = recipe(tmp_path, corpus, dtype=dtype, threads=threads)
    begin = time.monotonic()
    kvlab("train", config, "--out", "whole")
    whole = time.monotonic() - begin
    chance = random.Random(11)
    for _ in range(5):
        process = subprocess.Popen(
            [kvlab.path, "train", config, "--out", "pieces"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        try:
            process.wait(timeout=chance.uniform(0.2, 1) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    kvlab("train", config, "--out", "pieces")
    assert log(tmp_path / "whole") == log(tmp_path / "pieces")
    for name in ("checkpoint.safetensors", "model/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "pieces" / name).read_bytes()
    curve = ElementTree.parse(tmp_path / "whole" / "curve.svg").getroot()
    texts = {text.text for text in curve.iter("{http://www.w3.org/2000/svg}text")}
    assert {"small", "training mix", "text, held out", "recall-32"} <= texts
    steps = [line["step"] for line in log(tmp_path / "whole") if "loss" in line]
    assert steps == list(range(1, 25))


def test_half_batches_added_up_are_the_batch(kvlab, corpus, tmp_path):
    """In float32, to what another order of sums makes of the loss."""
    losses = []
    for parts in (1, 2, 4):
        stage = {
            "until_step": 6,
            "sequence_length": 32,
            "batch_sequences": 8,
            "accumulate": parts,
            "shares": {"text": 0.5, "recall-32": 0.5},
        }
        config = recipe(tmp_path, corpus, stages=[stage], dtype="float32")
        kvlab("train", config, "--out", f"parts{parts}")
        losses.append([line["loss"] for line in log(tmp_path / f"parts{parts}") if "loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
def test_transformers_loads_the_model_and_agrees(kvlab, corpus, tmp_path, family):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = MODEL | {
        "architectures": [f"{family}ForCausalLM"],
        "model_type": family.lower(),
        "num_key_value_heads": 1,
    }
    config = recipe(tmp_path, corpus, model=model)
    kvlab("train", config, "--out", "run", "--export", "exported")
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "exported", dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = list((corpus / "text-test.bin").read_bytes())[:128:2]
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    with torch.no_grad():
        logits = theirs(torch.tensor([ids])).logits[0, :-1]
    want = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
    model = json.dumps({"path": str(tmp_path / "exported"), "dtype": "float32"})
    ours = kvlab(
        "ppl", "--model", model, "--tokens", "ids.json", "--protocol", "stream",
        "--per-token", "--json",
    ).json  # fmt: skip
    assert ours["per_token"] == pytest.approx(want.tolist(), abs=1e-4)


def test_a_frozen_group_stays_where_it_was(kvlab, corpus, tmp_path):
    load_file = pytest.importorskip("safetensors.torch").load_file
    groups = [
        {"match": ["*.mlp.*"], "frozen": True},
        {"match": ["*norm.weight"], "weight_decay": 0},
    ]
    optimiser = {"learning_rate": 0.003, "groups": groups}
    stage = {
        "until_step": 1,
        "sequence_length": 16,
        "batch_sequences": 2,
        "shares": {"text": 1},
    }
    runs = []
    for steps in (1, 3):
        config = recipe(
            tmp_path, corpus, optimiser=optimiser, stages=[stage | {"until_step": steps}]
        )
        kvlab("train", config, "--out", f"run{steps}")
        runs.append(load_file(tmp_path / f"run{steps}" / "checkpoint.safetensors"))
    for name in MODEL_WEIGHTS:
        same = bool((runs[0][name] == runs[1][name]).all())
        assert same == (".mlp." in name), name


MODEL_WEIGHTS = [
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.layers.0.mlp.gate_proj.weight",
    "model.norm.weight",
]


def test_what_cannot_be_trained_is_refused(kvlab, corpus, tmp_path):
    def refused(code, part, *more, status=3, **changes):
        line = kvlab.refused(
            code, status, "train", recipe(tmp_path, corpus, **changes), "--out", "run", *more
        )
        assert part in line, line

    refused("E_UNKNOWN", "did you mean `seed`?", sed=1)
    refused("E_FORMAT", "hidden_size", model=MODEL | {"hidden_size": 0})
    refused("E_UNSUPPORTED", "gpt2", model=MODEL | {"model_type": "gpt2", "architectures": []})
    refused("E_CONFIG", "max_position_embeddings", model=MODEL | {"max_position_embeddings": 64})
    refused("E_FORMAT", "outside the model's vocabulary, 0..99", model=MODEL | {"vocab_size": 100})
    refused("E_FILE", "recall-32.bin", data={"directory": str(tmp_path)})
    refused("E_CONFIG", "held_out", data={"directory": str(corpus), "held_out_documents": 1000})
    refused("E_CONFIG", "known: cpu, cuda", "--device", "tpu")
    refused("E_FILE", "none", init={"from": str(corpus / "none.safetensors")})


def test_a_loss_that_is_not_a_number_ends_the_run(kvlab, corpus, tmp_path):
    config = recipe(tmp_path, corpus, optimiser={"learning_rate": 1e30})
    done = kvlab("train", config, "--out", "run", expect=1)
    assert "kvlab: E_NONFINITE: train: step " in done.err
    assert "lower the learning rate" in done.err
    assert not (tmp_path / "run" / "model").exists()


def test_another_recipe_does_not_touch_a_run(kvlab, corpus, tmp_path):
    kvlab("train", recipe(tmp_path, corpus), "--out", "run")
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    line = kvlab.refused("E_IDENTITY", 3, "train", recipe(tmp_path, corpus, seed=6), "--out", "run")
    assert "`/seed` differs" in line
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_weights_of_a_model_can_be_trained_on(kvlab, corpus, tmp_path):
    kvlab("train", recipe(tmp_path, corpus), "--out", "first")
    model = tmp_path / "first" / "model"
    config = recipe(tmp_path, corpus, init={"from": str(model)})
    kvlab("train", config, "--out", "second")
    first, second = log(tmp_path / "first"), log(tmp_path / "second")
    assert second[0]["loss"] < first[0]["loss"] - 0.1
