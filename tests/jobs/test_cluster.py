"""What a cluster needs: the package, a real standalone cluster, and the sweep on it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from als_spark.cli.sweep import main
from tests.drills.processes import QUICK_JVM
from tests.jobs.checkout import ROOT, Checkout, only_line, wait_for

# On the executors: which interpreter and which packages are theirs. Once more with the
# interpreter that they find by themselves, which an application can switch to on its way. Between
# the two a sweep of either placement, since the start of an application takes longer than all that.
LOOK_ABOUT = """\
import contextlib, io, json, shlex, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from als_spark.cli.launch import prepare_launch
from als_spark.cli.sweep import main
from als_spark.spark.session import start_session

prepare_launch()
spark = start_session("look")
context = spark.sparkContext

def look(_):
    import importlib, os, sys
    found = {"executable": sys.executable, "worker": os.getcwd()}
    for name in ("als_spark", "numpy", "pyarrow", "scipy", "threadpoolctl", "pyspark"):
        try:
            found[name] = os.path.abspath(importlib.import_module(name).__file__)
        except ImportError:
            found[name] = None
    yield found

def solve(_):
    import numpy as np
    from scipy.linalg import cho_factor, cho_solve
    matrix = np.array([[4.0, 1.0], [1.0, 3.0]])
    yield cho_solve(cho_factor(matrix), np.array([1.0, 2.0])).tolist()

