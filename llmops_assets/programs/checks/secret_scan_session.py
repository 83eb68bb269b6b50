"""Scans files for secrets in this process, which only reads them, and writes the places of those that are new.

    python secret_scan_session.py RESULT.json < {"files", "base", "base_files", "allowed", "largest"}

No secret and no digest of one leaves this process. The settings are detect-secrets' own defaults: those of a project's
baseline may name code to import, and verification would send what was found to its issuer. Run by its path and
importing nothing of ours.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# detect-secrets imports requests, which takes 1 s, only to verify secrets; without it nothing can be sent.
_no_requests: Any = ModuleType("requests")
_no_requests.Response = object
sys.modules.setdefault("requests", _no_requests)

from detect_secrets.core.scan import scan_file  # noqa: E402
from detect_secrets.settings import default_settings  # noqa: E402

GENERATED = re.compile(r"\.dvc$|(^|/)(dvc\.lock|uv\.lock|pdm\.lock|pixi\.lock|\.secrets\.baseline)$")
"""Files that tools write and that are full of digests; detect-secrets itself leaves out other tools' lock files."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def main() -> None:
    asked = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    allowed = {(file, kind, digest) for file, kind, digest in asked["allowed"]}
    found: list[dict[str, Any]] = []
    skipped: list[str] = []
    counts = {"scanned": 0, "allowed": 0, "old": 0}
    with default_settings():
        old = {
            (secret.type, secret.secret_hash) for name in asked["base_files"] for secret in scan(asked["base"], name)
        }
        for name in asked["files"]:
            if (Path(name)).stat().st_size > asked["largest"]:
                skipped.append(name)
                continue
            counts["scanned"] += 1
            for secret in scan(".", name):
                if (name, secret.type, secret.secret_hash) in allowed:
                    counts["allowed"] += 1
                elif (secret.type, secret.secret_hash) in old:
                    counts["old"] += 1
                else:
                    found.append({"file": name, "type": secret.type, **place(Path(name), secret)})
    Path(sys.argv[1]).write_text(json.dumps({"found": found, "skipped": skipped, **counts}))


def scan(folder: str, name: str) -> Iterator[Any]:
    """The potential secrets of a file."""
    if GENERATED.search(name):
        return
    for secret in scan_file(str(Path(folder) / name)):
        # llmops.yaml names commits: of the base model on the hub, and of baselines.
        if name == "llmops.yaml" and _COMMIT.fullmatch(secret.secret_value or ""):
            continue
        yield secret


def place(file: Path, secret: Any) -> dict[str, int | None]:
    """Line and column. detect-secrets reformats YAML before it looks, and then counts other lines."""
    lines = file.read_text(errors="replace").splitlines()
    value, told = secret.secret_value or "", secret.line_number
    near = [n for n, line in enumerate(lines, start=1) if value and value in line]
    if not near:
        return {"line": min(max(told, 1), max(len(lines), 1)), "column": None}
    line = min(near, key=lambda n: abs(n - told))
    return {"line": line, "column": lines[line - 1].index(value) + 1}


if __name__ == "__main__":
    main()
