"""Each rule of tools/check_tree.py fires on what it forbids, and only there."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location(
    "check_tree", Path(__file__).resolve().parents[2] / "tools" / "check_tree.py"
)
check_tree = importlib.util.module_from_spec(spec)
sys.modules["check_tree"] = check_tree
spec.loader.exec_module(check_tree)


@pytest.fixture
def found(tmp_path):
    """found(check, {path: text}, compiled) -> ["path:line", ...]"""

    def run(check, files, compiled=None):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        tree = check_tree.Tree(tmp_path, sorted(files), compiled)
        return [f"{f.path}:{f.line}" for f in check(tree)]

    return run


@pytest.mark.parametrize(
    ("document", "is_found"),
    [
        ("see core/store.h", False),
        ("see core/stores.h", True),
        ("see `store.h`", False),
        ("see `stores.h`", True),
        ("all of core/*.h and tests/**/*_test.cc", False),
        ("all of core/*.hpp", True),
        ("[the store](core/store.h#bytes)", False),
        ("[the store](stores.h)", True),
        ("[the store](tests/../core/store.h)", False),
        ("[outside](../core/store.h)", True),
        ("the folder core/ and a method's methods/<name>/codec.h", False),
        ("written by the build: core/tag.h", False),
        ("not ours: /usr/core/x.h, their/core/x.h", False),
    ],
)
def test_a_path_that_a_document_names_exists(found, document, is_found):
    files = {
        "README.md": f"# Title\n{document}\n",
        "core/store.h": "",
        "tests/core/store_test.cc": "",
        "cmake/Generated.cmake": "set(x ${generated_dir}/core/tag.h)\n",
    }
    assert found(check_tree.named_paths_exist, files) == (["README.md:2"] if is_found else [])


def test_a_path_that_a_comment_names_exists_but_a_string_may_be_anything(found):
    files = {
        "core/a.cc": '// see core/b.h\nint x;  // and core/c.h\nauto s = "// core/d.h";\n',
        "core/b.h": "",
        "tools/t.py": '"""\nof core/e.h"""\nS = "# core/f.h"  # core/b.h\n',
    }
    assert found(check_tree.named_paths_exist, files) == ["core/a.cc:2", "tools/t.py:2"]


def test_a_source_outside_every_target_is_found(found):
    files = {
        "core/a.cc": "",
        "core/b.cc": "",
        "tests/fuzz/CMakeLists.txt": "fuzz(c.cc)",
        "tests/fuzz/c.cc": "",
        "tests/fuzz/d.cc": "",
    }
    missing = found(check_tree.sources_belong_to_targets, files, {"core/a.cc"})
    assert missing == ["core/b.cc:1", "tests/fuzz/d.cc:1"]


def test_a_python_test_that_pytest_would_not_collect_is_found(found):
    files = {"tests/a/test_x.py": "def test_y():\n", "tests/a/x_test.py": "\ndef test_y():\n"}
    assert found(check_tree.sources_belong_to_targets, files) == ["tests/a/x_test.py:2"]


def test_an_oracle_that_sees_the_code_under_test_is_found_through_other_headers(found):
    files = {
        "kernels/codecs/int8.h": "",
        "core/types.h": "",
        "tests/support/rows.h": '#include "kernels/codecs/int8.h"\n',
        "tests/kernels/int8_oracle.h": '#include "core/types.h"\n#include "kernels/a.h"\n',
        "tests/kernels/oracle/int4.cc": '#include "tests/support/rows.h"\n',
        "tests/kernels/int8_test.cc": '#include "kernels/codecs/int8.h"\n',
    }
    assert found(check_tree.oracles_share_nothing, files) == [
        "tests/kernels/int8_oracle.h:2",
        "tests/kernels/oracle/int4.cc:1",
    ]


def test_libtorch_in_a_header_is_found_except_in_the_one_for_it(found):
    files = {
        "core/torch.h": "#include <ATen/core/Tensor.h>\n",
        "core/b.h": "\n#include <ATen/core/Tensor.h>\n",
        "core/c.cc": "#include <torch/torch.h>\n#include <ATen/ATen.h>\n",
    }
    expected = ["core/b.h:2", "core/c.cc:2"]
    assert found(check_tree.headers_are_free_of_libtorch, files) == expected


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ('open("/' + 'home/me/x")', True),
        ("cd /" + "root/checkout", True),
        ("in /" + "tmp/scratch", True),
        ("/usr/bin/env, a/" + "home/b, tests/tmp/x", False),
        ("pip install --" + "index-url X", True),
        ("https://py" + "pi.org/simple", True),
        ("PIP_INDEX_URL is respected", False),
    ],
)
def test_what_belongs_to_one_machine_is_found(found, line, is_found):
    files = {"docs.txt": f"first\n{line}\n"}
    expected = ["docs.txt:2"] if is_found else []
    assert found(check_tree.nothing_of_one_machine, files) == expected


def test_a_long_file_is_found(found):
    files = {"core/a.cc": "\n" * 800, "core/b.cc": "\n" * 801, "data.json": "\n" * 5000}
    assert found(check_tree.files_are_short, files) == ["core/b.cc:801"]


def test_unfinished_work_is_found(found):
    files = {"core/a.h": "int x;\n// TO" + "DO: y\n", "core/b.h": "// method\n"}
    assert found(check_tree.nothing_is_left_for_later, files) == ["core/a.h:2"]


def test_a_command_of_the_readme_that_ci_does_not_run_is_found(found):
    readme = "```sh\n./run test\n./run eval x.json  # a table\n./run ppl --model DIR\n```\n"
    files = {"README.md": readme, ".ci/run": "./run test\n"}
    assert found(check_tree.readme_commands_run_in_ci, files) == ["README.md:3"]


def test_two_types_of_one_name_are_found(found):
    declared = "namespace kvlab {\nclass Pass;\nstruct Pass::Impl {\n"
    files = {
        "core/a.h": "namespace kvlab {\nstruct Pass {\n",
        "core/b.h": declared,
        "core/c.h": "namespace kvlab::slim {\nstruct Pass {\n",
        "core/d.cc": "namespace kvlab {\nnamespace {\nstruct Pass {\n",
        "core/e.cc": "namespace kvlab {\nnamespace {\n}  // namespace\nclass Pass final : B {\n",
        "tests/f.cc": "namespace kvlab {\nstruct Pass {\n",
    }
    assert found(check_tree.types_have_one_definition, files) == ["core/e.cc:4"]


def test_every_rule_is_tested_here(repository):
    tests = (repository / "tests/tools/test_check_tree.py").read_text()
    assert [c.__name__ for c in check_tree.CHECKS if f"check_tree.{c.__name__}," not in tests] == []


def test_what_a_build_compiles_is_read_from_its_database(tmp_path):
    database = [
        {"directory": f"{tmp_path}/build", "file": "../core/a.cc"},
        {"directory": "/", "file": "/b.cc"},
    ]
    (tmp_path / "compile_commands.json").write_text(json.dumps(database))
    assert check_tree.compiled_sources(tmp_path, tmp_path) == {"core/a.cc"}
