"""The list of files of a folder that DVC tracks, checked before DVC checks it out.

DVC writes a listed file wherever its path leads: `../../elsewhere/x` was written beside the work tree.
"""

import json
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MD5 = r"^[0-9a-f]{32}(\.dir)?$"


class _Entry(BaseModel):
    """DVC writes more keys than are read here."""

    model_config = ConfigDict(frozen=True)

    relpath: str = Field(min_length=1)
    md5: str = Field(pattern=MD5)


_LISTING = TypeAdapter(list[_Entry])


def problem_of_listing(listing: bytes) -> str | None:
    """What is wrong with a folder's list of files; None if all of them lie in the folder."""
    try:
        entries = _LISTING.validate_python(json.loads(listing))
    except (ValueError, RecursionError, ValidationError):
        return "its list of files is not as DVC writes it"
    for entry in entries:
        path = PurePosixPath(entry.relpath)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.relpath:
            return f"its list of files has {entry.relpath!r}, which is outside the folder"
    return None
