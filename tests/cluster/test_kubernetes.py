"""Kubernetes without a cluster: the pods that Spark asks for, and the operator's own types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api_server import ApiServer, api_server
from tests.cluster.documented import needs_asking
from tests.jobs.checkout import PYSPARK, ROOT, wait_for

pytestmark = pytest.mark.slow

OPERATOR = "github.com/kubeflow/spark-operator/v2"
OPERATOR_VERSION = "v2.4.0"
DECODE = f"""\
package main

import (
	"fmt"
	"os"

	"{OPERATOR}/api/v1beta2"
	"sigs.k8s.io/yaml"
)

func main() {{
	text, err := os.ReadFile(os.Args[1])
	if err == nil {{
		err = yaml.UnmarshalStrict(text, &v1beta2.ScheduledSparkApplication{{}})
	}}
	if err != nil {{
		fmt.Println(err)
		os.Exit(1)
	}}
}}
"""
SETTINGS = {
    "spark.kubernetes.container.image": "registry/als_spark:1",
    "spark.kubernetes.namespace": "trial",
    "spark.kubernetes.authenticate.driver.serviceAccountName": "spark",
    "spark.kubernetes.submission.waitAppCompletion": "false",
    "spark.pyspark.python": "/opt/als_spark/.venv/bin/python",
    "spark.pyspark.driver.python": sys.executable,
    # The page is no part of a pod.
    "spark.ui.enabled": "false",
}


def submit(server: ApiServer, mode: str, *job: str) -> subprocess.Popen[str]:
    """Start spark-submit with the settings of conf/ and what a user has to add."""
    command = [str(PYSPARK / "bin" / "spark-submit"), "--master", f"k8s://{server.url}"]
    command += ["--properties-file", "conf/spark-kubernetes.conf", "--deploy-mode", mode]
    command += [word for item in SETTINGS.items() for word in ("--conf", "=".join(item))]
    return subprocess.Popen(
        [*command, *job],
        cwd=ROOT,
        env=os.environ | {"SPARK_HOME": str(PYSPARK)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def mebibytes(pod: dict[str, Any]) -> int:
    """Memory at which a pod of one container is killed."""
    (container,) = pod["spec"]["containers"]
    memory = container["resources"]["limits"]["memory"]
    assert memory == container["resources"]["requests"]["memory"]
    assert memory.endswith("Mi")
    return int(memory.removesuffix("Mi"))


def test_the_pod_of_a_driver() -> None:
    needs_asking()
    job = ["local:///opt/als_spark/jobs/retrain.py", "--ratings", "s3a://b/ratings"]
    with api_server() as server:
        process = submit(server, "cluster", *job)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (pod,) = server.of_kind("Pod")
    (container,) = pod["spec"]["containers"]
    assert container["args"][-3:] == job
    assert container["image"] == SETTINGS["spark.kubernetes.container.image"]
    assert pod["spec"]["serviceAccountName"] == "spark"
    # A pod that has ended is not started again: a training is tried once.
    assert pod["spec"]["restartPolicy"] == "Never"
    # 4g of heap, and three quarters of it for the driver's Python.
    assert mebibytes(pod) == 7168
    (properties,) = [
        found["data"]["spark.properties"]
        for found in server.of_kind("ConfigMap")
        if "spark.properties" in found["data"]
    ]
    for line in ("spark.executor.memoryOverheadFactor=0.75", "spark.executor.instances=4"):
        assert line in properties.splitlines()


def test_the_pods_of_executors(tmp_path: Path) -> None:
    needs_asking()
    with api_server() as server:
        output = str(tmp_path / "out")
        process = submit(server, "client", str(ROOT / "jobs" / "sweep.py"), "--output", output)
        try:
            wait_for(lambda: len(server.of_kind("Pod")) >= 4 or process.poll() is not None, 300)
        finally:
            process.kill()
            said, _ = process.communicate(timeout=60)
    pods = server.of_kind("Pod")
    assert len(pods) == 4, said
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["args"] == ["executor"]
        assert container["resources"]["requests"]["cpu"] == "4"
        # 4g of heap, and three quarters of it for four Python workers.
        assert mebibytes(pod) == 7168


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that reads a manifest as the operator does, but refuses what it does not know."""
    needs_asking()
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs Go (go) for the types of the Spark operator")
    folder = tmp_path_factory.mktemp("operator")
    (folder / "main.go").write_text(DECODE, encoding="utf-8")
    for words in (
        ["mod", "init", "decode"],
        ["get", f"{OPERATOR}/api/v1beta2@{OPERATOR_VERSION}"],
        ["mod", "tidy"],
        ["build", "-o", "decode", "."],
    ):
        done = subprocess.run([go, *words], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode and words[0] == "get":
            pytest.skip(f"go cannot fetch the Spark operator: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
    return folder / "decode"


MANIFEST = ROOT / "conf" / "schedule" / "kubernetes-retrain.yaml"


def test_the_manifest_by_the_types_of_the_operator(decoder: Path, tmp_path: Path) -> None:
    def decode(path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([decoder, path], capture_output=True, text=True, check=False)

    done = decode(MANIFEST)
    assert done.returncode == 0, done.stdout
    text = MANIFEST.read_text(encoding="utf-8")
    for line, other in (
        ("onFailureRetries: 0", "onFailureRetries: none"),
        ("memoryOverhead: 3g", "memoryOverheads: 3g"),
    ):
        assert line in text
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(text.replace(line, other, 1), encoding="utf-8")
        assert decode(wrong).returncode == 1, other
