"""YARN and HDFS: the commands of docs/clusters.md, and the store on a real NameNode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.documented import (
    TrialCheckout,
    assert_same,
    block,
    needs_clusters,
    run_there,
)

pytestmark = pytest.mark.slow

FS = "spark-class org.apache.hadoop.fs.FsShell"
CONF = "export HADOOP_CONF_DIR=$PWD/.cluster/conf\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialCheckout]:
    """A checkout after the page's first commands: packed, the cluster up, the ratings on HDFS."""
    needs_clusters()
    checkout = TrialCheckout(tmp_path_factory.mktemp("yarn"))
    try:
        done = checkout.commands(block("FsShell"))
        if "Maven could not fetch" in done.stderr:
            pytest.skip(done.stderr.splitlines()[-1])
        assert done.returncode == 0, done.stderr
        yield checkout
    finally:
        checkout.commands("scripts/cluster.sh stop")


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_the_commands_of_the_page(
    checkout: TrialCheckout, mode: str, tmp_path: Path, local: Path
) -> None:
    done = checkout.commands(CONF + block(f"hdfs:///{mode}/sweep"))
    assert done.returncode == 0, done.stderr
    # What the job says is on the driver's machine.
    assert ("best: d=" in done.stdout) == (mode == "client")
    fetched = checkout.commands(f"{CONF}{FS} -get /{mode} '{tmp_path}'")
    assert fetched.returncode == 0, fetched.stderr
    assert_same(local, tmp_path / mode)
    again = checkout.commands(f"{CONF}{FS} -ls -C /{mode} /{mode}/models/staging")
    # Nothing is left beside the results, nor in the store.
    left = [f"/{mode}/{name}" for name in ("models", "sweep", "top")]
    assert sorted(again.stdout.split()) == left


def test_exit_codes(checkout: TrialCheckout) -> None:
    function = block("hdfs:///client/sweep").partition("on_yarn jobs")[0]
    done = checkout.commands(
        f"{CONF}{function}on_yarn jobs/recommend.py --store hdfs:///none --output hdfs:///no"
    )
    assert done.returncode == 2
    # spark-submit prints all that a Python program says on its standard output.
    assert "recommend: --store hdfs:///none: there is no model store: check the path" in done.stdout
    function = block("hdfs:///cluster/sweep").partition("on_yarn jobs")[0]
    done = checkout.commands(
        f"{CONF}{function}"
        "on_yarn --files conf/sweep.toml "
        "jobs/sweep.py --config sweep.toml --ratings hdfs:///ratings.csv --output lost"
    )
    assert done.returncode == 1
    # As docs/clusters.md tells; and once only.
    assert "User application exited with status 2" in done.stderr
    logs = max((checkout.root / ".cluster" / "work" / "logs").iterdir())
    (said,) = [path.read_text() for path in logs.glob("*_000001/stdout")]
    assert "--output lost: the driver runs on the cluster (--deploy-mode cluster)" in said
    assert not list(logs.glob("container_*_02_*"))


@pytest.mark.parametrize(("file", "step"), [("remote_files.py", 3), ("remote_checkpoints.py", 7)])
def test_store_and_checkpoints_on_hdfs(checkout: TrialCheckout, file: str, step: int) -> None:
    conf = checkout.root / ".cluster" / "conf"
    run_there(checkout, file, "hdfs:///tests", step, HADOOP_CONF_DIR=str(conf))


def test_life_cycle(checkout: TrialCheckout) -> None:
    status = checkout.commands("scripts/cluster.sh status")
    assert (status.returncode, status.stdout) == (0, f"{checkout.root}/.cluster/conf\n")
    names = {line.split()[0] for line in status.stderr.splitlines()}
    assert names == {"namenode", "datanode", "resourcemanager", "nodemanager"}
    other = checkout.commands("scripts/cluster.sh start")
    assert other.returncode == 2
    assert "is of --manager yarn: stop it first" in other.stderr
    stopped = checkout.commands("scripts/cluster.sh stop")
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert checkout.commands("scripts/cluster.sh status").returncode == 3


def test_without_maven(tmp_path: Path) -> None:
    checkout = TrialCheckout(tmp_path)
    checkout.program("mvn", "#!/bin/sh\necho '[ERROR] no way out' >&2\nexit 1\n")
    done = checkout.commands("scripts/cluster.sh start --manager yarn")
    assert done.returncode == 2
    assert "Maven could not fetch Hadoop" in done.stderr.splitlines()[-1]
    assert "no way out" in done.stderr
    assert not list((tmp_path / "checkout" / ".cluster").glob("*.pid"))
