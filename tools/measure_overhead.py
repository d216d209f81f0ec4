#!/usr/bin/env python3
"""What the harness itself costs in a perplexity run by the protocol `decode`.

A random Llama of 9 million parameters reads random tokens: 768 in a prefill, then 255 one by one,
two windows a method.  Of the time a cell takes, the passes through model and cache are its own
clock's (prefill_s and decode_s of cells/<id>.json: rows, codecs and attention included); the rest
is the harness: samples, scores, byte counts.  Planning, loading and reports are listed apart, and
so are cells with "fidelity", which feed everything once more beside a dense cache.

    tools/measure_overhead.py [--threads N]       one JSON line a method and dtype; half a minute
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

VOCAB, PREFIX, SCORED, WINDOWS = 4096, 768, 255, 2
METHODS = [
    "dense",
    {"name": "quant", "params": {"bits": 4}},
    {"name": "window", "params": {"recent": 256}},
]


def write_model(folder: Path) -> int:
    """Parameters of the model that lies in `folder` afterwards."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=4,
        max_position_embeddings=PREFIX + SCORED + 1,
        initializer_range=0.05,
    )
    model = transformers.LlamaForCausalLM(config).to(torch.float32)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def experiment(dtype: str, fidelity: bool) -> dict:
    task = {"ppl": "decode", "tokens": "tokens.json", "P": PREFIX, "S": SCORED}
    task["fidelity"] = fidelity
    return {
        "schema": "kvlab-config/1",
        "name": "overhead",
        "output": f"run-{dtype}-{fidelity}",
        "model": {"path": "model", "dtype": dtype},
        "tasks": [task],
        "methods": METHODS,
    }


def measured(run: Path, dtype: str, fidelity: bool) -> list[dict]:
    record = json.loads((run / "record.json").read_text())
    cells = [json.loads((run / "cells" / f"{id}.json").read_text()) for id in record["cells"]]
    in_cells = sum(cell["provenance"]["seconds"] for cell in cells)
    lines = []
    for cell in cells:
        whole = cell["provenance"]["seconds"]
        passes = sum(
            sample["prefill_s"] + sample["decode_s"] for sample in cell["timing"]["samples"]
        )
        line = {
            "method": cell["title"],
            "dtype": dtype,
            "fidelity": fidelity,
            "threads": cell["provenance"]["threads"],
            "cell_s": whole,
            "passes_s": passes,
            "outside_cells_s": record["sessions"][-1]["seconds"] - in_cells,
        }
        # Passes that no clock of the cell holds: dense is also fed in one, for the noise floor.
        if not fidelity and not cell["observed"]["samples"][0].get("one_pass_nll"):
            line["overhead"] = (whole - passes) / whole
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    kvlab = os.environ.get("KVLAB") or Path(sys.executable).parent / "kvlab"
    chance = random.Random(7)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parameters = write_model(folder / "model")
        tokens = [chance.randrange(VOCAB) for _ in range(WINDOWS * (PREFIX + SCORED + 1))]
        (folder / "tokens.json").write_text(json.dumps(tokens))
        for dtype, fidelity in (("float32", False), ("bfloat16", False), ("float32", True)):
            config = folder / "config.json"
            config.write_text(json.dumps(experiment(dtype, fidelity)))
            command = [kvlab, "eval", config, "--threads", str(threads)]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
            for line in measured(folder / f"run-{dtype}-{fidelity}", dtype, fidelity):
                print(json.dumps({"parameters": parameters, **line}), flush=True)


if __name__ == "__main__":
    main()
