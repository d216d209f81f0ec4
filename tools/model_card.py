"""Makes a model directory of a finished `kvlab train`, with the card that says what it can do.

    .venv/bin/python3 tools/model_card.py CORPUS MODEL RUN ...

CORPUS is what `kvlab corpus build` wrote, MODEL the folder to make (models/ref-mha), RUN ... the
run directories of `kvlab train`, each begun with the model of the one before.  The words are those
of tools/model_card.template; every number is measured here (configs/train/card.json has the
questions), or read from what training and the corpus wrote.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from array import array
from collections import defaultdict
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 1024  # tokens, of the test perplexity


def kvlab(*arguments):
    """What a command of kvlab prints with --json."""
    command = [ROOT / "run", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def percent(share):
    return f"{100 * share:.0f} %"


def nats_of_test(model, corpus):
    """Nats per token of text-test."""
    tokens = array("H")
    tokens.frombytes((corpus / "text-test.bin").read_bytes())
    if sys.byteorder == "big":
        tokens.byteswap()
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "tokens.json").write_text(json.dumps(tokens.tolist()))
        text = {"ppl": "rolling", "Lw": WINDOW, "tokens": "tokens.json", "fidelity": False}
        config = {
            "schema": "kvlab-config/1",
            "model": {"path": str(model.resolve()), "dtype": "bfloat16"},
            "tasks": [text],
            "methods": ["dense"],
        }
        path = Path(scratch, "config.json")
        path.write_text(json.dumps(config))
        kvlab("eval", path, "--out", Path(scratch, "run"))
        results = read_lines(Path(scratch, "run", "results.jsonl"))
    return math.log(next(line["value"] for line in results if line["metric"].startswith("ppl_")))


def about_text(model, corpus):
    baselines = kvlab("corpus", "baselines", corpus)
    rows = [
        [line["model"], f"{line['nats']:.3f}", f"{line['perplexity']:.1f}"] for line in baselines
    ]
    nats = nats_of_test(model, corpus)
    rows.append(["**this model**", f"**{nats:.3f}**", f"**{math.exp(nats):.1f}**"])
    return {
        "test_tokens": baselines[0]["tokens"],
        "window": WINDOW,
        "text_table": table(["", "nats per token", "perplexity"], rows),
    }


def grid_rows(samples):
    scores = defaultdict(list)
    for sample in samples:
        scores[sample["meta"]["length"], sample["meta"]["depth"]].append(sample["score"])
    depths = sorted({depth for _, depth in scores})
    rows = [
        [length, *(percent(statistics.fmean(scores[length, depth])) for depth in depths)]
        for length in sorted({length for length, _ in scores})
    ]
    return {
        "grid_count": len(next(iter(scores.values()))),
        "grid_table": table(["tokens", *(f"depth {depth} %" for depth in depths)], rows),
    }


def about_recall(model):
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch, "run")
        chosen = ("--set", f"model.path={model.resolve()}", "--out", run)
        kvlab("eval", ROOT / "configs" / "train" / "card.json", *chosen)
        results = read_lines(run / "results.jsonl")
        samples = read_lines(run / "samples.jsonl")
    rows = [
        [
            f"`{line['task']}`",
            line["n"],
            percent(line["value"]),
            " to ".join(map(percent, line["ci"])),
        ]
        for line in results
        if line["task"] != "needle_grid" and line["metric"] in ("string_match_all", "first_int")
    ]
    grid = grid_rows([sample for sample in samples if sample["task"] == "needle_grid"])
    return grid | {"task_table": table(["task", "samples", "answers right", "interval"], rows)}


def about_validation(numbers):
    rows = [
        [name.removeprefix("recall-"), percent(share), percent(numbers[name + "_tokens"])]
        for name, share in numbers.items()
        if name.startswith("recall-") and not name.endswith("_tokens")
    ]
    rows.sort(key=lambda row: int(row[0]))
    heads = ["tokens", "answers right", "tokens of answers right"]
    return {"held_out_table": table(heads, rows)}


def recall_share(stages, steps):
    """Of all tokens, by the shares of each stage."""
    recall = before = 0
    for step in steps:
        stage = next(stage for stage in stages if step["step"] <= stage["until_step"])
        recall += (1 - stage["shares"].get("text", 0)) * (step["tokens"] - before)
        before = step["tokens"]
    return recall / before


def training_row(run):
    config = json.loads((run / "config.json").read_text())
    steps = [line for line in read_lines(run / "log.jsonl") if "loss" in line]
    seconds = sum(step["timing"]["seconds"] for step in steps)
    tokens = steps[-1]["tokens"]
    lengths = [stage["sequence_length"] for stage in config["stages"]]
    peak_share = statistics.median(step["timing"]["peak_share"] for step in steps)
    return [
        f"[{config['name']}](../../configs/train/{config['name']}.json)",
        ", ".join(map(str, dict.fromkeys(lengths))),
        len(steps),
        f"{tokens / 1e6:.1f} M",
        percent(recall_share(config["stages"], steps)),
        f"{tokens / seconds:.0f} ({percent(peak_share)})",
        f"{seconds / 60:.0f}",
    ]


def about_training(runs):
    heads = [
        "recipe",
        "sequences of",
        "steps",
        "tokens",
        "of recall documents",
        "tokens/s",
        "minutes",
    ]
    names = [json.loads((run / "config.json").read_text())["name"] for run in runs]
    return {
        "training_table": table(heads, map(training_row, runs)),
        "curves": "\n".join(
            f"![loss and recall over tokens: {name}]({name}.svg)" for name in names
        ),
        "commands": "\n".join(f"./run train configs/train/{name}.json" for name in names),
    }


def about_data(facts):
    names = [
        name
        for name in sorted(facts["files"])
        if name == "tokenizer.json" or name.startswith(("text-", "recall-"))
    ]
    rows = [
        [f"`{name}`", facts["files"][name]["bytes"], f"`{facts['files'][name]['sha256']}`"]
        for name in names
    ]
    return {
        "packages": len(facts["packages"]),
        "licences": ", ".join(sorted({package["licence"] for package in facts["packages"]})),
        "data_table": table(["file", "bytes", "SHA-256"], rows),
    }


def parameter_count(path):
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return sum(math.prod(tensor["shape"]) for tensor in header.values())


def about_shape(config, parameters):
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    attention = f"{heads} heads of {config['head_dim']}"
    if kv_heads < heads:
        attention += f" over {kv_heads} kv heads"
    return {
        "kind": "multi-head" if heads == kv_heads else "grouped-query",
        "parameters": f"{parameters / 1e6:.1f}",
        "layers": config["num_hidden_layers"],
        "width": config["hidden_size"],
        "attention": attention,
        "biases": "QKV biases" if config["model_type"] == "qwen2" else "no biases",
        "theta": f"{config['rope_theta']:.0f}",
        "positions": config["max_position_embeddings"],
        "vocabulary": config["vocab_size"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    for folder in ("corpus", "model"):
        parser.add_argument(folder, type=Path)
    parser.add_argument("runs", nargs="+", type=Path, metavar="run")
    parser.add_argument("--device", required=True, help="what it was trained on, in words")
    given = parser.parse_args()
    first, last = given.runs[0], given.runs[-1]
    config = json.loads((first / "config.json").read_text())
    given.model.mkdir(parents=True, exist_ok=True)
    for file in (last / "model").iterdir():
        shutil.copyfile(file, given.model / file.name)
    for run in given.runs:
        name = json.loads((run / "config.json").read_text())["name"]
        shutil.copyfile(run / "curve.svg", given.model / f"{name}.svg")
    log = read_lines(last / "log.jsonl")
    known = {
        "name": config["name"],
        "device": given.device,
        **about_shape(config["model"], parameter_count(given.model / "model.safetensors")),
        **about_text(given.model, given.corpus),
        **about_recall(given.model),
        **about_validation([line["validation"] for line in log if "validation" in line][-1]),
        **about_training(given.runs),
        **about_data(json.loads((given.corpus / "corpus.json").read_text())),
    }
    words = Template(Path(__file__).with_suffix(".template").read_text())
    (given.model / "README.md").write_text(words.substitute(known))


if __name__ == "__main__":
    main()
