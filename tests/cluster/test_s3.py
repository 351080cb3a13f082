"""S3A on a standalone cluster: the commands of docs/clusters.md, and the store on a real server.

The server is moto's, which knows ``If-None-Match`` of a write. It gets an environment of its own.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.documented import (
    TrialCheckout,
    assert_same,
    block,
    needs_clusters,
    run_there,
)
from tests.conftest import ROOT
from tests.drills.processes import SUBMIT
from tests.jobs.checkout import wait_for

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
SIGNED = "AWS4-HMAC-SHA256 Credential=key/20261128/us-east-1/s3/aws4_request, Signature=0"


class Server(NamedTuple):
    """A server with a bucket."""

    endpoint: str

    def ask(self, path: str, method: str = "GET", data: bytes | None = None) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        # Moto takes the usual type for a form, whose object is empty; it lets only somebody with a
        # name read, and does not look at the signature.
        headers = {"Content-Type": "application/octet-stream", "Authorization": SIGNED}
        request = urllib.request.Request(f"{self.endpoint}/{path}", data, headers, method=method)
        with opener.open(request, timeout=60) as answer:
            return bytes(answer.read())

    def names(self) -> list[str]:
        listed = ET.fromstring(self.ask("trial?list-type=2&max-keys=1000"))
        return [key.text or "" for key in listed.findall(".//{*}Key")]

    def fetch(self, folder: Path) -> None:
        for name in self.names():
            if not name.endswith("/"):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.ask(f"trial/{urllib.parse.quote(name)}"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    needs_clusters()
    folder = tmp_path_factory.mktemp("moto")
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "moto[s3,server]>=5.1"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"pip cannot install moto: {done.stderr.splitlines()[-1]}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, ROOT / "tests" / "cluster" / "s3_server.py", str(port)],
            stdout=log,
            stderr=log,
        )
    server = Server(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        try:
            server.ask("trial", "PUT")
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            return False
        return True

    try:
        wait_for(answers)
        yield server
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> TrialCheckout:
    """A checkout with the packages, and the jars of S3A, which Maven fetches."""
    needs_clusters()
    checkout = TrialCheckout(tmp_path_factory.mktemp("s3"))
    done = checkout.commands(block("s3a.xml").partition("MASTER_URL")[0])
    if done.returncode:
        pytest.skip(f"Maven cannot fetch hadoop-aws: {(done.stdout + done.stderr)[:300]}")
    packed = checkout.commands("scripts/package.sh")
    assert packed.returncode == 0, packed.stderr
    return checkout


def test_the_commands_of_the_page(
    checkout: TrialCheckout, server: Server, tmp_path: Path, local: Path
) -> None:
    server.ask("trial/ratings.csv", "PUT", checkout.ratings.read_bytes())
    try:
        done = checkout.commands(block("s3a.xml"), ENDPOINT=server.endpoint, **KEYS)
    finally:
        checkout.commands("scripts/cluster.sh stop")
    assert done.returncode == 0, done.stderr
    server.fetch(tmp_path)
    assert_same(local, tmp_path)
    # Nothing is left beside the results, nor in the store.
    names = {name.rstrip("/") for name in server.names()}
    assert {name.partition("/")[0] for name in names} == {"models", "ratings.csv", "sweep", "top"}
    assert not [name for name in names if name.startswith("models/staging/")]


@pytest.mark.parametrize(("file", "step"), [("remote_files.py", 6), ("remote_checkpoints.py", 9)])
def test_store_and_checkpoints_on_s3(
    checkout: TrialCheckout, server: Server, file: str, step: int
) -> None:
    hadoop = "spark.hadoop.fs.s3a"
    options = [
        f"--driver-class-path={checkout.root}/dist/s3a/*",
        f"--conf={hadoop}.endpoint={server.endpoint}",
        f"--conf={hadoop}.endpoint.region=us-east-1",
        f"--conf={hadoop}.path.style.access=true",
    ]
    submit = " ".join([*options, SUBMIT])
    run_there(checkout, file, "s3a://trial/tests", step, PYSPARK_SUBMIT_ARGS=submit, **KEYS)
