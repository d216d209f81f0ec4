"""Models with an encoder through the kvlab command: task files with `encoder_ids`."""

import json

import pytest
from command import read_lines

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB, WIDTH, LAYERS, HEADS, DIM = 64, 48, 2, 4, 16
ENCODER_TOKENS, CONTEXT, QUERY = 40, 24, 8
PER_TOKEN = LAYERS * HEADS * 2 * DIM * 2  # bytes in 16 bits, of a decoder's or an encoder's token


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    config = transformers.T5Config(
        vocab_size=VOCAB,
        d_model=WIDTH,
        d_kv=DIM,
        d_ff=80,
        num_layers=2,
        num_decoder_layers=LAYERS,
        num_heads=HEADS,
        decoder_start_token_id=0,
        eos_token_id=None,
    )
    torch.manual_seed(2)
    model = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=1.2 / parameter.shape[1] ** 0.5)
    folder = tmp_path_factory.mktemp("t5")
    model.save_pretrained(folder)
    return folder, model


def documents(count=2):
    generator = torch.Generator().manual_seed(9)
    for _ in range(count):
        source = torch.randint(2, VOCAB, (ENCODER_TOKENS,), generator=generator).tolist()
        text = [0, *torch.randint(2, VOCAB, (CONTEXT + QUERY,), generator=generator).tolist()]
        yield {
            "encoder_ids": source,
            "context_ids": text[:CONTEXT],
            "query_ids": text[CONTEXT:-1],
            "labels": text[CONTEXT + 1 :],
        }


@pytest.fixture
def task(tmp_path):
    """Writes a task file of such documents, each changed as asked."""

    def write(change=None, **keys):
        lines = [json.dumps((change or (lambda d: d))(dict(one))) for one in documents()]
        (tmp_path / "docs.jsonl").write_text("\n".join(lines) + "\n")
        file = {"task": "made_up", "type": "tokens", "docs": "docs.jsonl"}
        file |= {"encoder_ids": "{encoder_ids}"} | keys
        (tmp_path / "task.json").write_text(json.dumps(file))
        return {"task_file": "task.json"}

    return write


def evaluated(kvlab, network, task, methods, **more):
    changes = {"model": {"path": str(network[0])}, "tasks": [task], "methods": methods} | more
    kvlab("eval", kvlab.config(**changes))
    lines = read_lines(kvlab.folder / "config" / "results.jsonl")
    return {(line["method"], line["metric"]): line["value"] for line in lines}


@torch.no_grad()
def expected_nll(model):
    sums = []
    for one in documents():
        fed = one["context_ids"] + one["query_ids"]
        ids = {"input_ids": [one["encoder_ids"]], "decoder_input_ids": [fed]}
        logits = model(**{k: torch.tensor(v) for k, v in ids.items()}).logits[0]
        log_p = logits[-len(one["labels"]) :].double().log_softmax(-1)
        sums.append(-log_p.gather(1, torch.tensor(one["labels"])[:, None]))
    return float(torch.cat(sums).mean())


@pytest.mark.examples("quant", "window")
def test_methods_compress_what_both_attentions_read(kvlab, network, task):
    int8 = {"name": "quant", "params": {"bits": 8, "group": 0}}
    window = {"name": "window", "params": {"sink": 0, "recent": 8}}
    got = evaluated(kvlab, network, task(), ["dense", int8, window])
    methods = {method for method, _ in got}
    quant = next(name for name in methods if "quant" in name)
    windowed = next(name for name in methods if "window" in name)
    want, tokens = expected_nll(network[1]), CONTEXT + QUERY + ENCODER_TOKENS
    assert got["dense", "nll"] == pytest.approx(want, rel=1e-5)
    assert got["dense", "dense_bytes"] == PER_TOKEN * tokens
    assert got["dense", "cache_bytes"] == 2 * PER_TOKEN * tokens  # float32
    assert got["dense", "cr_run_dtype"] == 1
    # Both attentions are coded: a byte for each number and 4 for each row of 16.
    assert 0 < abs(got[quant, "nll"] - want) < 0.1
    assert got[quant, "payload_bytes"] == PER_TOKEN / 2 * tokens
    assert got[quant, "meta_bytes"] >= PER_TOKEN / 8 * tokens
    # Self-attention keeps what the next token reads beside its own row, cross-attention keeps all.
    assert abs(got[windowed, "nll"] - want) > 1e-3
    assert got[windowed, "payload_bytes"] == 2 * PER_TOKEN * (7 + ENCODER_TOKENS)


