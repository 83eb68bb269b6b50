"""python -m tests.program_versions

Records the version of each work stage, and a digest of all code that affects its result, in program_versions.json.
`tests/domain/test_program_versions.py` compares them: a key contains the version, not the code, so an edit that changes
results under an old version would reuse stale ones. A digest excludes comments, docstrings and formatting.
"""

import ast
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmops_assets import catalog
from llmops_assets.config.ci import Ci
from llmops_assets.config.deployment import ServingOptions
from llmops_assets.config.evaluation import Evaluation
from llmops_assets.config.image import Image
from llmops_assets.config.project import Data, Quantization
from llmops_assets.config.training import Training
from llmops_assets.domain.chain import WORK

REPOSITORY = Path(__file__).parents[1]
NOTED = Path(__file__).with_suffix(".json")
PROGRAMS = "llmops_assets.programs."
SPECS = PROGRAMS + "runtime.specs"
NO_RESULT = {
    "runtime.entry",
    "runtime.errors",
    "runtime.specs",
    "training.progress",
    "training.checkpoints",
    "evaluation.load_test",
}
"""Modules of programs that decide how work is run, resumed and shown, never what it yields."""


@dataclass(frozen=True)
class Decides:
    """The code that affects a stage's result."""

    functions: tuple[str, ...]
    """`module:function` of the stage's own work."""
    defaults: dict[str, Any]
    """Values are read without defaults, so a default that changes is an edit like any other."""
    program: str | None = None
    """With all modules of programs that it imports, and its specification."""
    modules: tuple[str, ...] = ()


_EVALUATION = (
    "llmops_assets.assets.evaluation_shared:metric_specs",
    "llmops_assets.assets.evaluation_shared:common_spec",
)
_PROMPT = ("llmops_assets.domain.prompt",)
DECIDES: dict[str, Decides] = {
    "ci_report": Decides(
        ("llmops_assets.assets.ci_report:make",),
        Ci().model_dump(),
        "ci",
        (
            *_PROMPT,
            "llmops_assets.delivery.ci",
            "llmops_assets.delivery.ci_kubernetes",
            "llmops_assets.delivery.ci_licences",
            "llmops_assets.domain.licences",
            "llmops_assets.domain.findings",
            "llmops_assets.domain.junit",
            "llmops_assets.domain.sarif",
            "llmops_assets.programs.checks.pytest_session",
            "llmops_assets.programs.checks.secret_scan_session",
        ),
    ),
    "container_image": Decides(
        ("llmops_assets.assets.container_image:make",),
        Image().model_dump(),
        "image",
        ("llmops_assets.config.image_context",),
    ),
    "dataset_version": Decides(
        ("llmops_assets.assets.dataset_version:make",),
        Data(test="-", train="-").model_dump(),
        "dataset",
        ("llmops_assets.domain.percentiles",),
    ),
    "fine_tuned_checkpoint": Decides(
        ("llmops_assets.assets.fine_tuned_checkpoint:make",), Training().model_dump(), "train", _PROMPT
    ),
    "evaluation_report": Decides(
        (*_EVALUATION, "llmops_assets.assets.evaluation_report:evaluate"),
        Evaluation().model_dump(),
        "evaluate",
        _PROMPT,
    ),
    "registered_model": Decides(
        ("llmops_assets.assets.registered_model:make", "resources.model_registry.mlflow:write_mlflow_model"), {}
    ),
    "quantized_artifact": Decides(
        ("llmops_assets.assets.quantized_artifact:make",), Quantization().model_dump(), "quantize"
    ),
    "served_evaluation_report": Decides(
        (*_EVALUATION, "llmops_assets.assets.served_evaluation_report:evaluate_served"),
        Evaluation().model_dump() | ServingOptions().model_dump(),
        "served_evaluate",
        (*_PROMPT, "llmops_assets.domain.release"),
    ),
}


def code_digest(code: str) -> str:
    """Digest of the parsed code, without docstrings and imports: the imported modules are sources themselves."""
    tree = ast.parse(code)
    tree.body = [s for s in tree.body if not isinstance(s, ast.Import | ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in node.body if not _is_text(s)]
    text = ast.dump(tree).replace(", type_params=[]", "")  # a field that only Python 3.12 has
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _is_text(statement: ast.stmt) -> bool:
    """Whether a node is a docstring, including one below an assignment."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _code(module: str) -> str:
    return (REPOSITORY / (module.replace(".", "/") + ".py")).read_text()


def _part(module: str, name: str) -> str:
    """The source of one function or class of a module."""
    code = _code(module)
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return ast.get_source_segment(code, node) or ""
    raise LookupError(f"{module} has no {name} any more; correct DECIDES in tests/program_versions.py")


def _imports(module: str) -> dict[str, set[str]]:
    """Modules of programs that a module imports, also inside functions → the imported names.

    A module that imports a table of the catalog may load any of its parts.
    """
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(_code(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PROGRAMS):
            found.setdefault(str(node.module), set()).update(a.name for a in node.names)
        if isinstance(node, ast.ImportFrom) and node.module == "llmops_assets.catalog":
            for parts in (getattr(catalog, a.name) for a in node.names):
                for part in parts.values() if isinstance(parts, catalog.Parts) else ():
                    found.setdefault(part.path.split(":")[0], set())
    return found


def sources(decides: Decides) -> dict[str, str]:
    """Source → digest, for all code that affects a stage's result."""
    found = {name: code_digest(_part(*name.split(":"))) for name in decides.functions}
    found |= {name: code_digest(_code(name)) for name in decides.modules}
    left = [PROGRAMS + decides.program] if decides.program else []
    while left:
        module = left.pop()
        if module in found or module.removeprefix(PROGRAMS) in NO_RESULT:
            continue
        found[module] = code_digest(_code(module))
        left += _imports(module)
    if decides.program:
        for name in _imports(PROGRAMS + decides.program).get(SPECS, ()):
            found[f"{SPECS}:{name}"] = code_digest(_part(SPECS, name))
    found["defaults in llmops.yaml"] = code_digest(repr(decides.defaults))
    return dict(sorted(found.items()))


@cache
def current() -> dict[str, Any]:
    """Stage → its current version and sources."""
    return {s.name: {"version": s.version, "sources": sources(DECIDES[s.name])} for s in WORK}


if __name__ == "__main__":
    NOTED.write_text(json.dumps(current(), indent=2) + "\n")
    print(f"{NOTED.relative_to(REPOSITORY)} is up to date")
