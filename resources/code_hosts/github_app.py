"""The token of a GitHub App's installation, from the App's private key: made when it is needed, renewed before its end.

A JSON Web Token, signed by the key and valid for minutes, asks for a token of one installation, valid for an hour:
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from resources.code_hosts.http import Api
from resources.code_hosts.interface import HostRefuses, HostUnavailable

CLOCKS_DIFFER_S, VALID_S = 60, 540
"""A token's time of issue is a minute back, as GitHub's documentation asks; it may be valid for 10 minutes at most."""
RENEW_S = 300.0
"""How long before its end an installation's token is replaced."""


class AppKey(NamedTuple):
    """What proves to be a GitHub App."""

    app: str
    """Its client id, or its numeric id."""
    private_key: str
    """PEM."""
    installation: int | None = None
    """None: that of the repository."""


class BadKey(ValueError):
    """The private key cannot sign. The message does not contain it."""


class InstallationToken:
    """Gives a valid token of the installation for one repository.

    Args:
        headers: of each request; without credentials.
        clock: epoch seconds.

    Raises:
        BadKey: the key is no private RSA key in PEM.
    """

    def __init__(
        self, api: str, repository: str, key: AppKey, headers: Mapping[str, str], clock: Callable[[], float] = time.time
    ):
        self._base, self._repository, self._key, self._headers, self._clock = api, repository, key, headers, clock
        self._token, self._ends = "", 0.0
        self._signed()

    def __call__(self) -> str:
        """The token.

        Raises:
            HostUnavailable: none can be had; the message says which step failed.
        """
        if not self._token or self._clock() > self._ends - RENEW_S:
            self._renew()
        return self._token

    def forget(self) -> None:
        """Notes that the host does not accept the token any more."""
        self._token = ""

    def _renew(self) -> None:
        signed = self._signed()
        api = Api(self._base, {**self._headers, "Authorization": f"Bearer {signed}"}, signed, self._clock)
        try:
            installation = self._key.installation or self._installation(api)
            asked = {"repositories": [self._repository.rpartition("/")[2]]}
            made = api.request("POST", f"/app/installations/{installation}/access_tokens", asked)
            self._token, self._ends = str(made["token"]), _epoch(str(made["expires_at"]))
        except (HostUnavailable, HostRefuses) as error:
            # Without a token nothing can be posted: the host is tried again as a whole, not for each answer.
            wait_s = error.wait_s if isinstance(error, HostUnavailable) else None
            raise HostUnavailable(f"no token for the GitHub App {self._key.app}: {error}", wait_s) from error
        except (LookupError, TypeError, ValueError) as error:
            raise HostUnavailable("the answer has no token of an installation; is `api` GitHub's?") from error
        finally:
            api.close()

    def _installation(self, api: Api) -> int:
        try:
            return int(api.get(f"/repos/{quote(self._repository)}/installation")["id"])
        except HostRefuses as error:
            if error.status != 404:
                raise
            told = f"it is not installed on {self._repository}; install it there, for the permissions that are listed"
            raise HostRefuses(told, error.status) from error

    def _signed(self) -> str:
        """The App's JSON Web Token, by RS256."""
        import jwt

        now = int(self._clock())
        claims: dict[str, Any] = {"iss": self._key.app, "iat": now - CLOCKS_DIFFER_S, "exp": now + VALID_S}
        # A variable often holds a PEM on one line.
        pem = self._key.private_key.replace("\\n", "\n").strip() + "\n"
        try:
            return jwt.encode(claims, pem, algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise BadKey("it holds no private RSA key in PEM (-----BEGIN RSA PRIVATE KEY-----)") from error


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
