"""Who may ask what: API keys of clients, and the tokens by which our own requests address one release.

Keys are stored as SHA-256 digests: each is 256 random bits, so a digest cannot be turned back. Tokens are derived from
one secret of this home, which is created once: they are as unguessable, and need no state of their own.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, ValidationError

from llmops_assets.domain.models import Frozen
from llmops_assets.machine.files import write_atomically
from resources.serving.interface import ServingError

PREFIX = "llmops-"
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class ApiKey(Frozen):
    """One key of a client. A client may have several, so that it can change to a new one before the old is revoked."""

    client: str
    project: str | None = Field(default=None, description="The only project whose endpoints it opens; None: all.")
    sha256: str
    created: float = Field(description="Epoch seconds.")

    @property
    def id(self) -> str:
        """Names the key to people; reveals nothing of it."""
        return self.sha256[:12]


class _Keys(Frozen):
    keys: tuple[ApiKey, ...] = ()


class Access:
    """The files `keys.json` and `secret` of a serving folder. Callers hold the serving's lock when they change them."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._secret, self._clock = folder / "keys.json", folder / "secret", clock

    def keys(self) -> tuple[ApiKey, ...]:
        """All keys, oldest first.

        Raises:
            ServingError: the file is not readable: then no key is valid.
        """
        try:
            return _Keys.model_validate_json(self._keys.read_bytes()).keys
        except FileNotFoundError:
            return ()
        except (ValidationError, OSError) as error:
            raise ServingError(
                f"{self._keys} cannot be read, so no API key is known; restore it, or move it away and issue new keys"
            ) from error

    def add(self, client: str, project: str | None) -> tuple[ApiKey, str]:
        """Issues a key; returns it with the text that the client sends, which is not stored.

        Raises:
            ServingError: the client's name is not valid.
        """
        if not _CLIENT.fullmatch(client):
            raise ServingError(f"{client!r} is no client's name: letters, digits, and . _ @ -, at most 64 of them")
        text = PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(
            client=client, project=project, sha256=hashlib.sha256(text.encode()).hexdigest(), created=self._clock()
        )
        self._store((*self.keys(), key))
        return key, text

    def revoke(self, client: str, id: str | None = None) -> tuple[ApiKey, ...]:
        """Revokes a client's keys, or the one with this id; returns them."""
        gone = tuple(k for k in self.keys() if k.client == client and (id is None or k.id.startswith(id)))
        self._store(tuple(k for k in self.keys() if k not in gone))
        return gone

    def token(self, purpose: str) -> str:
        """The token for a purpose, such as a release's digest.

        Raises:
            ServingError: the secret cannot be read or created.
        """
        return hmac.new(self._read_secret(), purpose.encode(), hashlib.sha256).hexdigest()

    def _read_secret(self) -> bytes:
        try:
            if not self._secret.exists():
                self._secret.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                part = self._secret.with_name(f"secret.{secrets.token_hex(8)}.part")
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(32))
                try:
                    os.link(part, self._secret)  # of several processes the first one's stays
                except FileExistsError:
                    pass
                finally:
                    part.unlink()
            found = self._secret.read_bytes()
        except OSError as error:
            raise ServingError(f"{self._secret} cannot be read: {error.strerror}") from error
        if len(found) < 32:
            raise ServingError(f"{self._secret} is damaged; remove it, and the next deployment makes a new one")
        return found

    def _store(self, keys: tuple[ApiKey, ...]) -> None:
        write_atomically(self._keys, _Keys(keys=keys).model_dump_json(indent=1))
