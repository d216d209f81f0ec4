#!/usr/bin/env python3
"""Checks of the whole tree that no compiler makes; run by CI, each with a test that it fires.

    tools/check_tree.py [--build build/release]

Looks at the files git knows or would add.  Prints `path:line: what is wrong` and exits 1 when there
is anything to print.  Every function of CHECKS is one rule; its first line says which.
"""

import argparse
import io
import json
import posixpath
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

ROOTS = ("core", "kernels", "methods", "eval", "bindings", "configs", "tests", "tools", "cmake")
CPP = (".h", ".cc", ".cu", ".cuh")
CODE = (*CPP, ".py", ".cmake", ".sh")
MAX_LINES = 800


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass
class Tree:
    """The files of a checkout, relative to its root, and what a build of it compiles."""

    root: Path
    files: list[str]
    compiled: set[str] | None = (
        None  # sources in compile_commands.json; None: no build is looked at
    )
    texts: dict[str, str] = field(default_factory=dict)

    def text(self, path: str) -> str:
        if path not in self.texts:
            data = (self.root / path).read_bytes()
            self.texts[path] = "" if b"\0" in data else data.decode("utf-8", "replace")
        return self.texts[path]

    def lines(self, path: str) -> Iterator[tuple[int, str]]:
        return enumerate(self.text(path).splitlines(), 1)

    def of(self, *suffixes: str) -> list[str]:
        return [f for f in self.files if f.endswith(suffixes)]

    @cached_property
    def known(self) -> set[str]:
        """Files and their folders."""
        folders = {str(p) for f in self.files for p in PurePosixPath(f).parents}
        return {*self.files, *folders}

    @cached_property
    def generated(self) -> set[str]:
        """What the build writes, as `#include`d or as comments call it."""
        written = re.compile(r"generated_dir\}/([\w./]+)")
        cmake = [f for f in self.files if f.endswith((".cmake", "CMakeLists.txt"))]
        return {name for f in cmake for name in written.findall(self.text(f))}

    def has(self, path: str, beside: str) -> bool:
        """`path` names something here: from the root, from the folder of `beside`, or generated."""
        path = path.rstrip("/")
        folder = PurePosixPath(beside).parent
        candidates = {path, posixpath.normpath(folder / path)}
        if "*" in path:
            return any(PurePosixPath(f).match(c) for f in self.known for c in candidates)
        return bool(candidates & (self.known | self.generated))


# --- what documents and comments name ---

