"""The package and the command are two faces of one build."""

import importlib.metadata
import subprocess

import kvlab


def test_the_command_and_the_package_are_of_the_same_build(kvlab_command):
    printed = subprocess.run(
        [kvlab_command, "--version"], capture_output=True, text=True, check=True
    )
    version = kvlab.version()
    assert printed.stdout.splitlines()[:2] == [
        f"kvlab {version['number']}",
        f"commit {version['commit']}",
    ]


def test_it_runs_with_the_torch_it_was_built_against():
    assert kvlab.version()["torch"] == importlib.metadata.version("torch")
