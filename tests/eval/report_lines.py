"""A run directory written by hand: every line a report can show, a hostile name among them."""

import json
import math
from pathlib import Path

HOSTILE = '</script><img src=x onerror="document.title=1"><a href="https://example.org">{}</a><!--'
BUCKETS = ("d1_8", "d9_32", "d33_128", "d129_512", "d513_2048", "d2049")
LAYERS, HEADS = 6, 4

# method, parameters, cr, how much it harms (0: not at all)
METHODS = [
    ("dense", {}, 1.0, 0.0),
    ("quant", {"bits": 8}, 1.78, 0.002),
    ("quant", {"bits": 4}, 3.2, 0.03),
    ("quant", {"bits": 2}, 5.33, 0.22),
    ("window", {"recent": 256, "sink": 1}, 2.1, 0.11),
    ("window", {"recent": 64, "sink": 1}, 7.9, 0.55),
    ("window+quant", [{"recent": 256, "sink": 1}, {"bits": 4}], 6.7, 0.16),
    (HOSTILE, {"rank": 16}, 4.4, 0.08),
]


def wave(*seeds: float) -> float:
    """Something like noise in -1..1, the same every time."""
    return math.sin(sum((i + 1) * 12.9898 * seed for i, seed in enumerate(seeds)) * 78.233)


class Question:
    """The lines of all methods on one task."""

    def __init__(self, task: str, params: dict, number: int):
        self.task, self.params, self.number = task, params, number
        self.results: list[dict] = []
        self.samples: list[dict] = []

    def run_of(self, place: int) -> str:
        return f"{self.number:04x}{place:012x}"

    def add(self, place: int, metric: str, value: float, unit: str, better: str, **more) -> None:
        method, params, cr, _ = METHODS[place]
        shown = params if isinstance(params, dict) else params[0] | params[1]
        title = f"{method}({','.join(f'{k}={v}' for k, v in shown.items())})" if shown else method
        self.results.append(
            {
                "schema": "kvlab/1",
                "run": self.run_of(place),
                "model": {"builtin": "recall2"},
                "method": method,
                "title": title,
                "params": params,
                "task": self.task,
                "task_params": self.params,
                "protocol": "decode",
                "read_policy": "raw_chunk",
                "prefill_chunk": 512,
                "query_aware": False,
                "dtype": "bfloat16",
                "seed": 7,
                "n": 64,
                "metric": metric,
                "value": value,
                "unit": unit,
                "better": better,
                "cr": cr,
                **more,
            }
        )

    def add_scored(
        self, metric: str, unit: str, better: str, value, *, spread: float, dense: bool = True
    ) -> None:
        """With intervals, and compared with dense."""
        reference = value(0, METHODS[0][3])
        for place, (_, _, _, harm) in enumerate(METHODS):
            at, half = value(place, harm), spread * (0.4 + math.sqrt(harm))
            more = {"ci": [at - half, at + half], "se": half / 2}
            if place > 0 and dense:
                delta = at - reference
                p = max(5e-4, math.exp(-8 * abs(delta) / (spread + abs(delta))))
                more |= {
                    "dense": reference,
                    "delta": delta,
                    "delta_ci": [delta - half, delta + half],
                    "p": p,
                    "p_holm": min(1, 7 * p),
                }
            self.add(place, metric, at, unit, better, **more)

    def add_plain(self, metric: str, unit: str, better: str, value, **more) -> None:
        reference = value(METHODS[0][2], METHODS[0][3])
        for place, (_, _, cr, harm) in enumerate(METHODS):
            at = value(cr, harm)
            against = {} if place == 0 else {"dense": reference, "delta": at - reference}
            self.add(place, metric, at, unit, better, **against, **more)

    def add_everybodys(self) -> None:
        self.add_plain("cr", "ratio", "higher", lambda cr, _: cr)
        self.add_plain("bits_per_element", "bit", "lower", lambda cr, _: 16 / cr)
        self.add_plain("cache_bytes", "byte", "lower", lambda cr, _: round(557056 / cr))
        for metric, unit, better, value in (
            (
                "prefill_tok_s",
                "token/s",
                "higher",
                lambda cr, harm: 40000 / (1 + 0.1 * harm + 0.01 * cr),
            ),
            ("tpot_ms", "ms", "lower", lambda cr, harm: 0.9 + 2.4 / cr + 0.8 * harm),
            (
                "decode_tok_s",
                "token/s",
                "higher",
                lambda cr, harm: 1e3 / (0.9 + 2.4 / cr + 0.8 * harm),
            ),
        ):
            self.add_plain(metric, unit, better, value, timing=True)

    def add_layers(self, metric: str, unit: str, better: str, at, heads: bool) -> None:
        for place, (_, _, _, harm) in enumerate(METHODS):
            if place == 0:
                continue
            grid = [[at(harm, layer, head) for head in range(HEADS)] for layer in range(LAYERS)]
            means = [sum(layer) / HEADS for layer in grid]
            by_layer = grid if heads else means
            self.add(place, metric, sum(means) / LAYERS, unit, better, by_layer=by_layer)

    def add_needles(self) -> None:
        for place, (_, _, _, harm) in enumerate(METHODS):
            for length in (1024, 2048, 4096, 8192):
                for depth in range(0, 101, 20):
                    lost = harm * (1 + length / 4096) * (1.2 - depth / 100)
                    for repetition in range(4):
                        self.samples.append(
                            {
                                "run": self.run_of(place),
                                "n_tokens": length,
                                "score": float(abs(wave(length, depth, repetition)) > lost),
                                "meta": {"depth": depth, "length": length},
                            }
                        )