# a folder of this repository and what follows; not a part of a longer path
PATH = re.compile(rf"(?<![\w./<>}}$-])(?:{'|'.join(ROOTS)}|\.ci)/[\w./*-]*[\w/*]")
FILE = re.compile(r"`([\w-]+\.(?:h|cc|cu|cuh))`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
PLACEHOLDER = re.compile(r"^[<{$]")


def comments(tree: Tree, path: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that are prose: all of a document, comments and docstrings of code."""
    if path.endswith(".md"):
        yield from tree.lines(path)
        return
    if path.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(tree.text(path)).readline):
            if token.type == tokenize.COMMENT or token.string.startswith('"""'):
                yield from enumerate(token.string.splitlines(), token.start[0])
        return
    mark = "//" if path.endswith(CPP) else "#"
    for number, line in tree.lines(path):
        code, found, comment = line.partition(mark)
        if found and code.count('"') % 2 == 0:
            yield number, comment


def named_paths_exist(tree: Tree) -> Iterator[Finding]:
    """Every path of this repository that a document or a comment names exists."""
    names = {PurePosixPath(f).name for f in tree.files} | {
        PurePosixPath(f).name for f in tree.generated
    }
    for path in tree.of(".md", ".cmake", "CMakeLists.txt", *CODE):
        for number, line in comments(tree, path):
            for match in PATH.finditer(line):
                if PLACEHOLDER.match(line[match.end() : match.end() + 1]):
                    continue  # methods/<name>
                if not tree.has(match.group(), path):
                    yield Finding(path, number, f"there is no {match.group()}")
            if not path.endswith(".md"):
                continue
            for name in FILE.findall(line):
                if name not in names:
                    yield Finding(path, number, f"no file is called {name}")
            for link in LINK.findall(line):
                if not tree.has(link, path):
                    yield Finding(path, number, f"the link to {link} leads nowhere")


# --- what is built ---


def sources_belong_to_targets(tree: Tree) -> Iterator[Finding]:
    """Every C++ and CUDA source is compiled, every Python test is collected."""
    for path in tree.of(".cc", ".cu"):
        if path.startswith("tests/fuzz/"):  # compiled by clang, in a preset of its own
            beside = f"{PurePosixPath(path).parent}/CMakeLists.txt"
            listed = beside in tree.files and PurePosixPath(path).name in tree.text(beside)
            if not listed:
                yield Finding(path, 1, f"is not named in {beside}")
        elif tree.compiled is not None and path not in tree.compiled:
            yield Finding(path, 1, "belongs to no target of the build")
    for path in tree.of(".py"):
        name = PurePosixPath(path).name
        collected = path.startswith("tests/") and name.startswith("test_")
        for number, line in tree.lines(path):
            if not collected and re.match(r"def test_\w+\(|class Test[A-Z]\w*[:(]", line):
                yield Finding(path, number, "pytest collects tests/**/test_*.py only")


# --- what is included ---

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def includes(tree: Tree, path: str) -> list[tuple[int, str]]:
    found = ((number, INCLUDE.match(line)) for number, line in tree.lines(path))
    return [(number, match.group(2)) for number, match in found if match]


def oracles_share_nothing(tree: Tree) -> Iterator[Finding]:
    """An oracle includes no header of the code under test, however far down."""
    reached: dict[str, str | None] = {}  # a header -> the header of kernels or methods it leads to

    def leads_to(header: str) -> str | None:
        if header.startswith(("kernels/", "methods/")):
            return header
        if header not in reached:
            reached[header] = None  # cuts a circle
            below = includes(tree, header) if header in tree.files else []
            reached[header] = next((end for _, h in below if (end := leads_to(h))), None)
        return reached[header]

    for path in tree.of(*CPP):
        if not (path.startswith("tests/") and "oracle" in path):
            continue
        if path.endswith("_test.cc"):  # the test that compares both
            continue
        for number, header in includes(tree, path):
            if end := leads_to(header):
                via = "" if end == header else f" (through {header})"
                yield Finding(path, number, f"an oracle must not know {end}{via}")


HOLD_TENSORS = (
    "core/torch.h",
    "eval/autograd/",
    "eval/models/torch_parts.h",
    "eval/train/",
    "methods/slim/",
    "tests/eval/autograd/",
)


def headers_are_free_of_libtorch(tree: Tree) -> Iterator[Finding]:
    """LibTorch costs 5 to 18 s per file: no header but core/torch.h and those whose subject its
    tensors are (training, the maps of slim), and nobody takes all of it."""
    for path in tree.of(*CPP):
        for number, header in includes(tree, path):
            if header == "ATen/ATen.h":
                yield Finding(path, number, "include ATen/ops/<name>.h instead of all operators")
            elif (
                path.endswith((".h", ".cuh"))
                and not path.startswith(HOLD_TENSORS)
                and header.startswith(("torch/", "ATen/", "c10/"))
            ):
                yield Finding(
                    path, number, f"{header} belongs into a .cc; core/torch.h is the border"
                )


# --- what is written ---

MACHINE = re.compile(
    r"""(?:^|[\s"'`=:(\[,>])(/(?:home|root|Users|work|mnt)/[\w.-]+|/tmp/[a-z]\w*)"""
)
REGISTRY = re.compile(
    r"(?:pypi|pythonhosted|anaconda|(?:deb|snapshot)[.]debian|download[.]pytorch)[.]org"
    r"|[\w-]+[.]pkg[.]dev|(?:--|^|\s)(?:extra-)?index-url\b"
)
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


def nothing_of_one_machine(tree: Tree) -> Iterator[Finding]:
    """No path of somebody's machine and no package registry is committed."""
    for path in tree.files:
        for number, line in tree.lines(path):
            if match := MACHINE.search(line):
                yield Finding(path, number, f"{match.group(1)} means nothing to a user")
            if match := REGISTRY.search(line):
                yield Finding(
                    path, number, f"{match.group().strip()}: which registry is pip's setting"
                )


def files_are_short(tree: Tree) -> Iterator[Finding]:
    """A source of more than 800 lines is two subjects."""
    for path in tree.of(*CODE):
        count = sum(1 for _ in tree.lines(path))
        if count > MAX_LINES:
            yield Finding(path, count, f"{count} lines; more than {MAX_LINES} are two subjects")


def nothing_is_left_for_later(tree: Tree) -> Iterator[Finding]:
    """What is to be done stands in an issue, not in a comment."""
    for path in tree.of("CMakeLists.txt", *CODE):
        for number, line in tree.lines(path):
            if match := UNFINISHED.search(line):
                yield Finding(path, number, f"{match.group()}: finish it or open an issue")


TYPE = re.compile(r"(?:struct|class|enum class) (\w+)(?: final)?(?: : [^:].*)? \{")
NAMESPACE = re.compile(r"namespace (?:([\w:]+) )?\{")


def named_types(tree: Tree, path: str) -> Iterator[tuple[int, str]]:
    """The types that namespaces of a file define, by their full names; none of anonymous ones."""
    namespaces: list[str | None] = []
    for number, line in tree.lines(path):
        if match := NAMESPACE.match(line):
            namespaces.append(match.group(1))
        elif line.startswith("}  // namespace") and namespaces:
            namespaces.pop()
        elif (match := TYPE.match(line)) and None not in namespaces:
            yield number, "::".join([*filter(None, namespaces), match.group(1)])


def types_have_one_definition(tree: Tree) -> Iterator[Finding]:
    """Two types of one name in one library: a linker takes either's functions for both."""
    first: dict[str, str] = {}
    for path in tree.of(*CPP):
        if path.startswith("tests/"):
            continue  # programs of their own
        for number, name in named_types(tree, path):
            if (other := first.setdefault(name, path)) != path:
                yield Finding(path, number, f"{other} has another {name}")


FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def readme_commands_run_in_ci(tree: Tree) -> Iterator[Finding]:
    """Every command of the README that names no file of the reader's stands in .ci/run."""
    if "README.md" not in tree.files:
        return
    text = tree.text("README.md")
    ci = tree.text(".ci/run") if ".ci/run" in tree.files else ""
    for block in FENCE.finditer(text):
        first = text.count("\n", 0, block.start(1)) + 1
        for number, line in enumerate(block.group(1).splitlines(), first):
            command = line.split(" #")[0].strip()
            if not command or command.startswith("#") or re.search(r"\b[A-Z]{3,}\b", command):
                continue
            if command not in ci:
                yield Finding("README.md", number, f"CI does not run `{command}`")


CHECKS = (
    named_paths_exist,
    sources_belong_to_targets,
    oracles_share_nothing,
    headers_are_free_of_libtorch,
    nothing_of_one_machine,
    files_are_short,
    nothing_is_left_for_later,
    readme_commands_run_in_ci,
    types_have_one_definition,
)


def tracked_files(root: Path) -> list[str]:
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted(f for f in set(listed.stdout.split("\0")) if f and (root / f).is_file())


def compiled_sources(root: Path, build: Path) -> set[str]:
    commands = json.loads((build / "compile_commands.json").read_text())
    sources = ((Path(c["directory"]) / c["file"]).resolve() for c in commands)
    return {str(s.relative_to(root)) for s in sources if s.is_relative_to(root)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, help="a configured build, to compare its targets")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    compiled = compiled_sources(root, arguments.build) if arguments.build else None
    tree = Tree(root, tracked_files(root), compiled)
    findings = [finding for check in CHECKS for finding in check(tree)]
    print(*findings, sep="\n", end="\n" if findings else "")
    print(
        f"check_tree: {len(findings)} findings of {len(CHECKS)} checks in {len(tree.files)} files"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