@pytest.mark.examples("slim")
def test_one_row_of_an_encoder_token_is_enough_for_all_layers(kvlab, network, task):
    """X-cache of self-attention, E-cache of cross-attention: the paper's 2 e / D and 2 e L / D, as
    they were allocated."""
    kvlab("prepare", "slim", "--model", network[0], "--out", "slim.safetensors")
    slim = {"name": "slim", "artifact": str(kvlab.folder / "slim.safetensors")}
    got = evaluated(kvlab, network, task(), ["dense", slim])
    decoder_tokens = CONTEXT + QUERY
    assert got["slim", "nll"] == pytest.approx(expected_nll(network[1]), rel=1e-5)
    assert got["slim", "payload_bytes"] == 4 * WIDTH * (LAYERS * decoder_tokens + ENCODER_TOKENS)
    e = HEADS * DIM
    dense = 4 * 2 * e * LAYERS * (decoder_tokens + ENCODER_TOKENS)
    assert got["dense", "payload_bytes"] == dense
    assert got["slim", "meta_bytes"] == 0


@pytest.mark.examples("slim")
@pytest.mark.parametrize("tokens", [8, 40, 81])
def test_a_text_says_what_codes_would_lose(kvlab, network, tokens):
    """Some of each layer's rows are held out, however the text falls into sequences; half of a
    sequence is a source, half a target."""
    (kvlab.folder / "ids.json").write_text(json.dumps([2 + 7 * i % 60 for i in range(tokens)]))
    method = {"name": "slim", "params": {"calibration_length": 20}}
    text = ("--model", network[0], "--tokens", "ids.json", "--json")
    prepared = kvlab("prepare", json.dumps(method), *text, "--out", "slim.safetensors").json
    for layer in prepared["header"]["layers"]:
        assert layer["value_error"] < 1e-6
        assert 1e-3 < layer["value_error_int8"] < layer["value_error_int4"] < 0.5


def test_text_is_what_transformers_writes(kvlab, network, task):
    model = network[1]
    sources = [torch.tensor([one["encoder_ids"]]) for one in documents()]
    texts = [
        model.generate(source, do_sample=False, num_beams=1, max_new_tokens=6).tolist()[0][1:]
        for source in sources
    ]
    answers = iter(texts)
    asked = task(
        lambda one: {
            "encoder_ids": one["encoder_ids"],
            "context_ids": [0],
            "answer_ids": next(answers),
        },
        query_ids=None,
        labels=None,
        answer_ids="{answer_ids}",
    )
    got = evaluated(kvlab, network, asked, ["dense"])
    assert got["dense", "exact"] == 1


def test_a_model_and_its_task_must_both_have_an_encoder_or_not(kvlab, network, task, model_folder):
    def refused(model, task):
        config = kvlab.config(model={"path": str(model)}, tasks=[task])
        return kvlab.refused("E_CONFIG", 3, "eval", config)

    def without(one):
        return {key: value for key, value in one.items() if key != "encoder_ids"}

    assert "has no tokens for it to read" in refused(network[0], task(without, encoder_ids=None))
    assert "llama has no encoder" in refused(model_folder, task())
    assert "`encoder_ids`" in refused(network[0], {"builtin": "mqar", "pairs": 4, "context": 32})
    assert "docs.jsonl, line 1" in kvlab.refused(
        "E_POSITION",
        3,
        "eval",
        kvlab.config(
            model={"path": str(network[0])},
            tasks=[task(lambda one: one | {"encoder_ids": [VOCAB]})],
        ),
    )


def test_commands_that_feed_a_decoder_alone_say_so(kvlab, network):
    (kvlab.folder / "ids.json").write_text(json.dumps([1 + i % 40 for i in range(32)]))
    model = ("--model", network[0])
    ppl = kvlab.refused("E_CONFIG", 3, "ppl", *model, "--tokens", "ids.json")
    assert "t5 has an encoder" in ppl
    generate = ("generate", *model, "--prompt-tokens", "ids.json", "--max-new", "2")
    assert "t5 has an encoder" in kvlab.refused("E_CONFIG", 3, *generate)


def test_info_shows_both_attentions(kvlab, network):
    document = kvlab("info", network[0], "--json").json
    assert document["encoder_reads"] == "tokens"
    assert [(group["kind"], group["layers"]) for group in document["layers"]] == [
        ("self", [0, 2]),
        ("cross", [1, 3]),
    ]
    assert document["dense_bytes_per_token"] == PER_TOKEN
    assert document["dense_bytes_per_encoder_token"] == PER_TOKEN
    assert f"{PER_TOKEN} bytes per encoder token" in kvlab("info", network[0]).out
