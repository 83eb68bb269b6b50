"""Creates the example's rows: a Python function without its docstring, and the docstring's first line.

    python make_data.py TARGET [--packages numpy pandas sklearn] [--train-rows 112] [--test-rows 48]

The rows come from the standard library of the Python that runs this script, so nothing is downloaded and no third-party
code is redistributed; another version of Python gives slightly different rows. `packages` (installed, located without
importing) only add training rows: the second version of the data. Rows are sorted by the hash of their content, so the
same Python gives the same files.

prompts/ defines how rows become prompts; `make_project` handles DVC and Git.
"""

import argparse
import ast
import functools
import hashlib
import importlib.util
import json
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

MORE_PACKAGES = ("numpy", "pandas", "sklearn")
TRAIN_ROWS, TEST_ROWS, MORE_ROWS, SEED = 96, 40, 40, 7
CODE_CHARACTERS = range(60, 401)
SUMMARY_CHARACTERS = range(20, 101)
SKIPPED_FOLDERS = {"__pycache__", "_bundled", "_vendor", "dist-packages", "idle_test", "site-packages", "test", "tests"}

Row = dict[str, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef


class DataError(RuntimeError):
    """The rows cannot be created; the message says why and what to do."""


def make_data(
    target: Path,
    packages: Sequence[str] = (),
    train_rows: int = TRAIN_ROWS,
    test_rows: int = TEST_ROWS,
    seed: int = SEED,
    more_rows: int = MORE_ROWS,
) -> Path:
    """Writes train.jsonl and test.jsonl; with `packages`, appends `more_rows` of their rows to train.jsonl."""
    rows = _distinct(_ranked(_standard_library(), seed), ())
    needed = test_rows + train_rows
    if len(rows) < needed:
        raise DataError(f"the standard library gives {len(rows)} rows, {needed} requested; request fewer")
    target.mkdir(parents=True, exist_ok=True)
    _write(target / "test.jsonl", rows[:test_rows])
    _write(target / "train.jsonl", rows[test_rows:needed])
    if packages:
        add_rows(target, packages, more_rows, seed)
    return target


def add_rows(target: Path, packages: Sequence[str] = MORE_PACKAGES, count: int = MORE_ROWS, seed: int = SEED) -> None:
    """Appends rows of other packages to train.jsonl; repeats no row of train.jsonl or test.jsonl."""
    train, test = _read(target / "train.jsonl"), _read(target / "test.jsonl")
    found = [row for package in packages for row in _package(package)]
    rows = _distinct(_ranked(found, seed), [*train, *test])
    if len(rows) < count:
        raise DataError(f"{', '.join(packages)} give {len(rows)} new rows, {count} requested; request fewer")
    _write(target / "train.jsonl", [*train, *rows[:count]])


def _ranked(rows: Iterable[Row], seed: int) -> list[Row]:
    def rank(row: Row) -> str:
        return hashlib.sha256(json.dumps([seed, row], sort_keys=True).encode()).hexdigest()

    return sorted(rows, key=rank)


def _distinct(rows: Iterable[Row], known: Iterable[Row]) -> list[Row]:
    """Drops rows that share code, source, or name and summary with an earlier one: copies would leak into test."""
    seen = {mark for row in known for mark in _marks(row)}
    kept = []
    for row in rows:
        if seen.isdisjoint(_marks(row)):
            kept.append(row)
        seen |= _marks(row)
    return kept


def _marks(row: Row) -> set[tuple[str, ...]]:
    name = row["source"].rpartition(".")[2]
    return {("code", " ".join(row["input"].split())), ("place", row["source"]), ("name", name, row["output"].lower())}


@functools.cache
def _standard_library() -> tuple[Row, ...]:
    folder = Path(sysconfig.get_path("stdlib"))
    files = (
        file
        for file in sorted(folder.rglob("*.py"))
        if file.relative_to(folder).parts[0].removesuffix(".py") in sys.stdlib_module_names
    )
    return tuple(row for file in files for row in _file(file, folder))


@functools.cache
def _package(name: str) -> tuple[Row, ...]:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"no package {name!r} in this environment; install it or name another")
    folder = Path(spec.submodule_search_locations[0])
    return tuple(row for file in sorted(folder.rglob("*.py")) for row in _file(file, folder.parent))


def _file(file: Path, root: Path) -> Iterator[Row]:
    parts = file.relative_to(root).with_suffix("").parts
    if not SKIPPED_FOLDERS.isdisjoint(parts):
        return
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError):
        return  # some packages contain templates and samples of old syntax
    module = ".".join(part for part in parts if part != "__init__")
    yield from _functions(tree, module, text.splitlines())


def _functions(node: ast.AST, name: str, lines: list[str]) -> Iterator[Row]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            continue  # most nodes, and none contains a function with a docstring
        if not isinstance(child, Function | ast.ClassDef):
            yield from _functions(child, name, lines)
            continue
        inner = f"{name}.{child.name}"
        if isinstance(child, Function) and (row := _row(child, inner, lines)):
            yield row
        yield from _functions(child, inner, lines)


def _row(function: Function, source: str, lines: list[str]) -> Row | None:
    summary = (ast.get_docstring(function) or "").partition("\n")[0].strip()
    if len(summary) not in SUMMARY_CHARACTERS or not summary.endswith(".") or len(function.body) < 2:
        return None
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    docstring = function.body[0]
    if docstring.lineno == function.lineno or docstring.end_lineno == function.body[1].lineno:
        return None  # the docstring shares a line with code
    code = lines[first - 1 : docstring.lineno - 1] + lines[docstring.end_lineno : function.end_lineno]
    text = textwrap.dedent("\n".join(line.rstrip() for line in code)).strip()
    if len(text) not in CODE_CHARACTERS or not (text + summary).replace("\n", "").replace("\t", "").isprintable():
        return None
    return {"input": text, "output": summary, "source": source}


def _kind(row: Row) -> str:
    """What the code is: the report shows its metrics for methods and for functions."""
    first = re.search(r"def \w+\s*\(\s*(\w*)", row["input"])
    return "method" if first and first[1] in ("self", "cls") else "function"


def _read(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _write(file: Path, rows: Sequence[Row]) -> None:
    """Writes a new file and renames it: DVC may have linked the old one to its cache, which must not change.

    Each row gets its column `kind` here: it is no part of the hash that decides which rows there are.
    """
    beside = file.with_name(f".{file.name}.new")
    lines = (json.dumps({**row, "kind": _kind(row)}, ensure_ascii=False) for row in rows)
    beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    beside.replace(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="folder to fill")
    parser.add_argument("--packages", nargs="*", default=[], help="installed packages that add training rows")
    parser.add_argument("--train-rows", type=int, default=TRAIN_ROWS)
    parser.add_argument("--test-rows", type=int, default=TEST_ROWS)
    parser.add_argument("--more-rows", type=int, default=MORE_ROWS, help="rows that the packages add")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    try:
        make_data(**vars(arguments))
    except DataError as error:
        sys.exit(str(error))
    print(f"done: {arguments.target}", flush=True)


if __name__ == "__main__":
    main()