def questions() -> list[Question]:
    retrieval = Question("mqar", {"pairs": 8}, 1)
    retrieval.add_scored("acc", "fraction", "higher", lambda _, harm: 0.97 - harm, spread=0.06)
    retrieval.add_scored("nll", "nat/token", "lower", lambda _, harm: 0.02 + 9 * harm, spread=0.2)
    retrieval.add_everybodys()
    retrieval.add_needles()
    retrieval.add_layers(
        "needle_retention",
        "fraction",
        "higher",
        lambda harm, layer, head: max(0.0, min(1.0, 1 - harm * (1 + 0.3 * wave(layer, head)))),
        heads=True,
    )

    text = Question("ppl", {"protocol": "decode", "P": 768, "S": 255}, 2)
    text.add_scored("ppl", "ppl", "lower", lambda _, harm: 12.4 + 30 * harm, spread=0.5)
    text.results[0]["best"] = True
    text.add_scored(
        "kl", "nat", "lower", lambda _, harm: 2 * harm * harm, spread=0.004, dense=False
    )
    for i, bucket in enumerate(BUCKETS):
        text.add_scored(
            f"delta_nll_{bucket}",
            "nat/token",
            "neither",
            lambda _, harm, i=i: harm * (0.25 + 0.3 * i),
            spread=0.03,
            dense=False,
        )
    text.add_everybodys()
    text.add_layers(
        "attn_snr_db",
        "dB",
        "higher",
        lambda harm, layer, head: (
            8 - 20 * math.log10(harm + 0.01) - 1.5 * layer + wave(layer, head)
        ),
        heads=False,
    )
    text.add_layers(
        "k_rel_err",
        "fraction",
        "lower",
        lambda harm, layer, head: harm * (0.5 + 0.1 * layer) * (1 + 0.4 * wave(layer, head)),
        heads=True,
    )
    for metric, unit, value in (
        ("bytes_moved", "byte", lambda cr, _: 2.2e6 / cr),
        ("attn_gb_s", "GB/s", lambda cr, _: 36 / cr**0.15),
        ("read_gb_s", "GB/s", lambda *_: 45),
        ("speedup_roofline", "ratio", lambda cr, _: cr),
        ("attn_speedup", "ratio", lambda cr, _: cr**0.85),
    ):
        text.add_plain(metric, unit, "neither", value, timing=True)
    return [retrieval, text]


def write_run(folder: Path) -> Path:
    """results.jsonl, samples.jsonl and record.json."""
    folder.mkdir(parents=True)
    asked = questions()

    def lines(all_lines: list[dict]) -> str:
        return "".join(json.dumps(line) + "\n" for line in all_lines)

    (folder / "results.jsonl").write_text(lines([line for q in asked for line in q.results]))
    (folder / "samples.jsonl").write_text(lines([line for q in asked for line in q.samples]))
    runs = [q.run_of(place) for q in asked for place in range(len(METHODS))]
    record = {
        "name": f"every plot {HOSTILE}",
        "cells": [*runs, "of a cell that is missing"],
        "machine": {"cpu": "a processor"},
        "build": {"version": "0.1.0"},
        "sessions": [{"started": "2026-01-01T00:00:00Z"}],
        "warnings": [f"{runs[4]}: kernel=reference: no fused kernel covers {HOSTILE}"],
    }
    (folder / "record.json").write_text(json.dumps(record))
    return folder
