"""What ./run does when, shown with programs that only write down how they were called."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

# python3: makes an environment, is new enough, has all modules, and runs scripts with arguments.
PYTHON = """#!/bin/bash
echo "python3 $*" >>"$CALLS"
case "$*" in
  '-m venv'*)
    mkdir -p "$3/bin" "$3/lib/python3.11/site-packages"
    for tool in python3 cmake ninja ctest; do cp "$TOOLS/$tool" "$3/bin/"; done ;;
  '-m pip'*)
    [[ -e $BREAK_PIP && $* == *$(<"$BREAK_PIP") ]] || exit 0
    echo 'ERROR: connection broken'; exit 1 ;;
  '-m pytest'*) echo '1 passed in 0.01s'; exit "${PYTEST_CODE-0}" ;;
  -c*) exit 0 ;;
  '- '*) exec /usr/bin/python3 "$@" ;;
  -) cat >/dev/null ;;
esac
"""
CMAKE = """#!/bin/bash
echo "cmake $*" >>"$CALLS"
mkdir -p build/release && touch build/release/build.ninja
"""
NINJA = """#!/bin/bash
echo "ninja $*" >>"$CALLS"
echo "ninja: Entering directory"
[[ ! -e $SLOW ]] || sleep 1
[[ ! -e $BREAK_BUILD ]] || { echo '[1/2] Building'; echo 'x.cc:1: error: no'; exit 1; }
[[ -e $2/kvlab ]] || { echo '[1/1] Linking'; cp "$TOOLS/kvlab" "$2/kvlab"; }
"""
KVLAB = """#!/bin/bash
echo "kvlab $* in $PWD" >>"$CALLS"
sleep "${KVLAB_SLEEPS-0}"
echo out
exit "${KVLAB_CODE-0}"
"""
CTEST = """#!/bin/bash
echo "ctest $*" >>"$CALLS"
echo '100% tests passed out of 1'
exit "${CTEST_CODE-0}"
"""
APT = """#!/bin/bash
echo "apt-get $*" >>"$CALLS"
touch "$PROVIDES"
"""


class Checkout:
    def __init__(self, folder: Path, repository: Path):
        self.root, self.tools = folder / "checkout", folder / "tools"
        self.calls_file = folder / "calls"
        names = ["break_pip", "break_build", "slow", "present.h"]
        self.break_pip, self.break_build, self.slow, self.header = (folder / n for n in names)
        self.header.touch()
        self.tools.mkdir()
        programs = {"python3": PYTHON, "cmake": CMAKE, "ninja": NINJA, "ctest": CTEST}
        for name, text in {**programs, "kvlab": KVLAB, "apt-get": APT}.items():
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        requirements = self.root / "tools" / "requirements"
        requirements.mkdir(parents=True)
        for name in ("pip", "run", "test", "lint"):
            (requirements / f"{name}.txt").write_text(f"{name}==1\n")
        (self.root / "tools/debian-packages.txt").write_text(
            f"# a comment\n{self.header} needed-dev\n"
        )
        (self.root / "CMakePresets.json").write_text("{}")
        shutil.copy(repository / "run", self.root)

    def start(self, *arguments, cwd=None, **settings):
        environment = {
            "PATH": f"{self.tools}:{os.defpath}",
            "CALLS": self.calls_file,
            "TOOLS": self.tools,
            "BREAK_PIP": self.break_pip,
            "BREAK_BUILD": self.break_build,
            "SLOW": self.slow,
            "PROVIDES": self.header,
            **settings,
        }
        return subprocess.Popen(
            [self.root / "run", *arguments],
            cwd=cwd or self.root,
            env={k: str(v) for k, v in environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments, **settings):
        process = self.start(*arguments, **settings)
        process.out, process.err = process.communicate(timeout=60)
        return process

    def calls(self) -> list[str]:
        """How programs were called since the last time, first words only."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return [line.replace(f"{self.root}/", "") for line in lines]


@pytest.fixture
def checkout(tmp_path, repository):
    return Checkout(tmp_path, repository)


def installs(calls):
    """What pip was asked to install: "run.batch0" are the first of run.txt."""
    return [c.split(".kvlab/")[1] for c in calls if " -m pip " in c]


