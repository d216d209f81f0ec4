"""The `kvlab` command as tests of eval/ call it."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Command:
    """kvlab(...) runs the command and returns what it said."""

    def __init__(self, path: Path, folder: Path):
        self.path = path
        self.folder = folder

    def __call__(self, *arguments, expect: int = 0, **options) -> Result:
        done = subprocess.run(
            [self.path, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=options.pop("cwd", self.folder),
            timeout=300,
            check=False,
            **options,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        assert result.code == expect, f"{arguments}: {result}"
        return result

    def refused(self, code: str, status: int, *arguments, **options) -> str:
        """The sentence of an error: one line on stderr, nothing on stdout."""
        result = self(*arguments, expect=status, **options)
        lines = result.err.splitlines()
        assert result.out == ""
        assert len(lines) == 1
        assert lines[0].startswith(f"kvlab: {code}: "), lines[0]
        return lines[0]

    def config(self, name: str = "config.json", **changes) -> Path:
        """A config in this test's folder: the recall model on a few MQAR samples, and changes."""
        config = {
            "schema": "kvlab-config/1",
            "seed": 7,
            "output": name.removesuffix(".json"),
            "model": {"builtin": "recall2"},
            "tasks": [{"builtin": "mqar", "pairs": 8, "context": 128, "samples": 2}],
        } | changes
        path = self.folder / name
        path.write_text(json.dumps(config))
        return path


VOCAB, CONTEXT = 128, 96  # of the small model


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
