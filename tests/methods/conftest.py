"""tests/methods/<name> belongs to methods/<name> and goes with it."""

from pathlib import Path

methods = Path(__file__).resolve().parents[2] / "methods"
collect_ignore = [
    folder.name
    for folder in Path(__file__).parent.iterdir()
    if folder.is_dir() and not (methods / folder.name).is_dir()
]
