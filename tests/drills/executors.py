"""Executors and Python workers killed at random moments, on a standalone cluster on loopback.

A sweep in both exchanges, and a program with the estimator, train on the same ratings again and
again. Meanwhile a process of the application gets SIGKILL: an executor's JVM, the parent of its
Python workers, or one of these. Every training must end, and with the result of an undisturbed one,
bit for bit: the number of blocks does not depend on how many executors are left.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pyspark.sql import SparkSession

from als_spark import ALS
from als_spark.cli import sweep
from als_spark.cli.interrupts import Interrupted
from als_spark.cli.program import EXIT_DONE, run_program
from als_spark.model.files import load_model
from tests.drills.figures import check_figures, exit_code_of
from tests.drills.interrupts import signals_raise
from tests.drills.processes import QUICK_JVM, ROOT
from tests.drills.ratings import draw_ratings, write_csv

WORKERS = 3
TRAININGS = ("sweep, broadcast", "sweep, shuffle", "estimator")
KINDS = ("executor", "daemon", "worker")
"""What is killed: an executor's JVM, the process that forks its Python workers, one of these."""
SWEEP = ("--ranks", "2,8", "--lambdas", "1,4", "--max-iter", "40", "--tol", "0")
_EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
Training = Callable[[], tuple[str, float]]
"""Trains; returns a digest of the result, and the seconds of the training alone."""


@dataclass
class Processes:
    """The processes of one Spark application on this machine.

    Attributes
    ----------
    driver_port : str
        The port on which the driver listens to its executors: each has it in its command.
    """

    driver_port: str

    def of(self, kind: str) -> list[psutil.Process]:
        """List the processes of a kind of :data:`KINDS`, in the order of their numbers."""
        executors = [found for found in psutil.process_iter() if self._is_executor(found)]
        if kind == "executor":
            return executors
        daemons = [child for parent in executors for child in _children(parent)]
        if kind == "daemon":
            return daemons
        return [child for parent in daemons for child in _children(parent)]

    def _is_executor(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            command = process.cmdline()
            return _EXECUTOR in command and any(
                word.endswith(f":{self.driver_port}") for word in command
            )
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(process.children())
    return []


@dataclass(eq=False)
class Killer:
    """Kills a process of a kind while a training runs.

    Attributes
    ----------
    processes : Processes
    hits : Counter
        Processes killed, by kind.
    began : threading.Event
        Set by the training when its preparation is done.
    """

    processes: Processes
    hits: Counter[str] = field(default_factory=Counter)
    began: threading.Event = field(default_factory=threading.Event)

    def kill(self, kind: str, rng: np.random.Generator) -> bool:
        """Kill one; False where there is none at this moment."""
        found = self.processes.of(kind)
        if not found:
            return False
        with suppress(psutil.NoSuchProcess):
            found[int(rng.integers(len(found)))].kill()
            self.hits[kind] += 1
            return True
        return False

    def during(
        self, train: Training, kind: str, delay: float, rng: np.random.Generator
    ) -> tuple[str, bool]:
        """Train, and kill a while after it has begun; return the result, and whether it was hit."""
        killed, ended = threading.Event(), threading.Event()
        self.began.clear()

        def strike() -> None:
            self.began.wait()
            time.sleep(delay)
            # Workers come and go: the first that is there.
            while not ended.is_set() and not self.kill(kind, rng):
                time.sleep(0.01)
            if not ended.is_set():
                killed.set()

        striker = threading.Thread(target=strike)
        striker.start()
        try:
            return train()[0], killed.is_set()
        finally:
            ended.set()
            self.began.set()
            striker.join()


class TrainingBegins(logging.Handler):
    """Tells from the log of a job when its training begins."""

    def __init__(self, began: threading.Event) -> None:
        super().__init__()
        self._began = began

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of the log."""
        if record.getMessage().startswith("training ..."):
            self._began.set()


def trainings(
    session: SparkSession, folder: Path, seed: int, began: threading.Event
) -> dict[str, Training]:
    """Return what is trained, by name; each sets ``began`` when its training begins."""
    ratings = draw_ratings(300, 200, 15_000, seed)
    path = write_csv(folder / "ratings.csv", ratings.lines())
    frame = session.createDataFrame(
        [
            (int(user), int(item), float(rating))
            for user, item, rating, _ in zip(*ratings, strict=True)
        ],
        "user int, item int, rating double",
    ).repartition(WORKERS)

    logging.getLogger("als_spark.sweep").addHandler(TrainingBegins(began))

    def swept(exchange: str) -> tuple[str, float]:
        output = folder / f"sweep-{exchange}"
        options = ["--ratings", str(path), "--output", str(output), *SWEEP]
        options += ["--exchange", exchange, "--partitions", str(WORKERS)]
        with redirect_stdout(io.StringIO()):
            code = sweep.main(options)
        if code != EXIT_DONE:
            raise RuntimeError(f"the sweep ended with exit code {code}")
        errors = [
            {key: value for key, value in point.items() if key != "seconds"}
            for point in json.loads((output / "results.json").read_bytes())
        ]
        found = digest(repr(errors).encode(), *load_model(output / "best_model").factors)
        return found, json.loads((output / "run.json").read_bytes())["seconds"]["training"]

    def fitted() -> tuple[str, float]:
        start = time.monotonic()
        began.set()
        model = ALS(rank=8, maxIter=40, seed=1, regParam=0.1).fit(frame)
        sides = []
        for side in (model.userFactors, model.itemFactors):
            rows = sorted((row.id, row.features) for row in side.collect())
            sides.append(np.array([features for _, features in rows]))
        return digest(*sides), time.monotonic() - start

    makers = (lambda: swept("broadcast"), lambda: swept("shuffle"), fitted)
    return dict(zip(TRAININGS, makers, strict=True))


def digest(*parts: bytes | np.ndarray) -> str:
    """Return one number for bytes and arrays, to the last bit."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drill; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="drill.sh executors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=30, metavar="N")
    parser.add_argument("--training", choices=TRAININGS, help="this one alone, not all in turn")
    parser.add_argument("--kind", choices=KINDS, help="kill these alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures as JSON")
    options = parser.parse_args(argv)
    if options.kills < 1:
        parser.error("--kills: at least 1")
    return run_program("executors", lambda: _run(options), "stopped before the first kill")


