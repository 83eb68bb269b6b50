"""Docker's command line, with its own login and environment: what building and running share."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from llmops_assets.machine.redaction import redacted
from llmops_assets.programs.images.interface import BuilderFault
from llmops_assets.programs.runtime.specs import BuilderSpec

SHORT_S = 60.0
HELPER = "llmops"
_HELPER = """\
#!{python} -IS
import json, os
print(json.dumps({{"Username": {user!r}, "Secret": os.environ[{variable!r}]}}))
"""
"""Docker's client asks it for the login: so the password is in an environment, and never in a file."""


class DockerClient:
    """Docker's command line with its own login, in a private folder that `close` deletes."""

    def __init__(self, spec: BuilderSpec, folder: Path):
        self.spec, self.folder = spec, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        client = shutil.which(spec.client)
        if client is None:
            raise BuilderFault(f"{spec.client} is not installed here (images.client); install Docker's client")
        self.client = client
        self._log_in()

    def _log_in(self) -> None:
        spec = self.spec
        self.config = Path(spec.docker_config) if spec.docker_config else self.folder
        if spec.username is None or spec.password_env is None:
            return
        if not os.environ.get(spec.password_env):
            raise BuilderFault(f"the environment variable {spec.password_env} (images.password) is not set")
        self.config = self.folder
        helper = self.folder / f"docker-credential-{HELPER}"
        helper.write_text(_HELPER.format(python=sys.executable, user=spec.username, variable=spec.password_env))
        helper.chmod(0o700)
        config = {"credHelpers": {spec.registry.split("/")[0]: HELPER}}
        (self.folder / "config.json").write_text(json.dumps(config))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        found = {"DOCKER_HOST": self.spec.host, "DOCKER_CONFIG": str(self.config)}
        if self.spec.host.startswith("tcp://") and (self.config / "ca.pem").is_file():
            found["DOCKER_TLS_VERIFY"] = "1"
        return found

    def whole_environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder), os.environ.get("PATH", os.defpath)])
        own = {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8"}
        build = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        name = self.spec.password_env
        login = {name: os.environ[name]} if name and name in os.environ else {}
        return {**own, **build, **login, **self.environment()}

    def version(self) -> str:
        return self.docker(["version", "--format", "{{.Server.Version}}"], SHORT_S)

    def docker(self, words: Sequence[str], seconds: float, check: bool = True) -> str:
        what = f"docker {words[0]}" if words[0] != "image" else f"docker image {words[1]}"
        try:
            done = subprocess.run(
                [self.client, *words],
                env=self.whole_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BuilderFault(f"{what} did not end within {seconds:g} s") from None
        if done.returncode and check:
            said = " ".join(done.stderr.split())[-500:] or f"exit code {done.returncode}"
            raise BuilderFault(redacted(f"{what} failed: {said}"))
        return done.stdout.strip()
