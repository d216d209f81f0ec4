"""models/: that the trained networks are what their cards say, to kvlab and to transformers."""

import hashlib
import json
import math

import pytest
from command import Command, read_lines
from safetensors.torch import load_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NAMES = ("ref-mha", "ref-gqa")
WINDOW = 512
WINDOWS = 4


@pytest.fixture(scope="module", params=NAMES)
def folder(request, repository):
    return repository / "models" / request.param


@pytest.fixture(scope="module")
def windows(folder, repository):
    """Of held-out text, as transformers' own tokenizer cuts it; each begins with token 0."""
    text = (repository / "models" / "excerpt.txt").read_text()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    step = len(ids) // WINDOWS
    return torch.tensor([[0, *ids[i * step :][: WINDOW - 1]] for i in range(WINDOWS)])


def network(folder, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@torch.no_grad()
def logits_of(model, tokens):
    return model(tokens, use_cache=False).logits.float()


def test_together_they_fit_a_repository(repository):
    files = [file for name in NAMES for file in (repository / "models" / name).iterdir()]
    assert sum(file.stat().st_size for file in files) < 36 << 20
    assert {file.suffix for file in files} == {".json", ".md", ".safetensors", ".svg"}


def test_the_card_is_of_this_tokenizer_and_this_many_parameters(folder):
    card = (folder / "README.md").read_text()
    assert hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest() in card
    weights = load_file(folder / "model.safetensors")
    assert f"{sum(w.numel() for w in weights.values()) / 1e6:.1f} M parameters" in card


def test_logits_are_those_of_transformers(folder, windows, dump_logits, tmp_path):
    want = logits_of(network(folder, torch.float32), windows[:2])
    runs = [
        {"name": f"chunks of {chunk}", "sequences": windows[:2].tolist(), "chunk": chunk}
        for chunk in (0, 100)
    ]
    got = dump_logits(tmp_path, {"model": {"path": str(folder), "dtype": "float32"}, "runs": runs})
    for run in runs:
        for i in range(2):
            off = (got[f"{run['name']}.{i}"] - want[i]).abs().max()
            assert off <= 1e-5 * want.abs().max(), run["name"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_perplexity_is_that_of_transformers(folder, windows, dtype, kvlab):
    log_p = torch.log_softmax(logits_of(network(folder, getattr(torch, dtype)), windows), -1)
    nats = -log_p[:, :-1].gather(-1, windows[:, 1:, None]).mean(dtype=torch.float64).item()
    path = kvlab.folder / "tokens.json"
    path.write_text(json.dumps(windows.flatten().tolist()))
    protocol = f"disjoint({WINDOW})"
    told = kvlab(
        *("ppl", "--model", folder, "--tokens", path, "--protocol", protocol, "--dtype", dtype),
        "--json",
    ).json
    assert told["tokens"] == windows[:, 1:].numel()
    assert told[f"ppl_disjoint{WINDOW}"] == pytest.approx(math.exp(nats), rel=1e-3)


@pytest.fixture(scope="module")
def compressed(repository, kvlab_command, tmp_path_factory):
    """NLL above dense, paired, of ref-mha on 4 windows of 1024 held-out tokens, by method title."""
    kvlab = Command(kvlab_command, tmp_path_factory.mktemp("compressed"))
    quant = {"bits": {"sweep": [8, 4, 2]}, "group": 0, "rotate": {"sweep": [False, True]}}
    config = kvlab.config(
        model={"path": str(repository / "models" / "ref-mha"), "dtype": "bfloat16"},
        tasks=[
            {
                "ppl": "disjoint",
                "Lw": 1024,
                "text": str(repository / "models" / "excerpt.txt"),
                "windows": 4,
                "fidelity": False,
            }
        ],
        methods=[
            {"name": "quant", "params": quant},
            {"name": "window", "params": {"sink": 4, "recent": 252}},
        ],
        matrix={"read_policy": ["masked"]},
    )
    kvlab("eval", config)
    lines = read_lines(kvlab.folder / "config" / "results.jsonl")
    return {line["title"]: line for line in lines if line["metric"] == "delta_nll"}


@pytest.mark.examples("quant", "window")
def test_compression_hurts_in_the_order_of_its_bits(compressed):
    delta = {title: line["value"] for title, line in compressed.items()}
    int8, int4, int2 = (delta[f"quant(bits={bits},group=0,rotate=false)"] for bits in (8, 4, 2))
    rotated = delta["quant(bits=4,group=0,rotate=true)"]
    assert abs(int8) < rotated < int4 < int2
    assert compressed["quant(bits=2,group=0,rotate=false)"]["ci"][0] > 0
