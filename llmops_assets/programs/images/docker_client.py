"""Docker's command line, with its own login and environment: what building and running share."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from llmops_assets.machine.redaction import redacted
from llmops_assets.programs.images.interface import BuilderFault
from llmops_assets.programs.runtime.specs import BuilderSpec

SHORT_S = 60.0


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
        password = os.environ.get(spec.password_env)
        if not password:
            raise BuilderFault(f"the environment variable {spec.password_env} (images.password) is not set")
        token = base64.b64encode(f"{spec.username}:{password}".encode()).decode()
        host = spec.registry.split("/")[0]
        self.config, file = self.folder, self.folder / "config.json"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump({"auths": {host: {"auth": token}}}, out)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        found = {"DOCKER_HOST": self.spec.host, "DOCKER_CONFIG": str(self.config)}
        if self.spec.host.startswith("tcp://") and (self.config / "ca.pem").is_file():
            found["DOCKER_TLS_VERIFY"] = "1"
        return found

    def whole_environment(self) -> dict[str, str]:
        own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LANG": "C.UTF-8"}
        build = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        return {**own, **build, **self.environment()}

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