def test_the_first_call_sets_up_and_passes_its_arguments_on(checkout):
    first = checkout.run("eval", "a b.json", "--json")
    calls = checkout.calls()
    assert (first.returncode, first.out) == (0, "out\n")  # all else goes to stderr
    assert installs(calls) == ["pip.batch0", "run.batch0"]
    assert calls[-2:] == [
        "ninja -C build/release kvlab_product",
        f"kvlab eval a b.json --json in {checkout.root}",
    ]
    assert (checkout.root / ".venv/bin/kvlab").resolve() == checkout.root / "build/release/kvlab"
    package = checkout.root / ".venv/lib/python3.11/site-packages/kvlab.pth"
    assert package.read_text() == f"{checkout.root}/build/release/python\n"


def test_a_later_call_is_quiet_and_only_asks_ninja(checkout):
    checkout.run("info")
    checkout.calls()
    later = checkout.run("info")
    assert later.err == ""
    assert [c.split()[0] for c in checkout.calls()] == ["ninja", "kvlab"]


def test_it_works_from_anywhere_and_leaves_the_caller_where_they_are(checkout, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    checkout.run("info", cwd=elsewhere)
    assert checkout.calls()[-1] == f"kvlab info in {elsewhere}"


def test_the_commands_exit_code_is_its_own(checkout):
    assert checkout.run("info", KVLAB_CODE=7).returncode == 7


def test_a_broken_download_is_tried_again_by_the_next_call(checkout):
    checkout.break_pip.touch()
    broken = checkout.run("info")
    assert broken.returncode == 91
    assert "connection broken" in broken.err
    checkout.break_pip.unlink()
    checkout.calls()
    assert checkout.run("info").returncode == 0
    assert installs(checkout.calls()) == ["pip.batch0", "run.batch0"]


def test_a_broken_build_shows_the_compilers_words_and_runs_nothing(checkout):
    checkout.break_build.touch()
    broken = checkout.run("info")
    assert broken.returncode == 92
    assert "x.cc:1: error: no" in broken.err
    assert not any(c.startswith("kvlab") for c in checkout.calls())


def test_a_path_with_a_space_is_refused_before_anything_is_done(checkout):
    checkout.root = checkout.root.rename(checkout.root.with_name("a folder"))
    refused = checkout.run("info")
    assert refused.returncode == 92
    assert "no path with a space" in refused.err
    assert checkout.calls() == []


def test_changed_pins_are_installed_and_changed_presets_configured(checkout):
    checkout.run("info")
    checkout.calls()
    (checkout.root / "tools/requirements/run.txt").write_text("run==2\n")
    (checkout.root / "CMakePresets.json").write_text("{ }")
    checkout.run("info")
    calls = checkout.calls()
    assert installs(calls) == ["run.batch0"]
    assert "cmake --preset release" in calls


def test_many_packages_are_installed_in_batches_that_stay(checkout):
    pins = "".join(f"p{i}==1 \\\n    --hash=sha256:0\n" for i in range(13))
    (checkout.root / "tools/requirements/run.txt").write_text(f"# comment\n{pins}")
    checkout.break_pip.write_text("run.batch2")
    assert checkout.run("info").returncode == 91
    first, second, third = ("run.batch0", "run.batch1", "run.batch2")
    assert installs(checkout.calls()) == ["pip.batch0", first, second, third]
    last = (checkout.root / ".venv/.kvlab" / third).read_text()
    assert last == "p12==1 \\\n    --hash=sha256:0\n"


def test_a_package_that_was_interrupted_half_way_is_installed_again(checkout):
    checkout.run("info")
    (checkout.root / ".venv/.kvlab/run.txt").unlink()
    site = checkout.root / ".venv/lib/python3.11/site-packages"
    for package, files in {"half": ["METADATA"], "whole": ["METADATA", "RECORD"]}.items():
        (site / f"{package}-1.dist-info").mkdir()
        for file in files:
            (site / f"{package}-1.dist-info" / file).touch()
    checkout.run("info")
    assert [p.name for p in site.glob("*.dist-info")] == ["whole-1.dist-info"]


def test_an_interrupted_setup_starts_over(checkout):
    checkout.run("info")
    (checkout.root / ".venv/.kvlab/place").unlink()  # written last
    checkout.calls()
    assert checkout.run("info").returncode == 0
    assert any(c.startswith("python3 -m venv") for c in checkout.calls())


def test_a_moved_checkout_keeps_its_packages(checkout):
    checkout.run("info")
    script = checkout.root / ".venv/bin/script"
    script.write_text(f"#!{checkout.root}/.venv/bin/python3\n")
    checkout.calls()
    moved = checkout.root.with_name("moved")
    checkout.root.rename(moved)
    checkout.root = moved
    assert "has moved" in checkout.run("info").err
    calls = checkout.calls()
    assert installs(calls) == []
    assert "cmake --preset release" in calls
    assert (moved / ".venv/bin/script").read_text() == f"#!{moved}/.venv/bin/python3\n"
    assert checkout.run("info").err == ""


def test_an_environment_of_the_users_own_is_used_as_it_is(checkout):
    own = checkout.root / ".venv"
    subprocess.run(
        [checkout.tools / "python3", "-m", "venv", own],
        check=True,
        env={"CALLS": str(checkout.calls_file), "TOOLS": str(checkout.tools), "PATH": os.defpath},
    )
    (own / "mine").touch()
    checkout.calls()
    assert checkout.run("info").returncode == 0
    assert (own / "mine").exists()
    assert not any(c.startswith("python3 -m venv") for c in checkout.calls())


def test_two_at_once_wait_for_each_other(checkout):
    checkout.run("info")
    checkout.slow.touch()
    first = checkout.start("info")
    time.sleep(0.4)
    second = checkout.run("info")
    first.communicate()
    assert first.returncode == second.returncode == 0
    assert "another ./run is at work" in second.err


def test_a_command_that_runs_long_keeps_nobody_waiting(checkout):
    checkout.run("info")
    checkout.calls()
    first = checkout.start("eval", KVLAB_SLEEPS=2)
    time.sleep(0.5)
    second = checkout.run("info")
    assert first.poll() is None
    assert (second.returncode, second.err) == (0, "")
    first.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="apt-get is called without sudo by root alone")
