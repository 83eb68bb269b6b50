"""A small vulnerability database for trivy, in its own format: a bbolt file with advisories and their severities.

The real database is several hundred MB and comes from a registry. This one makes the real scanner find a vulnerability
in a package of Debian without any network.
"""

import json
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Union

PAGE = 4096
_META, _FREELIST, _LEAF = 0x04, 0x10, 0x02
Bucket = Mapping[str, Union["Bucket", bytes]]


def write_database(folder: Path, advisories: Mapping[str, Mapping[str, Any]], made: datetime) -> Path:
    """Writes trivy's cache folder.

    Args:
        advisories: identifier → {package, fixed, severity} of Debian 12.
        made: when the database says that it was made.
    """
    by_package: dict[str, dict[str, bytes]] = {}
    known: dict[str, bytes] = {}
    for identity, said in advisories.items():
        by_package.setdefault(said["package"], {})[identity] = _json({"FixedVersion": said["fixed"]})
        known[identity] = _json({"Title": f"A flaw in {said['package']}", "Severity": said["severity"].upper()})
    source = {"ID": "debian", "Name": "Debian Security Tracker", "URL": "https://example.com"}
    content: dict[str, Any] = {
        "data-source": {"debian 12": _json(source)}, "debian 12": by_package, "vulnerability": known,
    }  # fmt: skip
    there = folder / "db"
    there.mkdir(parents=True, exist_ok=True)
    (there / "trivy.db").write_bytes(bolt(content))
    stamp = made.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    later = made.replace(year=made.year + 1).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    told = {"Version": 2, "NextUpdate": later, "UpdatedAt": stamp, "DownloadedAt": stamp}
    (there / "metadata.json").write_text(json.dumps(told))
    return folder


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def bolt(root: Bucket) -> bytes:
    """A bbolt database with these nested buckets: two meta pages, a free list, and a leaf for each bucket."""
    pages: dict[int, bytes] = {}
    following = [3]

    def place(bucket: Bucket) -> int:
        entries = []
        for name in sorted(bucket, key=str.encode):
            value = bucket[name]
            if isinstance(value, bytes):
                entries.append((0, name.encode(), value))
            else:
                entries.append((1, name.encode(), struct.pack("<QQ", place(value), 0)))
        size = 16 + sum(16 + len(key) + len(value) for _, key, value in entries)
        number, extra = following[0], (size - 1) // PAGE
        following[0] += 1 + extra
        elements, data = b"", b""
        at = 16 * len(entries)
        for index, (flags, key, value) in enumerate(entries):
            elements += struct.pack("<IIII", flags, at - 16 * index + len(data), len(key), len(value))
            data += key + value
        page = struct.pack("<QHHI", number, _LEAF, len(entries), extra) + elements + data
        pages[number] = page.ljust((1 + extra) * PAGE, b"\0")
        return number

    top = place(root)
    freelist = struct.pack("<QHHI", 2, _FREELIST, 0, 0).ljust(PAGE, b"\0")
    metas = b"".join(_meta(number, top, following[0]) for number in (0, 1))
    return metas + freelist + b"".join(pages[number] for number in sorted(pages))


def _meta(number: int, root: int, end: int) -> bytes:
    body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 2, end, number)
    checksum = 0xCBF29CE484222325
    for byte in body:  # FNV-1a, 64 bits
        checksum = ((checksum ^ byte) * 0x100000001B3) % 2**64
    header = struct.pack("<QHHI", number, _META, 0, 0)
    return (header + body + struct.pack("<Q", checksum)).ljust(PAGE, b"\0")
