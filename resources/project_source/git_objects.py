"""What Git's commits and trees say, read by pygit2."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from llmops_assets.config.ignore_patterns import ignoring
from llmops_assets.domain.approval import Author
from llmops_assets.domain.keys import digest
from resources.project_source.links import LINK, LeavesProject, follow


def authors_of(commit: Any) -> list[Author]:
    found = [
        Author(name=text_of(commit, who.raw_name), email=text_of(commit, who.raw_email))
        for who in (commit.author, commit.committer)
    ]
    for text in re.findall(
        r"(?im)^[ \t]*co-authored-by[ \t]*:[ \t]*(.+?)[ \t\r]*$", text_of(commit, commit.raw_message)
    ):
        name, _, rest = text.partition("<")
        # Some tools write the address alone.
        email = rest.split(">")[0] if rest else text
        found.append(Author(name=name.strip(), email=email.strip()))
    return list(dict.fromkeys(found))


def text_of(commit: Any, raw: bytes) -> str:
    """Text of a commit in its own encoding, which Git does not check."""
    try:
        return raw.decode(commit.message_encoding or "utf-8", errors="replace")
    except LookupError:
        return raw.decode(errors="replace")


def walk(root: Any) -> Iterator[tuple[str, Any]]:
    folders = [("", root)]
    while folders:
        prefix, tree = folders.pop()
        for entry in tree:
            # Git stores names as bytes; those that are no text are shown, and compared, with their escapes.
            path = f"{prefix}{entry.raw_name.decode(errors='backslashreplace')}"
            if entry.type_str == "tree":
                folders.append((f"{path}/", entry))
            else:
                yield path, entry


def version(tree: Any, path: str, entry: Any) -> str:
    version = f"{entry.id}{'' if entry.filemode == 0o100644 else oct(entry.filemode)}"
    if entry.filemode == LINK:
        with suppress(LeavesProject):
            target = follow(tree, path)
            return f"{version}:{target.id if target is not None else ''}"
    return version


def tree_digest(files: dict[str, str], leave_out: tuple[str, ...], also: frozenset[str]) -> str:
    """One digest of all files that are not ignored.

    Args:
        files: path → blob id.
        leave_out: patterns of files to ignore, as in .gitignore.
        also: paths to ignore too.
    """
    spec = ignoring(leave_out)
    return digest({p: blob for p, blob in sorted(files.items()) if p not in also and not spec.match_file(p)})