def test_root_installs_the_debian_packages_that_are_missing(checkout):
    checkout.header.unlink()
    assert checkout.run("info").returncode == 0
    assert [c for c in checkout.calls() if c.startswith("apt-get")] == [
        "apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends needed-dev"
    ]


def test_who_may_not_install_is_told_the_one_line(repository):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        checkout = Checkout(Path(folder), repository)
        checkout.header.unlink()
        (checkout.root / "build").mkdir()
        (checkout.root / "build").chmod(0o777)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        refused = subprocess.run(
            [*(nobody if os.geteuid() == 0 else []), checkout.root / "run", "info"],
            env={"PATH": f"{checkout.tools}:{os.defpath}", "CALLS": os.devnull},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert refused.returncode == 90
    assert "apt-get install -y needed-dev" in refused.stderr


def test_tests_run_both_runners_and_return_the_worse_code(checkout):
    assert checkout.run("test").returncode == 0
    calls = checkout.calls()
    assert installs(calls) == ["pip.batch0", "run.batch0", "test.batch0"]
    assert "ninja -C build/release all" in calls
    assert checkout.run("test", CTEST_CODE=8).returncode == 8
    both = checkout.run("test", PYTEST_CODE=1)
    assert both.returncode == 1
    assert "100% tests passed" in both.out
    assert "1 passed" in both.out


def test_a_filter_reaches_both_runners_and_may_match_one_alone(checkout):
    filtered = checkout.run("test", "RowDot", PYTEST_CODE=5)
    assert filtered.returncode == 0
    calls = checkout.calls()
    assert any(c.endswith("--tests-regex RowDot") for c in calls)
    assert any(c.endswith("-m pytest -k RowDot") for c in calls)


def test_help_needs_nothing(checkout):
    told = checkout.run("--help")
    assert told.returncode == 0
    assert "./run eval configs/quickstart.json" in told.out
    assert checkout.calls() == []
