"""The files of a project that a Python file can import: what decides the result of a project's own metric.

Read from the code, without running it. Reads names that the code states, also inside functions and in relative imports.
A computed name is not seen; a program that has only these files cannot import it either.
"""

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import PurePosixPath

Read = Callable[[str], bytes | None]

MOST_BYTES = 8 * 1024 * 1024
"""Of all code that one file imports: about 10 s of parsing, in the sensor that reads all projects. A large library has
1 to 3 MB, and belongs in the environment."""
_DOTTED = re.compile(rb"\.[\s\\]*[^\W\d]")
_MOST_DOTTED, _MOST_DOTTED_OF_ALL = 40_000, 200_000
"""Names after a dot, of one file and of all. Python's parser takes time in the square of a dotted name's length: 12 s
for 100,000, 2 s for 40,000. Ordinary code has one in 40 bytes."""
_DEEPEST = 60
"""Packages in a dotted name; Git's paths allow more, people write 3 to 6."""


class TooMuchCode(Exception):
    """A file imports more code of its project than is read."""


def search_paths(entry: str, files: Collection[str]) -> tuple[str, ...]:
    """The project's folders that come first on `sys.path` for this file, "" for the root.

    The folder of the file, or of the outermost package that it is in, and the root.
    """
    return tuple(dict.fromkeys((_above_packages(entry, files), "")))


def module_name(entry: str, files: Collection[str]) -> str:
    """The dotted name under which the file is imported: with its packages, so that relative imports work."""
    base = _above_packages(entry, files)
    inner = PurePosixPath(entry).relative_to(base) if base else PurePosixPath(entry)
    return ".".join(inner.with_suffix("").parts)


def imported_files(entry: str, files: Collection[str], read: Read) -> tuple[str, ...]:
    """The file and all files of the project that it imports, directly or not, sorted.

    Args:
        entry: the file, by its path within the project.
        files: the paths of all files.
        read: a file's content by its path.

    Raises:
        TooMuchCode: it is more than `MOST_BYTES`.
    """
    known = frozenset(files)
    modules = _modules_by_folder(known)
    bases = search_paths(entry, known)
    found: set[str] = set()
    seen: set[str] = set()
    total = dotted = 0
    left = [entry, *_packages_of(entry, known)]
    while left:
        path = left.pop()
        if path in found or path not in known:
            continue
        found.add(path)
        code = read(path) or b""
        total += len(code)
        if total > MOST_BYTES:
            raise TooMuchCode(
                f"{entry} imports more than {MOST_BYTES // 1024**2} MB of the project's own code, last {path}; keep "
                "data in a file that is no Python, and libraries in the environment"
            )
        here = len(_DOTTED.findall(code))
        dotted += here
        if here > _MOST_DOTTED or dotted > _MOST_DOTTED_OF_ALL:
            raise TooMuchCode(
                f"{entry} imports {path}, which has {here:,} dotted names; split it, or generate less code"
            )
        for name in set(_imports(path, code, bases)) - seen:
            seen.add(name)
            left += [p for p in _files_of(name, bases, known, modules) if p not in found]
    return tuple(sorted(found))


def _above_packages(entry: str, files: Collection[str]) -> str:
    folder = PurePosixPath(entry).parent
    while folder.parts and f"{folder}/__init__.py" in files:
        folder = folder.parent
    return "" if not folder.parts else str(folder)


def _packages_of(path: str, files: Collection[str]) -> list[str]:
    return [name for folder in PurePosixPath(path).parents if (name := _join(str(folder), "__init__.py")) in files]


def _imports(path: str, code: bytes, bases: tuple[str, ...]) -> Iterator[str]:
    """Dotted names that the code may import. `package.*` stands for every module of the package."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # importing it fails too, and says why
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for package in _from(path, node, bases):
                yield package
                yield from (f"{package}.{alias.name}".strip(".") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _called(node.func) in ("import_module", "__import__"):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value.lstrip(".")


def _from(path: str, node: ast.ImportFrom, bases: tuple[str, ...]) -> Iterator[str]:
    """The package of a `from` import; a relative one is told from the file's place, for each folder to search."""
    if not node.level:
        yield node.module or ""
        return
    parts = PurePosixPath(path).parent.parts
    folder = parts[: len(parts) - (node.level - 1)]
    for base in bases:
        above = PurePosixPath(base).parts
        if folder[: len(above)] == above:
            yield ".".join((*folder[len(above) :], *([node.module] if node.module else [])))


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _modules_by_folder(files: Collection[str]) -> dict[str, list[str]]:
    """Folder → its modules, so that a star import does not look at every file of the project."""
    found: dict[str, list[str]] = {}
    for path in files:
        if path.endswith(".py"):
            found.setdefault(path.rpartition("/")[0], []).append(path)
    return found


def _files_of(
    name: str, bases: tuple[str, ...], files: Collection[str], modules: Mapping[str, list[str]]
) -> Iterator[str]:
    """The files that importing a dotted name may run, in every folder that is searched."""
    parts = name.split(".", _DEEPEST)
    for base in bases:
        if parts[-1] == "*":
            yield from modules.get(_join(base, *parts[:-1]), ())
            continue
        for depth in range(1, len(parts) + 1):
            module = _join(base, *parts[:depth])
            yield from (f for f in (f"{module}.py", f"{module}/__init__.py") if f in files)


def _join(*parts: str) -> str:
    return "/".join(p for p in parts if p and p != ".")