keys = ("spark.executor.memory", "spark.dynamicAllocation.enabled")
answer = {
    "packaged": context.parallelize(range(2), 2).mapPartitions(look).collect(),
    "solved": context.parallelize([0], 1).mapPartitions(solve).collect(),
    "conf": [context.getConf().get(key) for key in keys],
}
said = io.StringIO()
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    answer["sweeps"] = [main(shlex.split(words)) for words in sys.argv[1:]]
answer["said"] = said.getvalue()
context.pythonExec = "python3"
answer["bare"] = context.parallelize(range(2), 2).mapPartitions(look).collect()
print(json.dumps(answer))
spark.stop()
"""


def load_package_script():
    spec = importlib.util.spec_from_file_location("package", ROOT / "scripts/lib/package.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Checkout:
    """A checkout for the tests that need much and change nothing of it."""
    checkout = Checkout(tmp_path_factory.mktemp("shared"))
    checkout.job("look", LOOK_ABOUT)
    assert checkout.run("scripts/setup.sh").returncode == 0
    return checkout


@pytest.fixture(scope="module")
def package(shared: Checkout) -> Path:
    """The folder that scripts/package.sh filled."""
    result = shared.run("scripts/package.sh")
    assert result.returncode == 0, result.stderr
    folder = shared.root / "dist"
    for kind in ("standalone", "yarn", "kubernetes"):
        assert f"--properties-file conf/spark-{kind}.conf" in result.stdout
    assert result.stdout.count(f"--py-files {(folder / 'als_spark.zip').as_uri()} ") == 3
    return folder


@pytest.fixture(scope="module")
def master(shared: Checkout, tmp_path_factory):
    """The URL of a cluster whose executors have a Python with no packages at all."""
    bare = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    started = shared.run("scripts/cluster.sh", "start", "--python", str(bare / "bin" / "python"))
    try:
        assert started.returncode == 0, started.stderr
        yield only_line(started.stdout)
    finally:
        shared.run("scripts/cluster.sh", "stop")


def packaged(master: str, package: Path, *more: str) -> str:
    """Return the options of spark-submit that scripts/package.sh prints, for two small workers."""
    code, environment = (package / name for name in ("als_spark.zip", "als_spark_env.tar.gz"))
    options = [f"--master={master}", f"--py-files={code.as_uri()}"]
    options += [f"--archives={environment.as_uri()}#environment"]
    options += ["--conf=spark.pyspark.python=./environment/bin/python"]
    options += ["--conf=spark.executor.memory=512m", "--conf=spark.executor.cores=1"]
    options += [f"--conf=spark.executor.extraJavaOptions={QUICK_JVM}"]
    # Not before both executors are there, however slow the machine.
    options += ["--conf=spark.cores.max=2", "--conf=spark.scheduler.minRegisteredResourcesRatio=1"]
    options += ["--conf=spark.scheduler.maxRegisteredResourcesWaitingTime=120s", *more]
    return shlex.join(options)


class TestPackage:
    def test_code_is_the_package_and_nothing_else(self, shared, package):
        expected = {
            path.relative_to(shared.root).as_posix()
            for path in (shared.root / "als_spark").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        with zipfile.ZipFile(package / "als_spark.zip") as archive:
            assert set(archive.namelist()) == expected
            for name in expected:
                assert archive.read(name) == (shared.root / name).read_bytes()

    def test_environment_holds_what_executors_need(self, package):
        with tarfile.open(package / "als_spark_env.tar.gz") as archive:
            names = archive.getnames()
        tops = {name.split("/")[1] for name in names if name.startswith("packages/")}
        for module in ("numpy", "scipy", "pyarrow", "threadpoolctl.py"):
            assert module in tops
        assert not tops & {"pyspark", "matplotlib", "als_spark", "pytest"}
        assert {"bin/python", "bin/python3"} <= set(names)
        assert not [name for name in names if name.endswith(".pyc")]

    def test_same_input_same_bytes(self, tmp_path, monkeypatch):
        module = load_package_script()
        monkeypatch.setattr(module, "interpreter_files", lambda: iter(()))
        code, environment = [], []
        for name in ("a", "b"):
            copy = tmp_path / name / "als_spark"
            shutil.copytree(ROOT / "als_spark", copy)
            module.write_code(tmp_path / "zip", copy)
            code.append((tmp_path / "zip").read_bytes())
            module.write_environment(tmp_path / "tar", ["threadpoolctl"])
            environment.append((tmp_path / "tar").read_bytes())
        assert code[0] == code[1]
        assert environment[0] == environment[1]

    def test_dependencies_of_the_distributions_come_along(self):
        module = load_package_script()
        assert module.with_dependencies(["chispa"]) == ["chispa", "prettytable", "wcwidth"]
        # Not what a distribution would take for its extras, though it is installed.
        assert module.with_dependencies(["scipy"]) == ["numpy", "scipy"]

    def test_a_driver_on_the_cluster_gets_all_that_the_package_requires(
        self, monkeypatch, tmp_path
    ):
        module = load_package_script()
        required = {
            re.match(r"[\w.-]+", requirement)[0]
            for requirement in metadata.requires("als-spark")
            if "extra ==" not in requirement
        }
        packed = {*module.EXECUTOR_DISTRIBUTIONS, *module.DRIVER_DISTRIBUTIONS}
        # PySpark is Spark's own.
        assert packed == required - {"pyspark"}
        written = []
        monkeypatch.setattr(module, "write_code", lambda part, _: part.touch())
        monkeypatch.setattr(
            module, "write_environment", lambda part, names: (part.touch(), written.append(names))
        )
        for more in ([], ["--driver"]):
            module.main(["--output", str(tmp_path), *more])
        assert [set(names) for names in written] == [{*module.EXECUTOR_DISTRIBUTIONS}, packed]

    def test_a_failed_build_leaves_nothing_half_written(self, tmp_path, monkeypatch):
        module = load_package_script()

        def fail(part, distributions):
            part.write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr(module, "write_environment", fail)
        with pytest.raises(OSError, match="disk full"):
            module.main(["--output", str(tmp_path / "new")])
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["als_spark.zip"]


# Each half-step is a Spark job: enough of them to tell apart what would differ.
SWEEP = ("--ranks", "1,5", "--lambdas", "1,4", "--dtype", "float64", "--seed", "3")
SWEEP += ("--max-iter", "4")


PLACEMENTS = ("grid", "ratings")


def sweep_of(placement: str, folder: Path) -> list[str]:
    """Options of a sweep into a folder of the placement's name."""
    return [*SWEEP, "--placement", placement, "--output", str(folder / placement)]


