"""Task files through the kvlab command, against transformers on the same tokens."""

import json
import math
import shutil

import pytest
from command import read_lines
from recall_definition import draw, sample_stream

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

pytestmark = pytest.mark.examples("quant")

CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ message['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_pairs(folder, texts):
    """A byte-level tokenizer that puts <s> ahead of a text."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    end = {"__type": "AddedToken", "content": "</s>", "special": True, **flags}
    special = {"bos_token": "<s>", "eos_token": end}
    config = {"chat_template": CHAT, "tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


@pytest.fixture(scope="module")
def speaker(tmp_path_factory, repository):
    """A small random Llama with a tokenizer: its folder, the tokenizer, the network."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    folder = tmp_path_factory.mktemp("speaker")
    network = transformers.LlamaForCausalLM(config)
    network.to(torch.float32).save_pretrained(folder)
    lines = [
        line
        for path in (repository / "configs" / "tasks").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    return folder, byte_pairs(folder, lines), network.double().eval()


@torch.no_grad()
def token_scores(network, fed, labels):
    """ln p of each label and whether it is the arg max; all of `fed` in one pass."""
    log_p = torch.log_softmax(network(torch.tensor([fed])).logits[0, -len(labels) :], -1)
    index = torch.tensor(labels)
    return log_p.gather(1, index[:, None])[:, 0].tolist(), log_p.argmax(-1).eq(index).tolist()


def few_shot(docs, task, index, n, seed):
    """Which documents are drawn as examples of document `index`."""
    others = [doc for i, doc in enumerate(docs) if i != index]
    return draw(sample_stream(seed, task, index), others, n)


@pytest.fixture
def run(kvlab, speaker, repository):
    """Runs a task of configs/tasks, or one written here, and returns its cells and results."""
    shutil.copytree(repository / "configs" / "tasks", kvlab.folder / "tasks")

    def run(task, methods=(), **changes):
        config = kvlab.config(
            model={"path": str(speaker[0])},
            tasks=[{"task_file": str(kvlab.folder / "tasks" / task)}],
            methods=list(methods),
            **changes,
        )
        kvlab("eval", config)
        out = kvlab.folder / "config"
        cells = {}
        for path in (out / "cells").iterdir():
            cell = json.loads(path.read_text())
            cells[cell["title"]] = cell
        results = {(one["title"], one["metric"]): one for one in read_lines(out / "results.jsonl")}
        return cells, results, (out / "summary.md").read_text()

    return run


@pytest.fixture
def write(kvlab, run):
    """Writes a task file and its documents where `run` finds them."""

    def write(file, docs):
        lines = "".join(json.dumps(one) + "\n" for one in docs)
        (kvlab.folder / "tasks" / "d.jsonl").write_text(lines)
        path = kvlab.folder / "tasks" / "t.json"
        path.write_text(json.dumps({"task": "t", "docs": "d.jsonl"} | file))
        return "t.json"

    return write


def mini_mc_likelihoods(repository, tokenizer, network):
    """[document][choice]: (ll, ll after nothing, tokens, greedy), by the definition."""
    path = repository / "configs" / "tasks" / "mini_mc.jsonl"
    docs = [json.loads(line) for line in path.read_text().splitlines()]

    def context(doc):
        return f"Question: {doc['question']}\nAnswer:"

    def solved(doc):
        return f"{context(doc)} {doc['choices'][doc['label']]}\n\n"

    everything = []
    for index, doc in enumerate(docs):
        shots = few_shot(docs, "mini_mc", index, 2, 0)
        text = "".join(map(solved, shots)) + context(doc)
        begin = tokenizer.encode(text).ids
        everything.append([])
        for choice in doc["choices"]:
            labels = tokenizer.encode(text + " " + choice).ids[len(begin) :]
            ll, greedy = token_scores(network, begin + labels[:-1], labels)
            alone, _ = token_scores(network, [0, *labels[:-1]], labels)
            everything[-1].append((sum(ll), sum(alone), len(labels), all(greedy)))
    return docs, everything


def test_multiple_choice_is_that_of_transformers(run, speaker, repository):
    _, tokenizer, network = speaker
    docs, wanted = mini_mc_likelihoods(repository, tokenizer, network)
    cells, results, summary = run("mini_mc.json", ["quant"])
    for sample, doc, choices in zip(
        cells["dense"]["observed"]["samples"], docs, wanted, strict=True
    ):
        turns, at = [], 0
        for scored in sample["turn_scored"]:
            turns.append(-sum(sample["nll"][at : at + scored]))
            at += scored
        n = len(doc["choices"])
        assert sample["turn_scored"] == [choice[2] for choice in choices] * 2
        assert turns[:n] == pytest.approx([choice[0] for choice in choices], abs=1e-4)
        assert turns[n:] == pytest.approx([choice[1] for choice in choices], abs=1e-4)
        assert sample["meta"]["gold"] == doc["label"]

    def accuracy(value):
        right = 0
        for doc, choices in zip(docs, wanted, strict=True):
            values = [value(*one) for one in zip(choices, doc["choices"], strict=True)]
            right += values.index(max(values)) == doc["label"]
        return right / len(docs)

    got = {name: results["dense", name]["value"] for _, name in results}
    assert got["choice_acc"] == accuracy(lambda c, text: c[0])
    assert got["acc_norm"] == accuracy(lambda c, text: c[0] / len(text))
    assert got["acc_bytes"] == accuracy(lambda c, text: c[0] / len(text.encode()))
    assert got["acc_tok"] == accuracy(lambda c, text: c[0] / c[2])
    assert got["acc_pmi"] == accuracy(lambda c, text: c[0] - c[1])
    brier = 0
    for doc, choices in zip(docs, wanted, strict=True):
        p = torch.softmax(torch.tensor([c[0] for c in choices]).double(), 0)
        p[doc["label"]] -= 1
        brier += (p**2).sum().item() / len(docs)
    assert got["brier"] == pytest.approx(brier, abs=1e-4)
    assert got["is_greedy"] == sum(
        c[d["label"]][3] for c, d in zip(wanted, docs, strict=True)
    ) / len(docs)
    assert results["quant", "cr"]["value"] > 1.5
    assert "chat template none" in summary


def test_a_compressed_cache_is_read(run):
    cells, _, _ = run("mini_mc.json", ["quant"])
    dense, quant = (cells[name]["observed"]["samples"][0] for name in ("dense", "quant"))
    assert quant["first_scored_after_compress"]
    alone = sum(dense["turn_scored"][3:])  # after nothing: one pass over rows as they came
    assert quant["nll"][:-alone] != dense["nll"][:-alone]
    assert quant["nll"][-alone:] == pytest.approx(dense["nll"][-alone:], abs=1e-5)


def test_likelihoods_are_those_of_transformers(run, write, speaker):
    _, tokenizer, network = speaker
    docs = [{"begin": "The ferry left the", "end": w} for w in ("harbour", "island", "grün")]
    file = {"type": "loglikelihood", "context": "{begin}", "continuation": "{end}"}
    _, results, _ = run(write(file | {"metrics": ["ppl", "acc", "ll"]}, docs))
    total, all_greedy = 0, 0
    for doc in docs:
        begin = tokenizer.encode(doc["begin"]).ids
        labels = tokenizer.encode(f"{doc['begin']} {doc['end']}").ids[len(begin) :]
        ll, greedy = token_scores(network, begin + labels[:-1], labels)
        total, all_greedy = total + sum(ll), all_greedy + all(greedy)
    assert results["dense", "target_ll"]["value"] == pytest.approx(total / 3, abs=1e-4)
    ppl = math.exp(-total / 3)
    assert results["dense", "target_ppl"]["value"] == pytest.approx(ppl, rel=1e-4)
    assert results["dense", "is_greedy"]["value"] == all_greedy / 3


def test_documents_have_bits_per_byte(run, write, speaker):
    _, tokenizer, network = speaker
    docs = [{"text": "The mill by the stream.  Barley!"}, {"text": "grüner Baum"}]
    _, results, _ = run(write({"type": "perplexity"}, docs))
    nats = 0
    for doc in docs:
        ids = tokenizer.encode(doc["text"]).ids
        nats -= sum(token_scores(network, ids[:-1], ids[1:])[0])
    n_bytes = sum(len(doc["text"].encode()) for doc in docs)
    n_words = sum(len(doc["text"].split()) for doc in docs)
    got = {name: results["dense", name]["value"] for _, name in results}
    assert got["bits_per_byte"] == pytest.approx(nats / (n_bytes * math.log(2)), abs=1e-4)
    assert got["byte_ppl"] == pytest.approx(math.exp(nats / n_bytes), rel=1e-4)
    assert got["word_ppl"] == pytest.approx(math.exp(nats / n_words), rel=1e-3)


@torch.no_grad()
def greedy(network, ids, most):
    made = []
    while len(made) < most:
        made.append(network(torch.tensor([ids + made])).logits[0, -1].argmax().item())
        if made[-1] == 1:
            return made[:-1]
    return made


def asked(doc):
    report = f"Read the report and answer with a few words.\n\n{doc['report']}\n"
    return report + f"\nQuestion: {doc['question']}\n"


@pytest.mark.parametrize("chat", [None, "model", "[INST] {prompt} [/INST]"])
def test_answers_are_those_of_transformers(run, kvlab, speaker, chat):
    folder, tokenizer, network = speaker
    tasks = kvlab.folder / "tasks"
    file = json.loads((tasks / "mini_qa.json").read_text()) | {"chat_template": chat}
    (tasks / "t.json").write_text(json.dumps(file))
    cells, results, summary = run("t.json")
    docs = [json.loads(line) for line in (tasks / "mini_qa.jsonl").read_text().splitlines()]
    if chat == "model":
        template = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    for doc, sample in zip(docs, cells["dense"]["observed"]["samples"], strict=True):
        if chat == "model":
            messages = [{"role": "user", "content": asked(doc)}]
            prompt = template.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            ids = tokenizer.encode(prompt + "Answer:", add_special_tokens=False).ids
            assert ids[0] == 0
        else:
            prompt = asked(doc) if chat is None else chat.replace("{prompt}", asked(doc))
            ids = tokenizer.encode(prompt + "Answer:").ids
        made = greedy(network, ids, 16)
        got = sample["generated"][0]
        assert got == made[: len(got)]
        text = tokenizer.decode(made, skip_special_tokens=False)
        first = len(tokenizer.decode(made[:1], skip_special_tokens=False))
        stop = text.find("\n", first)
        assert len(got) == len(made) or stop >= 0
        text = (text if stop < 0 else text[:stop]).lstrip("\n").split("\n")[0]
        assert sample["texts"] == [text]
        assert sample["references"] == [doc["answers"]]
    assert ("dense", "qa_f1") in results
    assert 'at most 16 tokens, stop ["\\n"]' in summary
    assert f"chat template {'none' if chat is None else ''}" in summary


def test_tokens_need_no_tokenizer(kvlab):
    """The recall model answers every query of a file of its own."""
    context = [0, 3, 20, 5, 17, 4, 30]
    docs = [{"context_ids": context, "query_ids": [5, 3], "labels": [17, 20]}] * 2
    (kvlab.folder / "d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in docs))
    file = {"task": "recall", "type": "tokens", "docs": "d.jsonl"}
    (kvlab.folder / "t.json").write_text(json.dumps(file))
    kvlab("eval", kvlab.config(tasks=[{"task_file": "t.json"}], methods=["quant"]))
    results = read_lines(kvlab.folder / "config" / "results.jsonl")
    accuracies = [one["value"] for one in results if one["metric"] == "acc"]
    assert accuracies == [1, 1]


def test_a_chat_template_that_is_not_there_is_refused(kvlab, run, write, speaker):
    bare = kvlab.folder / "bare"
    shutil.copytree(speaker[0], bare)
    (bare / "tokenizer_config.json").unlink()
    file = {"type": "loglikelihood", "context": "{c}", "continuation": "x"}
    write(file | {"chat_template": "model"}, [{"c": "text"}])
    config = kvlab.config(model={"path": str(bare)}, tasks=[{"task_file": "tasks/t.json"}])
    message = kvlab.refused("E_UNSUPPORTED", 3, "eval", config)
    assert "no chat template lies beside it" in message


def test_the_sandbox_holds(kvlab, run, write, speaker):
    evil = kvlab.folder / "evil"
    shutil.copytree(speaker[0], evil)
    template = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    (evil / "chat_template.jinja").write_text(template)
    file = {"type": "loglikelihood", "context": "{c}", "continuation": "x"}
    write(file | {"chat_template": "model"}, [{"c": "text"}])
    config = kvlab.config(model={"path": str(evil)}, tasks=[{"task_file": "tasks/t.json"}])
    assert "unsafe" in kvlab.refused("E_FORMAT", 3, "eval", config)


REFUSED = {
    "E_TASK_UNKNOWN_KEY": ({"continuatoin": "x"}, {"c": "a", "w": "b"}, "`continuation`"),
    "E_FORMAT": ({}, {"c": "a"}, "d.jsonl, line 1: there is no field `w`"),
    "E_CONTEXT_TOO_LONG": ({}, {"c": "a " * 600, "w": "b"}, "d.jsonl, line 1"),
}


@pytest.mark.parametrize("code", REFUSED)
def test_mistakes_are_one_sentence(kvlab, run, write, speaker, code):
    changes, doc, part = REFUSED[code]
    file = {"type": "loglikelihood", "context": "{c}", "continuation": "{w}"}
    write(file | changes, [doc])
    config = kvlab.config(model={"path": str(speaker[0])}, tasks=[{"task_file": "tasks/t.json"}])
    assert part in kvlab.refused(code, 3, "eval", config)


def test_text_needs_a_tokenizer(kvlab, repository):
    path = repository / "configs" / "tasks" / "mini_mc.json"
    config = kvlab.config(tasks=[{"task_file": str(path)}])
    assert "token task" in kvlab.refused("E_NO_TOKENIZER", 3, "eval", config)
