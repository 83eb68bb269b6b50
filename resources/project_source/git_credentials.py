"""Passes the credentials of a repository's URL to Git in its environment.

Arguments are listed by `ps` for every user, those of the transport helpers that Git starts too, and Git's configuration
is a file. So the URL in both has no credentials, and a credential helper reads them from the environment.
"""

import os
from urllib.parse import unquote, urlsplit

from resources.project_source.errors import SourceError

_USER, _PASSWORD = "LLMOPS_GIT_USERNAME", "LLMOPS_GIT_PASSWORD"
_HELPER = f"""!f() {{ test "$1" = get && printf 'username=%s\\npassword=%s\\n' "${_USER}" "${_PASSWORD}"; }}; f"""


def apart(url: str) -> tuple[str, dict[str, str]]:
    """A URL without its credentials, and the environment in which Git finds them.

    Raises:
        SourceError: Git cannot use the credentials.
    """
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        raise SourceError(
            "the repository's URL is not valid: percent-encode special characters of its password"
        ) from None
    if parts.scheme not in ("http", "https") or not (user or password):
        if parts.scheme and password:
            raise SourceError(f"Git uses no password of a {parts.scheme}:// URL; remove it, and use a key")
        return url, {}
    if any(sign in f"{user}{password}" for sign in "\n\r\0"):
        raise SourceError("the repository's credentials contain a line break")
    host = parts.netloc.rpartition("@")[2]
    first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    name = f"credential.{parts.scheme}://{host}.helper"
    settings = ((name, ""), (name, _HELPER))  # the empty one removes the helpers of this machine's configuration
    environment = {_USER: user, _PASSWORD: password, "GIT_CONFIG_COUNT": str(first + len(settings))}
    for number, (key, value) in enumerate(settings, first):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return parts._replace(netloc=host).geturl(), environment