@pytest.fixture(scope="module")
def there(request, shared, master, package, tmp_path_factory) -> Path:
    """The folder of what an application on the cluster has found and made.

    It sweeps in the placements that a test of this run asks for.
    """
    folder = tmp_path_factory.mktemp("there")
    conf = shared.root / "conf" / "spark-standalone.conf"
    mine = [item for item in request.session.items if item.path == request.path]
    asked = {item.callspec.params.get("placement") for item in mine if hasattr(item, "callspec")}
    sweeps = [shlex.join(sweep_of(name, folder)) for name in PLACEMENTS if name in asked]
    result = shared.run(
        *("scripts/run.sh", "look", *sweeps),
        ALS_SPARK_SUBMIT_ARGS=packaged(master, package, f"--properties-file={conf}"),
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    (folder / "answer.json").write_text(result.stdout)
    return folder


@pytest.mark.slow
class TestCluster:
    def test_executors_need_only_spark_and_the_package(self, there):
        answer = json.loads((there / "answer.json").read_text())

        # Two processes, in directories of two workers.
        workers = {found["worker"] for found in answer["packaged"]}
        assert {Path(worker).parents[1].name for worker in workers} == {"worker-1", "worker-2"}
        packed = ("numpy", "pyarrow", "scipy", "threadpoolctl")
        for found in answer["packaged"]:
            environment = Path(found["worker"], "environment")
            assert Path(found["executable"]).is_relative_to(environment / "python")
            for name in packed:
                assert Path(found[name]).is_relative_to(environment / "packages")
            assert f"{found['worker']}/als_spark.zip" in found["als_spark"]
            # Spark's own, which the archive does not repeat.
            assert "pyspark.zip" in found["pyspark"]
        assert answer["solved"] == [pytest.approx([1 / 11, 7 / 11])]
        assert answer["conf"] == ["512m", "false"]

        # The Python of the workers has none of that, or the above would show nothing.
        for found in answer["bare"]:
            assert found["pyspark"]
            assert [found[name] for name in packed] == [None] * 4
        assert set(answer["sweeps"]) <= {0}, answer["said"]

    @pytest.mark.parametrize(
        "placement", [PLACEMENTS[0], pytest.param(PLACEMENTS[1], marks=pytest.mark.slow)]
    )
    def test_the_sweep_gives_the_results_of_local_mode(
        self, there, master, spark, tmp_path, placement
    ):
        assert main(sweep_of(placement, tmp_path)) == 0
        assert spark.sparkContext.master.startswith("local")
        mine, theirs = (
            {path.name: path for path in (folder / placement).iterdir()}
            for folder in (tmp_path, there)
        )
        assert mine.keys() == theirs.keys()
        assert json.loads(theirs["run.json"].read_text())["spark_master"] == master
        expected, found = (
            json.loads(files["results.json"].read_text()) for files in (mine, theirs)
        )
        assert len(found) == 4
        for here, remote in zip(expected, found, strict=True):
            del here["seconds"], remote["seconds"]
            assert remote == pytest.approx(here, rel=1e-9, abs=0)

    @pytest.mark.slow
    def test_life_cycle(self, shared, master):
        def processes() -> dict[str, int]:
            lines = shared.run("scripts/cluster.sh", "status").stderr.splitlines()
            return {name: int(pid) for name, pid in (line.split() for line in lines)}

        status = shared.run("scripts/cluster.sh", "status")
        assert (status.returncode, only_line(status.stdout)) == (0, master)
        before = processes()
        assert sorted(before) == ["master", "worker-1", "worker-2"]
        again = shared.run("scripts/cluster.sh", "start")
        assert (again.returncode, only_line(again.stdout)) == (0, master)
        assert processes() == before

        # Half a cluster is none, and `start` makes it whole, elsewhere or not.
        os.kill(before["worker-1"], signal.SIGKILL)
        wait_for(lambda: shared.run("scripts/cluster.sh", "status").returncode == 3)
        started = shared.run("scripts/cluster.sh", "start", "--workers", "1")
        assert started.returncode == 0, started.stderr
        after = processes()
        assert sorted(after) == ["master", "worker-1"]
        assert not set(after.values()) & set(before.values())

        stopped = shared.run("scripts/cluster.sh", "stop")
        assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "", "")
        for pid in (before | after).values():
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert shared.run("scripts/cluster.sh", "status").returncode == 3
        assert shared.run("scripts/cluster.sh", "stop").returncode == 0

    def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing(self, shared, tmp_path):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            result = shared.run(
                *("scripts/cluster.sh", "start", "--state-dir", str(tmp_path / "state")),
                *("--port", port),
            )
        assert (result.returncode, result.stdout) == (1, "")
        assert "the cluster did not start: master ended" in result.stderr.splitlines()[-1]
        assert "BindException" in result.stderr
        assert not list((tmp_path / "state").glob("*.pid"))
