"""Addresses that a project's files name and that this location may read or write for it. Pure.

A commit can name any address. It is used only if the settings allow it: the location runs with credentials, and inside
a network, that the commit's author may not have.
"""

import posixpath
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from llmops_assets.domain.formatting import quoted
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.redaction import carries_credentials

SCHEMES = ("http", "https", "s3", "gs", "azure", "ssh")
_PORTS = {"http": 80, "https": 443, "ssh": 22}
_SCP = re.compile(r"^(?:[\w.-]+@)?(?P<host>[A-Za-z0-9][\w.-]*):(?P<path>[^:]+)$")
"""git@host:path, as `git clone` takes it."""


class Upstream(Frozen):
    """An address in a form that can be compared."""

    scheme: str
    """`file` for a path of this machine."""
    host: str = ""
    """With the port if it is not the scheme's own; of object storage, the bucket."""
    parts: tuple[str, ...] = ()
    """Of the path, decoded."""


def upstream_of(address: str) -> Upstream:
    """Parses an address: an absolute path, a URL, or git@host:path.

    Raises:
        ValueError: it cannot be used; the message says why, and contains no credentials.
    """
    if carries_credentials(address):
        raise ValueError("it contains a password or token; leave it out, and configure it on this location's machines")
    if not address or not address.isprintable() or any(sign in address for sign in " \\#"):
        raise ValueError(f"{quoted(address)} has a space, a backslash, a # or a control character")
    if address.startswith("/"):
        return Upstream(scheme="file", parts=_parts(address, address))
    if "://" not in address and (found := _SCP.match(address)):
        return Upstream(
            scheme="ssh", host=found["host"].lower(), parts=_parts(f"/{found['path'].lstrip('/')}", address)
        )
    try:
        url = urlsplit(address)
        host, port = (url.hostname or "").lower(), url.port
    except ValueError:
        raise ValueError(f"{quoted(address)} is no valid URL") from None
    if url.scheme not in SCHEMES or not host:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(
            f"{quoted(address)} is no address here; write an absolute path, git@host:path, or a URL: {known}"
        )
    if url.username and url.scheme != "ssh":
        raise ValueError(f"{quoted(address)} has a user name; leave it out")
    if port and port != _PORTS.get(url.scheme):
        host += f":{port}"
    return Upstream(scheme=url.scheme, host=host, parts=_parts(url.path, address))


def _parts(path: str, address: str) -> tuple[str, ...]:
    """The parts of a path. Those that a server could resolve to another path are refused."""
    found = [unquote(part) for part in path.strip("/").split("/")] if path.strip("/") else []
    if any(part in ("", ".", "..") or "/" in part or not part.isprintable() for part in found):
        raise ValueError(f"{quoted(address)}: its path has an empty part, `.`, `..` or an encoded slash; write it out")
    return tuple(found)


def lies_within(address: Upstream, allowed: Upstream) -> bool:
    """Whether an address is an allowed one, or below it."""
    same = (address.scheme, address.host) == (allowed.scheme, allowed.host)
    return same and address.parts[: len(allowed.parts)] == allowed.parts


def why_not_allowed(address: str, allowed: Sequence[str], key: str) -> str | None:
    """Why an address may not be used; None if it may.

    Args:
        allowed: addresses of the settings, which are valid.
        key: where they stand, for the message.
    """
    try:
        found = upstream_of(address)
    except ValueError as error:
        return str(error)
    if any(lies_within(found, upstream_of(one)) for one in allowed):
        return None
    return f"{quoted(address)} is not allowed by {key} in the settings ({', '.join(allowed) or 'none'})"


def absolute(address: str, folder: str) -> str:
    """The address; a relative path becomes absolute, relative to `folder`."""
    if "://" in address or address.startswith("/") or _SCP.match(address):
        return address
    return posixpath.normpath(posixpath.join(folder, address))
