"""Experiments: what `kvlab eval` does."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from kvlab import _kvlab


def evaluate(
    config: Mapping[str, Any] | str | PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    run_directory: str | PathLike[str] | None = None,
    threads: int = 0,
    allow_vacuous: bool = False,
    allow_mixed: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Runs every method of an experiment on every task, dense first.

    config: the experiment (eval/README.md has its keys), or the path of its file; files it names
        are looked up from the folder of that file, else from the working folder.
    overrides: values to replace, {"tasks.0.samples": 8}.
    run_directory: where record.json, results.jsonl, samples.jsonl, summary.md, report.html and
        finished cells are kept, and where a run goes on that was stopped; None: nothing is written.
    threads: 0 for as many as help.
    allow_vacuous, allow_mixed: as the options of `kvlab eval`.
    progress: called with tokens fed, tokens in all, and what is running.

    Returns the lines of results.jsonl: one dict per cell and metric, with "metric", "value",
    "ci", "delta", "cr", ...; lines with "timing" true differ from run to run.
    Samples that met a NaN are in no mean and warned of.  Ctrl-C and whatever `progress` raises stop
    between two samples.  Refusals come before a weight is read: kvlab.Error.

    >>> records = evaluate(
    ...     {
    ...         "schema": "kvlab-config/1",
    ...         "name": "try",
    ...         "model": {"builtin": "recall2"},
    ...         "tasks": [{"builtin": "mqar", "pairs": 4, "context": 64, "samples": 2}],
    ...         "methods": ["dense"],
    ...     }
    ... )
    >>> [record["value"] for record in records if record["metric"] == "acc"]
    [1.0]
    """
    assignments = [f"{key}={json.dumps(value)}" for key, value in (overrides or {}).items()]
    records, nan_samples = _kvlab.evaluate(
        dict(config) if isinstance(config, Mapping) else Path(config),
        assignments,
        None if run_directory is None else Path(run_directory),
        threads,
        allow_vacuous,
        allow_mixed,
        progress,
        _warn,
    )
    if nan_samples:
        _warn(f"evaluate: {nan_samples} samples met logits that are not finite and are in no mean")
    return records


def samples(
    task: Mapping[str, Any] | str,
    *,
    model: Mapping[str, Any] | str | PathLike[str],
    seed: int = 0,
    count: int = 0,
) -> list[dict[str, Any]]:
    """What a task asks, as `kvlab samples` prints it; no model runs.

    task: its name, or {"builtin": NAME, ...} with parameters; files it names are looked up from the
        working folder.
    model: a directory, whose tokenizer and vocabulary are used, the name of a built-in model, or
        the value that a config has.
    seed: of the data.
    count: only the first so many; 0: all.

    Returns a dict per sample.  Of text: "id", "task", "seed", "context", "query", "answer_prefix",
    "answers", "match", "max_new_tokens", "meta" ("n_tokens", "depth", "needle_spans"); of tokens
    "context_ids", "query_ids", "labels" (-1: not scored) instead of the words; several turns stand
    in a list, "turns".  Raises kvlab.Error: E_NO_TOKENIZER, E_HAYSTACK_TOO_SHORT, ...

    >>> samples("copy", model="recall2", count=1)[0]["id"]
    'copy-0'
    """
    if isinstance(model, Mapping):
        spec = dict(model)
    else:
        name = str(model)
        spec = {"path" if "/" in name or Path(name).exists() else "builtin": name}
    given = {"builtin": task} if isinstance(task, str) else dict(task)
    return _kvlab.samples(given, spec, seed, count)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=3)
