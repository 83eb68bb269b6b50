"""What a metric's file can import: the files that its key must cover."""

import time

import pytest

from llmops_assets.domain.python_imports import MOST_BYTES, TooMuchCode, imported_files, module_name, search_paths

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


def test_more_code_than_is_read_is_refused_and_not_hashed_in_part() -> None:
    """Any amount was parsed, in the sensor of all projects; a file that is left out would be in no key."""
    line = "A = 1  # " + "x" * 1000 + "\n"
    files = {f"m{n}.py": f"import m{n + 1}\n" + line * 1000 for n in range(MOST_BYTES // len(line * 1000) + 2)}
    with pytest.raises(TooMuchCode, match=r"m0\.py imports more than 8 MB .*last m8\.py; keep data"):
        found("m0.py", files)


@pytest.mark.parametrize(
    "code",
    [
        "".join(f"from p{n} import *\n" for n in range(20_000)),
        "from p import *\n" * 20_000,
        "import " + "a." * 10_000 + "a\n",
        "from " + "." * 50_000 + " import a\n",
    ],
    ids=["many packages", "one package many times", "a deep name", "a deep relative name"],
)
def test_imports_that_lead_to_nothing_take_no_time(code: str) -> None:
    """Each star import looked at every file, and each dot of a name at a longer path: minutes for one small file."""
    began = time.process_time()
    assert found("m.py", {"m.py": code, **{f"data/{n}.txt": "" for n in range(10_000)}}) == {"m.py"}
    assert time.process_time() - began < 5


@pytest.mark.parametrize("dot", [".", " . ", ".\\\n"])
def test_a_name_that_python_itself_takes_minutes_to_parse_is_refused(dot: str) -> None:
    began = time.process_time()
    with pytest.raises(TooMuchCode, match=r"imports h\.py, which has 300,000 dotted names"):
        found("m.py", {"m.py": "import h\n", "h.py": "import a" + f"{dot}a" * 300_000 + "\n"})
    assert time.process_time() - began < 5
