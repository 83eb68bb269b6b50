"""What a remote's branches and tags point to, in one round trip and without fetching.

The newest version of Git's protocol sends only the refs that were asked for, but needs a second round trip to ask. So
version 0 is used, unless the remote has so many refs that sending them all takes longer.
"""

import subprocess
from collections.abc import Mapping

from resources.project_source.errors import SourceError
from resources.project_source.git import GitError, environment

MANY_REFS = 2000
"""About 120 KB. A repository on GitHub has two refs for each pull request it ever had."""
ANSWER_LIMIT_S = 30.0
_ENDED = (124, 137)
"""Exit codes of `timeout`."""
_KEPT = ("refs/heads/", "refs/tags/")


class RemoteRefs:
    """Asks one remote.

    Args:
        limit_s: how long it may take to answer.
    """

    def __init__(self, limit_s: float = ANSWER_LIMIT_S):
        self._limit_s, self._many = limit_s, False

    def __call__(self, url: str, credentials: Mapping[str, str], more: tuple[str, ...] = ()) -> dict[str, str]:
        """The remote's branches and tags, and other refs: their names, and what they point to.

        Args:
            url: without credentials.
            credentials: variables in which Git finds them.
            more: how the names of the other refs begin.

        Raises:
            GitError: it cannot be reached, is no repository, or does not answer in time.
        """
        # `timeout` ends Git's helpers too, as ssh, which would outlive Git and wait for the remote without end.
        version = "2" if self._many else "0"
        command = ["timeout", "--kill-after=5", f"{self._limit_s:g}", "git", "-c", f"protocol.version={version}"]
        kept = (*_KEPT, *more)
        patterns = tuple(f"{prefix}*" for prefix in kept)
        try:
            done = subprocess.run(
                [*command, "ls-remote", "--quiet", "--", url, *(patterns if self._many else ())],
                env={**environment(), **credentials},
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
        except FileNotFoundError as error:
            raise SourceError(f"{error.filename}: not found; install it and try again") from error
        if done.returncode in _ENDED:
            raise GitError(f"the remote did not answer within {self._limit_s:g} s")
        if done.returncode:
            raise GitError("git ls-remote failed", done.stderr.decode(errors="replace").strip())
        lines = [line.split("\t", 1) for line in done.stdout.decode(errors="surrogateescape").splitlines()]
        self._many = len(lines) > MANY_REFS
        return {
            line[1]: line[0] for line in lines if len(line) == 2 and line[1].startswith(_KEPT) and "^{" not in line[1]
        }
