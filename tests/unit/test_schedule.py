"""The examples of conf/schedule/: what cron, systemd, Airflow and Kubernetes would make of them."""

from __future__ import annotations

import configparser
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "conf" / "schedule"
CRONTAB = FOLDER / "retrain.crontab"
SERVICE = FOLDER / "als-spark-retrain.service"
TIMER = FOLDER / "als-spark-retrain.timer"
DAG = FOLDER / "airflow_retrain.py"
KUBERNETES = FOLDER / "kubernetes-retrain.yaml"
FILES = (CRONTAB, SERVICE, TIMER, DAG, KUBERNETES)

CODES = {
    0: "published; also: nothing new, the snapshot was trained on already",
    1: "anything else: the traceback is in the log",
    2: "bad input or configuration: one line says what, and the remedy",
    3: "kept the champion: the challenger was worse",
    4: "data check failed: nothing changed",
    5: "locked: another run is at work on the store",
    130: "stopped by SIGTERM or Ctrl-C",
}

# The checkout, in every example.
PLACE = "/opt/als_spark"

# What the jobs take, with the options that the examples must give.
OPTIONS = {
    "retrain": {"--ratings", "--increments", "--store", "--config", "--force"},
    "recommend": {"--store", "--output", "--top"},
}
NEEDED = {"retrain": {"--ratings", "--store"}, "recommend": {"--store", "--output"}}


def check_command(job: str, arguments: list[str]) -> dict[str, str]:
    """Check a job's name and arguments; return its options."""
    assert job in OPTIONS
    names, values = arguments[::2], arguments[1::2]
    assert len(names) == len(values)
    assert set(names) <= OPTIONS[job]
    assert set(names) >= NEEDED[job]
    assert all(values)
    assert not any(value.startswith("--") for value in values)
    return dict(zip(names, values, strict=True))


def job_of(application: str) -> str:
    """The job of a file in the checkout's jobs/."""
    found = re.fullmatch(rf"(?:local://)?{PLACE}/jobs/(\w+)\.py", application)
    assert found is not None, application
    return found[1]


