"""What a metric's file can import: the files that its key must cover."""

import pytest

from llmops_assets.domain.python_imports import imported_files, module_name, search_paths

PROJECT = {
    "metrics.py": "import helpers\nfrom pkg import deep\n",
    "helpers.py": "def f():\n    import lazy\n",
    "lazy.py": "import os, numpy\n",
    "unused.py": "",
    "pkg/__init__.py": "from .names import N\n",
    "pkg/names.py": "from ..helpers import f\n",
    "pkg/deep/__init__.py": "from . import inner\nfrom .. import other\n",
    "pkg/deep/inner.py": "from pkg.stars import *\n",
    "pkg/other.py": "",
    "pkg/stars/__init__.py": "__all__ = ['one']\n",
    "pkg/stars/one.py": "",
    "pkg/unused.py": "",
    "tests/test_it.py": "import metrics\n",
}


def found(entry: str, files: dict[str, str]) -> set[str]:
    return set(imported_files(entry, files, lambda path: files[path].encode()))


def test_nested_lazy_relative_and_star_imports_are_followed_and_nothing_else() -> None:
    assert found("metrics.py", PROJECT) == set(PROJECT) - {"unused.py", "pkg/unused.py", "tests/test_it.py"}


def test_a_file_inside_a_package_brings_its_packages_and_their_relative_imports() -> None:
    assert found("pkg/deep/inner.py", PROJECT) >= {"pkg/__init__.py", "pkg/deep/__init__.py", "pkg/names.py"}
    assert module_name("pkg/deep/inner.py", PROJECT) == "pkg.deep.inner"
    assert search_paths("pkg/deep/inner.py", PROJECT) == ("",)


def test_a_file_in_a_plain_folder_imports_from_beside_itself_and_from_the_root() -> None:
    files = {"eval/m.py": "import beside\nimport lib.a\n", "eval/beside.py": "", "lib/a.py": "", "beside.py": ""}
    assert found("eval/m.py", files) == set(files)
    assert (module_name("eval/m.py", files), search_paths("eval/m.py", files)) == ("m", ("eval", ""))


@pytest.mark.parametrize("code", ["import importlib\nimportlib.import_module('h')\n", "__import__('h')\n"])
def test_a_module_named_by_a_constant_is_followed(code: str) -> None:
    assert found("m.py", {"m.py": code, "h.py": ""}) == {"m.py", "h.py"}


@pytest.mark.parametrize("code", ["def broken(:\n", "\0", "(" * 5000])
def test_code_that_cannot_be_parsed_counts_as_itself(code: str) -> None:
    assert found("m.py", {"m.py": "import h\n", "h.py": code}) == {"m.py", "h.py"}