def _run(options: argparse.Namespace) -> int:
    check_figures(options.output)
    with signals_raise(), tempfile.TemporaryDirectory(prefix="als_spark-drill-") as name:
        folder = Path(name)
        cluster = [str(ROOT / "scripts" / "cluster.sh"), "{}", "--state-dir", f"{folder}/cluster"]
        start = [word.format("start") for word in cluster]
        start += ["--workers", str(WORKERS), "--memory", "1g"]
        start += ["--timeout", "180", "--python", sys.executable]
        master = subprocess.run(start, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        try:
            result = drill(master, folder, options)
        finally:
            subprocess.run([word.format("stop") for word in cluster], check=False)
    tell(result)
    return exit_code_of(result, options.output)


def make_session(master: str, more: Mapping[str, str] | None = None) -> SparkSession:
    """Start an application that outlives the loss of its executors."""
    settings = {
        "spark.executor.memory": "640m",
        "spark.executor.cores": "1",
        "spark.executor.extraJavaOptions": QUICK_JVM,
        "spark.executorEnv.PYTHONPATH": str(ROOT),
        "spark.default.parallelism": str(WORKERS),
        "spark.sql.shuffle.partitions": str(WORKERS),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        **(more or {}),
    }
    builder = SparkSession.builder.master(master).appName("als_spark drill")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


def drill(master: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train undisturbed, then with a kill each; return what came of it."""
    kills, seed = options.kills, options.seed
    kinds = KINDS if options.kind is None else (options.kind,)
    rng = np.random.default_rng(seed)
    began = time.monotonic()
    session = make_session(master)
    problems: list[str] = []
    done: Counter[str] = Counter()
    late = 0
    stopped = False
    try:
        port = session.sparkContext.getConf().get("spark.driver.port") or ""
        killer = Killer(Processes(port))
        work = trainings(session, folder, seed, killer.began)
        if options.training is not None:
            work = {options.training: work[options.training]}
        wanted, seconds = undisturbed(work)
        while killer.hits.total() < kills:
            name, kind = str(rng.choice(list(work))), str(rng.choice(kinds))
            delay = float(rng.random()) * seconds[name]
            when = f"kill {killer.hits.total() + 1}, {kind} {delay:.1f} s into {name}"
            try:
                found, killed = killer.during(work[name], kind, delay, rng)
            except Interrupted:
                raise
            except Exception as error:  # noqa: BLE001 - counted, whatever it is
                problems.append(f"{when}: {type(error).__name__}: {str(error)[:300]}")
                print(f"{problems[-1]}", flush=True)
                continue
            if found != wanted[name]:
                problems.append(f"{when}: another result")
            late += not killed
            done[name] += killed
            print(f"{when}: {'same' if found == wanted[name] else 'ANOTHER'} result", flush=True)
    except Interrupted:
        stopped = True
    finally:
        session.stop()
    return {
        "kills": sum(killer.hits.values()),
        "asked_for": kills,
        "stopped": stopped,
        "seed": seed,
        "killed": dict(killer.hits.most_common()),
        "trainings": dict(done.most_common()),
        "ended_before_their_kill": late,
        "problems": problems,
        "seconds": round(time.monotonic() - began, 1),
    }


def undisturbed(work: dict[str, Training]) -> tuple[dict[str, str], dict[str, float]]:
    """Return the result of each training, and its seconds once Spark is warm."""
    digests, seconds = {}, {}
    for name, train in work.items():
        digests[name], _ = train()
        again, seconds[name] = train()
        if again != digests[name]:
            raise RuntimeError(f"{name}: two undisturbed trainings have different results")
        print(f"{name}: {seconds[name]:.1f} s of training, undisturbed", flush=True)
    return digests, seconds


def tell(result: dict[str, Any]) -> None:
    """Print what came of it."""
    killed = ", ".join(f"{count} {kind}s" for kind, count in result["killed"].items())
    print(f"{result['kills']} kills in {result['seconds']:.0f} s: {killed}")
    for name, count in result["trainings"].items():
        print(f"  {name}: {count}")
    print(f"  ended before their kill: {result['ended_before_their_kill']}")
    for problem in result["problems"]:
        print(f"  broken: {problem}")
    if not result["problems"]:
        print("Every training ended with the result of an undisturbed one.")


if __name__ == "__main__":
    sys.exit(main())