def test_every_file_of_the_folder_is_tested():
    files = {path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert files == set(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestEveryFile:
    def test_names_every_exit_code_in_the_same_words(self, path):
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [re.fullmatch(r"(?:#   | {4})(\d+) {2,4}(\S.*)", line) for line in lines]
        codes = {int(match[1]): match[2] for match in found if match}
        assert codes == CODES
        # At the top, where one looks.
        assert max(number for number, match in enumerate(found) if match) < 12

    def test_says_how_to_install_it(self, path):
        assert re.search(r"[Tt]o install", path.read_text(encoding="utf-8"))

    def test_the_paths_of_the_checkout_are_those_of_its_files(self, path):
        # What others of the project write, and what scripts make.
        coming = {"conf/retrain.toml", "jobs/retrain.py", "jobs/recommend.py"}
        made = {"dist/als_spark.zip", "dist/als_spark_env.tar.gz", ".venv/bin/python"}
        text = path.read_text(encoding="utf-8").replace("{ROOT}", PLACE)
        named = set(re.findall(rf"{PLACE}/([\w./]*\w)", text))
        named |= set(re.findall(r"\b((?:scripts|conf|jobs)/[\w./-]*\w)", text))
        assert named
        for name in named - coming - made:
            assert (ROOT / name).exists() or list(ROOT.glob(f"{name}*")), name


def fields_of(line: str) -> tuple[list[str], str]:
    """The five fields of a crontab's line, and its command."""
    *fields, command = line.split(None, 5)
    return fields, command


def check_fields(fields: list[str]) -> None:
    """Minute, hour, day, month, weekday: numbers, ranges, steps and lists, or *."""
    bounds = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    assert len(fields) == len(bounds)
    for field, (low, high) in zip(fields, bounds, strict=True):
        for part in field.split(","):
            match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
            assert match is not None, field
            assert all(low <= int(number) <= high for number in match.groups()[:2] if number)


class TestCrontab:
    LINES: ClassVar = [
        line
        for line in CRONTAB.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]

    @property
    def command(self) -> str:
        return fields_of(self.LINES[-1])[1]

    def test_settings_then_one_line_of_five_fields(self):
        *settings, line = self.LINES
        names = [re.fullmatch(r"([A-Z_]+)=(\S+)", setting)[1] for setting in settings]
        assert names == ["SHELL", "PATH", "MAILTO"]
        check_fields(fields_of(line)[0])

    @pytest.mark.parametrize(
        "fields", ["60 3 * * *", "0 24 * * *", "0 3 0 * *", "0 3 * *", "x 3 * * *", "*/0 * * * *"]
    )
    def test_the_check_of_the_fields_can_fail(self, fields):
        with pytest.raises(AssertionError):
            check_fields(fields.split())

    def test_command(self):
        # An unescaped % would end the command, and begin its standard input.
        assert re.search(r"(?<!\\)%", self.command) is None
        words = shlex.split(self.command.split(">>")[0])
        assert words[:5] == ["cd", PLACE, "&&", "scripts/run.sh", "retrain"]
        check_command("retrain", words[4 + 1 :])

    @pytest.mark.parametrize("code", CODES)
    def test_what_is_mailed(self, tmp_path, code):
        place, log = tmp_path / "place", tmp_path / "retrain.log"
        (place / "scripts").mkdir(parents=True)
        program = place / "scripts" / "run.sh"
        program.write_text(f'#!/bin/sh\necho "$@"\necho the reason >&2\nexit {code}\n')
        program.chmod(0o755)
        command = self.command.replace(PLACE, str(place)).replace("\\%", "%")
        command = command.replace("/var/log/als_spark/retrain.log", str(log))
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.stderr == ""
        assert re.match(r"retrain --ratings /data/ratings/\d{4}-\d\d-\d\d ", log.read_text())
        if code == 0:
            assert done.stdout == ""
        elif code == 3:
            (line,) = done.stdout.splitlines()
            assert CODES[3].split(": ")[1] in line
        else:
            assert done.stdout.startswith(
                f"als_spark: retraining ended with exit code {code}\nretrain --ratings "
            )
            assert done.stdout.endswith("the reason\n")


def unit(path: Path) -> dict[str, dict[str, str]]:
    """The sections of a systemd unit, a key that is given twice keeping its last value."""
    parser = configparser.ConfigParser(
        strict=False, delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None
    )
    parser.optionxform = str
    parser.read_string(path.read_text(encoding="utf-8"))
    return {name: dict(parser[name]) for name in parser.sections()}


class TestSystemd:
    def test_service(self):
        sections = unit(SERVICE)
        assert sections.keys() == {"Unit", "Service"}
        service = sections["Service"]
        assert service["Type"] == "oneshot"
        program, job, *arguments = shlex.split(service["ExecStart"])
        assert program == f"{PLACE}/scripts/run.sh"
        options = check_command(job, arguments)
        # What the file of the environment has to hold stands at the top.
        top = SERVICE.read_text(encoding="utf-8").split("[Unit]")[0]
        for value in options.values():
            name = re.fullmatch(r"\$\{([A-Z]+)\}", value)[1]
            assert f"{name}=/" in top
        assert service["EnvironmentFile"] in top
        assert service["KillMode"] == "control-group"

    def test_what_is_tried_again(self):
        sections = unit(SERVICE)
        service, head = sections["Service"], sections["Unit"]
        success = {0, *map(int, service["SuccessExitStatus"].split())}
        final = set(map(int, service["RestartPreventExitStatus"].split()))
        assert service["Restart"] == "on-failure"
        assert success == {0, 3}
        assert final == {2, 4}
        assert CODES.keys() - success - final == {1, 5, 130}
        # The starts of one night count together, those of the next do not.
        assert head["StartLimitIntervalSec"] == "20h"
        assert int(head["StartLimitBurst"]) > 1
        assert "OnFailure" in head

    def test_timer(self):
        sections = unit(TIMER)
        assert sections.keys() == {"Unit", "Timer", "Install"}
        assert TIMER.stem == SERVICE.stem
        assert sections["Timer"]["Persistent"] == "true"
        assert sections["Timer"]["RandomizedDelaySec"] == "30min"
        assert re.fullmatch(r"\*-\*-\* \d\d:\d\d:\d\d", sections["Timer"]["OnCalendar"])
        assert sections["Install"]["WantedBy"] == "timers.target"

    def test_systemd_has_no_complaint(self, tmp_path):
        checkout, units = tmp_path / "als_spark", tmp_path / "units"
        checkout.symlink_to(ROOT)
        units.mkdir()
        for path in (SERVICE, TIMER):
            text = path.read_text(encoding="utf-8")
            assert "\n[" in text
            (units / path.name).write_text(text.replace(PLACE, str(checkout)))
        program = shutil.which("systemd-analyze")
        if program is None:
            # Elsewhere than on systemd's machines: the checks above are what there is.
            return
        # To know that it does complain: it ends well even where it does not know a key.
        (units / "wrong.service").write_text("[Service]\nExecStart=/bin/true\nKilMode=mixed\n")
        complaints = {}
        for name in ("wrong.service", SERVICE.name, TIMER.name):
            done = subprocess.run(
                [program, "verify", str(units / name)],
                capture_output=True,
                text=True,
                check=False,
                timeout=180,
            )
            lines = done.stderr.splitlines()
            complaints[name] = [line for line in lines if name.split(".")[0] in line]
        assert "KilMode" in " ".join(complaints["wrong.service"])
        assert complaints[SERVICE.name] == complaints[TIMER.name] == []


class AirflowException(Exception):
    """Stands in for Airflow's."""


class AirflowFailException(AirflowException):
    """Stands in for Airflow's."""


class AirflowSkipException(AirflowException):
    """Stands in for Airflow's."""


class FakeDAG:
    """Takes what Airflow's DAG takes of the example's, and collects its tasks."""

    current: ClassVar[FakeDAG | None] = None

    def __init__(
        self, *, dag_id, schedule, start_date, catchup, max_active_runs, default_args, tags
    ):
        self.schedule, self.start_date, self.catchup = schedule, start_date, catchup
        self.max_active_runs, self.default_args = max_active_runs, default_args
        self.tasks = {}

    def __enter__(self):
        FakeDAG.current = self
        return self

    def __exit__(self, *_):
        FakeDAG.current = None


class FakeOperator:
    """Takes what Airflow's SparkSubmitOperator takes, and fails as that does."""

    code = 0

    def __init__(
        self,
        *,
        task_id,
        application,
        application_args,
        name,
        conn_id,
        properties_file,
        py_files,
        archives,
        conf,
        execution_timeout,
    ):
        self.application, self.application_args = application, application_args
        self.properties_file, self.py_files = properties_file, py_files
        self.archives, self.conf = archives, conf
        self.following = []
        FakeDAG.current.tasks[task_id] = self

    def __rshift__(self, other):
        self.following.append(other)
        return other

    def execute(self, context):
        if self.code:
            raise AirflowException(
                f"Cannot execute: spark-submit x. Error code is: {self.code}.\n"
                "Last spark-submit output:\nError code is: 77"
            )
        return context


@pytest.fixture(params=["airflow.sdk", "airflow"])
def dag(request, monkeypatch) -> FakeDAG:
    """The DAG as a newer and as an older Airflow reads it."""

    def module(name: str, **content: object) -> None:
        made = types.ModuleType(name)
        vars(made).update(content)
        made.__path__ = []
        monkeypatch.setitem(sys.modules, name, made)

    exceptions = {
        error.__name__: error
        for error in (AirflowException, AirflowFailException, AirflowSkipException)
    }
    provider = "airflow.providers.apache.spark.operators.spark_submit"
    for depth in range(2, provider.count(".") + 1):
        module(".".join(provider.split(".")[:depth]))
    module(provider, SparkSubmitOperator=FakeOperator)
    module("airflow")
    monkeypatch.setitem(sys.modules, "airflow.sdk", None)
    module(request.param, DAG=FakeDAG)
    module(f"{request.param}.exceptions", **exceptions)
    return runpy.run_path(str(DAG))["dag"]


class TestAirflow:
    def test_schedule(self, dag):
        check_fields(dag.schedule.split())
        assert dag.start_date.utcoffset() == timedelta(0)
        assert dag.catchup is False
        assert dag.max_active_runs == 1
        assert dag.default_args["retries"] > 0

    def test_tasks(self, dag):
        assert dag.tasks.keys() == {"retrain", "recommend"}
        assert dag.tasks["retrain"].following == [dag.tasks["recommend"]]
        options = {}
        for name, task in dag.tasks.items():
            assert job_of(task.application) == name
            options[name] = check_command(name, task.application_args)
        # Of the day, and from one store.
        day = "{{ data_interval_end | ds }}"
        assert day in options["retrain"]["--ratings"]
        assert day in options["recommend"]["--output"]
        assert options["retrain"]["--store"] == options["recommend"]["--store"]
        assert options["recommend"]["--top"] == "10"

    def test_submission_is_that_of_the_page_on_clusters(self, dag):
        page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
        for task in dag.tasks.values():
            assert f"--py-files {task.py_files.removeprefix(f'{PLACE}/')} " in page
            assert f"--archives {task.archives.removeprefix(f'{PLACE}/')} " in page
            assert f"--properties-file {task.properties_file.removeprefix(f'{PLACE}/')} " in page
            python = task.conf["spark.pyspark.python"]
            assert f"PYSPARK_PYTHON={python} " in page
            driver = task.conf["spark.pyspark.driver.python"].removeprefix(f"{PLACE}/")
            assert f"PYSPARK_DRIVER_PYTHON={driver} " in page

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (1, AirflowException),
            (2, AirflowFailException),
            (3, AirflowSkipException),
            (4, AirflowFailException),
            (5, AirflowException),
            (130, AirflowException),
        ],
    )
    def test_exit_codes(self, dag, monkeypatch, code, error):
        task = dag.tasks["retrain"]
        monkeypatch.setattr(task, "code", code)
        with pytest.raises(AirflowException) as caught:
            task.execute({})
        # Airflow tries a plain AirflowException again.
        assert type(caught.value) is error

    def test_success_and_failures_without_a_code(self, dag, monkeypatch):
        task = dag.tasks["retrain"]
        assert task.execute({"run": 1}) == {"run": 1}

        def fail(_self, _context):
            raise AirflowException("no connection spark_default")

        monkeypatch.setattr(FakeOperator, "execute", fail)
        with pytest.raises(AirflowException, match="no connection"):
            task.execute({})


