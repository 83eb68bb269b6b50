"""What the receiver needs to know of a kind of server that sends webhooks. One file per kind in `senders`."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.webhooks import Event, Nothing, Push

TOLERANCE_S = 300.0
"""How far a signed time may be from this machine's clock, as Standard Webhooks recommends."""
NO_COMMIT = "0" * 40
"""What a push names as the commit of a branch that did not exist before, or does not any more."""


class Unauthentic(Exception):
    """The delivery is not from who it says, or was sent at another time. The message holds no secret."""


class Malformed(Exception):
    """An authentic delivery lacks what its kind of event has; the message names the key."""


class Sender(Protocol):
    """A kind of server, such as GitHub. `headers` have lower-case names everywhere."""

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> set[int]:
        """The indices of the secrets that the delivery was signed with, compared in constant time.

        Raises:
            Unauthentic: none of them, or no signature, or one of another time.
        """

    def identity(self, headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
        """What makes this delivery another one than any before: one that has any of these was received already."""

    def event(self, headers: Mapping[str, str], document: Mapping[str, Any]) -> Event:
        """What happened.

        Raises:
            Malformed: a key is missing or has another type.
        """


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def equal(given: str, expected: str) -> bool:
    """Compares in constant time; a header's text can hold any byte."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def by_hex_digest(given: str, body: bytes, secrets: Sequence[str]) -> set[int]:
    """The secrets whose HMAC-SHA256 of the body is this one, in hexadecimal digits. All are compared."""
    computed = [hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in secrets]
    return matching([equal(given.lower(), one) for one in computed])


def key_of(secret: str) -> bytes:
    """`whsec_` is followed by the key in Base64; any other secret is the key itself."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            pass
    return secret.encode()


def by_standard_webhooks(
    given: str,
    identifier: str,
    timestamp: str,
    body: bytes,
    secrets: Sequence[str],
    now: float,
    key: Callable[[str], bytes] = key_of,
) -> set[int]:
    """The secrets that signed ID.TIMESTAMP.BODY: one or more signatures `v1,BASE64`, separated by spaces.

    Args:
        key: a secret's key.

    Raises:
        Unauthentic: the time is missing or too far from now.
    """
    try:
        at = float(timestamp)
    except ValueError:
        raise Unauthentic("its time of sending is missing or no number") from None
    if not abs(at - now) <= TOLERANCE_S:
        raise Unauthentic(f"it was sent more than {TOLERANCE_S:.0f} s from now, by its signed time; check both clocks")
    content = b".".join([identifier.encode("utf-8", "surrogateescape"), timestamp.encode(), body])
    computed = [
        base64.b64encode(hmac.new(key(secret), content, hashlib.sha256).digest()).decode() for secret in secrets
    ]
    signatures = [one.removeprefix("v1,") for one in given.split()[:8] if one.startswith("v1,")]
    return matching([any(equal(s, one) for s in signatures) for one in computed])


def matching(equals: Sequence[bool]) -> set[int]:
    """The indices of those that match.

    Raises:
        Unauthentic: none does.
    """
    found = {index for index, is_equal in enumerate(equals) if is_equal}
    if not found:
        raise Unauthentic("its signature matches no secret of the settings")
    return found


def text_at(document: Mapping[str, Any], *path: str) -> str:
    """The text at a path of keys.

    Raises:
        Malformed: there is none.
    """
    value = _at(document, path)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{'.'.join(path)} is missing or no text")
    return value


def number_at(document: Mapping[str, Any], *path: str) -> int:
    """The whole number at a path of keys.

    Raises:
        Malformed: there is none.
    """
    value = _at(document, path)
    if type(value) is not int or value < 0:
        raise Malformed(f"{'.'.join(path)} is missing or no number")
    return value


def _at(document: Any, path: Sequence[str]) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def texts_at(document: Mapping[str, Any], where: str, *keys: str) -> tuple[str, ...]:
    """The texts of those keys that a nested mapping has; the first key is required.

    Raises:
        Malformed: it lacks the first one.
    """
    first = text_at(document, where, keys[0])
    inner: Mapping[str, Any] = document[where]
    others = (inner.get(key) for key in keys[1:])
    return (first, *(value for value in others if isinstance(value, str) and value))


def named(event: str) -> str:
    """The name of an event for a message."""
    return excerpt(event, 60) or "without a name"


def pull_request_event(document: Mapping[str, Any], addresses: tuple[str, ...], runs: Collection[str]) -> Event:
    """What happened to a pull request, in GitHub's form of the event, which Gitea has too.

    Args:
        addresses: of the repository.
        runs: the actions that bring a commit to run.

    Raises:
        Malformed: the action or the number is missing.
    """
    action = text_at(document, "action")
    if action not in runs:
        return Nothing(reason=f"a pull request that is {named(action)} needs no run")
    return Push(addresses=addresses, ref=f"refs/pull/{number_at(document, 'number')}/head")
