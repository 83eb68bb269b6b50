"""Finds credentials in addresses, and hides them in text. `llmops_assets.machine.redaction` knows the environment.

Two ways complement each other: secret values that are known are hidden wherever they appear and however they are
encoded, and credentials that nobody told us about are recognized by their form, such as the password of a URL.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

HIDDEN = "***"

SHORTEST = 5
"""Shorter values are not hidden by value: in ordinary text they would appear by chance. In a URL they still are."""
_WITHIN_WORDS = 12
"""Shorter values are hidden as whole words only: the password `postgres` is not hidden in `postgresql`."""

_NAMES = r"token|password|passwd|secret|signature|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|credential"
_QUERY_NAME = re.compile(rf"(?i)^(?:.*(?:{_NAMES}).*|pwd|pass|sig|key|auth)$")
_VARIABLE_NAME = re.compile(
    r"(?i)(?:^|_)(?:\w*TOKEN|\w*PASSWORD|\w*PASSWD|PASS|PWD|\w*SECRET|APIKEY|KEY|CREDENTIALS?|CONNECTION_STRING|SAS)(?:$|_)"
)
_NOT_SECRET = re.compile(r"(?i)(?:_FILE|_PATH|_DIR|_URL|_NAME|^OLDPWD|^PWD)$")

_SCHEME = r"[a-z][a-z0-9+.-]{0,30}://"
_ASSIGNED = (
    r"password|passwd|secret|(?:access|auth|private|session|refresh|api|sas)[_-]?token"
    r"|(?:api|access|account|private|secret)[_-]?key"
)
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"(?i){form}"), replacement)
    for form, replacement in (
        # A URL's user and password, whatever the password contains; :80/ is a port. The user of http is a token.
        (rf"\b({_SCHEME})[^\s/?#:@'\"<>]{{0,200}}:(?!\d+[/?#'\"\s])[^\s'\"<>]{{0,400}}@", r"\1***@"),
        (r"\b([a-z0-9+.-]{0,20}https?://)[^\s/?#@'\"<>]{1,400}@", r"\1***@"),
        (r"(%3A(?:%2F|/){2})(?:(?!%2F)[^\s&'\"/]){1,400}?(?:%40|@)", r"\1***%40"),
        (rf"([?&;](?:[\w.-]{{0,40}}(?:{_NAMES})[\w.-]{{0,40}}|pwd|pass|sig|key|auth)=)[^&;\s#'\"<>]+", r"\1***"),
        (rf"\b([\w-]{{0,40}}(?:{_ASSIGNED})=)(?:\"[^\"]*\"|'[^']*'|[^\s,;&'\")\]}}>]+)", r"\1***"),
        (r"\b((?:proxy-)?authorization[\"']?\s{0,9}[:=]\s{0,9}[\"']?(?:basic|bearer|token)\s{1,9})[^\s\"']+", r"\1***"),
        (r"\b(bearer\s{1,9})[\w.~+/=-]{16,}", r"\1***"),
        (r"\b((?:private-token|x-api-key)[\"']?\s{0,9}:\s{0,9}[\"']?)[^\s\"']+", r"\1***"),
        (r"\b(?:gh[pousr]_[a-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[a-z0-9]{20,})", HIDDEN),
        (r"\b(?:sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}|llmops-[\w-]{40,})", HIDDEN),
    )
)

_AUTHORITY = re.compile(r"(?i)^([a-z][a-z0-9+.-]*)://([^/?#\s]*)@")
_ODD_PASSWORD = re.compile(r"(?i)^[a-z][a-z0-9+.-]*://[^/:@?#\s]*:(?!\d+(?:[/?#]|$))[^@]*@")
_WITHOUT_SCHEME = re.compile(r"^[^/@\s:]+:[^/@\s]+@[^/\s]+")


def carries_credentials(address: str) -> bool:
    """Whether a URL contains a password or a token.

    The user of `ssh://git@host` or `postgresql://user@host` is none; a user of http without a password is: nobody but a
    token logs in by a name alone.
    """
    if found := _AUTHORITY.match(address):
        scheme, user = found[1].lower(), found[2]
        if "http" in scheme or user.partition(":")[2]:
            return True
    if _ODD_PASSWORD.match(address) or _WITHOUT_SCHEME.match(address):
        return True
    query = address.partition("?")[2].partition("#")[0]
    return any(value and _QUERY_NAME.match(name) for name, value in parse_qsl(query))


def secrets_in(environment: Mapping[str, str]) -> frozenset[str]:
    """The secret values of an environment: by a variable's name, and the credentials of every URL."""
    found: set[str] = set()
    for name, value in environment.items():
        if "://" in value:
            found |= _of_url(value)
        elif _VARIABLE_NAME.search(name) and not _NOT_SECRET.search(name) and not value.startswith(("/", "~", "./")):
            found.add(value)
    return frozenset(secret for secret in found if len(secret) >= SHORTEST)


def _of_url(value: str) -> set[str]:
    try:
        url = urlsplit(value)
        user, password = url.username or "", url.password or ""
    except ValueError:
        found = re.match(r"[^:]*://([^:@]*):?(.*)@", value)
        user, password = (found[1], found[2]) if found else ("", "")
        url = urlsplit("")
    found_in_query = {v for n, v in parse_qsl(url.query) if _QUERY_NAME.match(n)}
    if password:
        pair = f"{unquote(user)}:{unquote(password)}"
        return {password, unquote(password), base64.b64encode(pair.encode()).decode(), *found_in_query}
    return ({user, unquote(user)} if "http" in url.scheme else set()) | found_in_query


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with every credential replaced by `***`.

    Args:
        secrets: values to hide wherever they appear, also URL-encoded, in JSON or in base64.
    """
    if known := _pattern(frozenset(secrets)):
        text = known.sub(HIDDEN, text)
    for form, replacement in _FORMS:
        text = form.sub(replacement, text)
    return text


@lru_cache(maxsize=16)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    written: set[str] = set()
    for secret in secrets:
        for plain in {secret, unquote_plus(secret)}:
            encoded = {quote(plain, safe=""), quote_plus(plain), quote(plain)}
            lower = {re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), text) for text in encoded}
            written |= {plain, *encoded, *lower, json.dumps(plain)[1:-1], base64.b64encode(plain.encode()).decode()}
    written = {text for text in written if len(text) >= SHORTEST}
    if not written:
        return None
    longest_first = sorted(written, key=lambda text: (-len(text), text))
    return re.compile(
        "|".join(
            re.escape(t) if len(t) >= _WITHIN_WORDS else rf"(?<![A-Za-z0-9]){re.escape(t)}(?![A-Za-z0-9])"
            for t in longest_first
        )
    )