class TestKubernetes:
    CONTENT: ClassVar = yaml.safe_load(KUBERNETES.read_text(encoding="utf-8"))

    def test_schedule(self):
        assert self.CONTENT["apiVersion"] == "sparkoperator.k8s.io/v1beta2"
        assert self.CONTENT["kind"] == "ScheduledSparkApplication"
        spec = self.CONTENT["spec"]
        check_fields(spec["schedule"].split())
        assert spec["concurrencyPolicy"] == "Forbid"

    def test_application(self):
        template = self.CONTENT["spec"]["template"]
        assert (template["type"], template["mode"]) == ("Python", "cluster")
        check_command(job_of(template["mainApplicationFile"]), template["arguments"])
        policy = template["restartPolicy"]
        assert (policy["type"], policy["onFailureRetries"]) == ("OnFailure", 0)
        assert policy["onSubmissionFailureRetries"] > 0
        # Every mount has its volume, and the paths of the arguments lie on it.
        volumes = {volume["name"] for volume in template["volumes"]}
        for pod in ("driver", "executor"):
            (mount,) = template[pod]["volumeMounts"]
            assert mount["name"] in volumes
            for path in template["arguments"][1:4:2]:
                assert path.startswith(f"{mount['mountPath']}/")

    def test_spark_is_the_pinned_one(self):
        pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        assert f"pyspark=={self.CONTENT['spec']['template']['sparkVersion']}" in pins

    def test_settings_are_those_of_the_properties_file(self):
        properties = dict(
            line.split(None, 1)
            for line in (ROOT / "conf" / "spark-kubernetes.conf").read_text().splitlines()
            if line.strip() and not line.startswith("#")
        )
        template = self.CONTENT["spec"]["template"]
        # The interpreter is the image's here, and nothing is unpacked.
        shared = {
            name: value
            for name, value in template["sparkConf"].items()
            if not name.startswith("spark.pyspark.")
        }
        assert shared
        executor, driver = template["executor"], template["driver"]
        shared |= {
            "spark.executor.instances": str(executor["instances"]),
            "spark.executor.cores": str(executor["cores"]),
            "spark.executor.memory": executor["memory"],
            "spark.driver.memory": driver["memory"],
        }
        for name, value in shared.items():
            assert properties[name].strip() == value, name
        overhead = float(properties["spark.executor.memoryOverheadFactor"])
        heap = int(executor["memory"].removesuffix("g"))
        assert int(executor["memoryOverhead"].removesuffix("g")) == heap * overhead
