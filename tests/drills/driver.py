"""Trainings with a checkpoint, killed at random moments and run again until they end.

Sweeps that broadcast the factors, sweeps that shuffle them, and a program with the estimator, in
an order that is drawn. Each run is a process of its own and gets SIGKILL, with its JVM: most at a
random moment of the training, the others at one of the whole run. The same command is given again
until it goes through; its results, histories and factors must then be those of a run that nobody
disturbed, bit for bit, and its checkpoint gone.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from als_spark.cli.interrupts import Interrupted
from als_spark.cli.program import run_program
from als_spark.model.files import load_model
from als_spark.store.checkpoint import RECORD
from tests.drills.figures import check_figures, exit_code_of
from tests.drills.interrupts import signals_raise
from tests.drills.processes import Job
from tests.drills.ratings import draw_ratings, write_csv

SWEEP = (
    *("--ranks", "3,6", "--lambdas", "1,4", "--tol", "0", "--max-iter", "40"),
    *("--checkpoint-every", "2", "--partitions", "2"),
)
EXCHANGES = {"sweep, broadcast": "broadcast", "sweep, shuffle": "shuffle"}
ESTIMATOR = "estimator"
SHARES = {"sweep, broadcast": 8, "sweep, shuffle": 6, ESTIMATOR: 6}
"""Kinds of trainings, and how many of twenty kills each gets."""
PHASES = re.compile(r"^\d\d:\d\d:\d\d ([^:=]+?) \.\.\.$", re.MULTILINE)
IN_TRAINING = 0.75
"""Share of the kills that are aimed at the training."""


@dataclass(eq=False)
class Trial:
    """One command that is killed, and given again until it goes through.

    Attributes
    ----------
    folder : Path
        Has all that is of this command, and nothing else.
    program : str
        See :class:`tests.drills.processes.Job`.
    command : list of str
    result : callable
        Reads all that must be the same.
    wanted
        The result of a run that nobody has disturbed.
    training, whole : float
        Seconds of that run.
    unfinished : bool
        Whether its last run was killed.
    """

    folder: Path
    program: str
    command: list[str]
    result: Callable[[Path], Any]
    wanted: Any = None
    training: float = 0.0
    whole: float = 0.0
    unfinished: bool = field(default=False, init=False)

    @property
    def output(self) -> Path:
        """Where the results go."""
        return self.folder / "out"

    @property
    def checkpoint(self) -> Path:
        """Where it keeps what it has."""
        return self.folder / "checkpoint"

    def start(self) -> Job:
        """Give the command."""
        if self.output.is_dir():
            shutil.rmtree(self.output)
        self.output.unlink(missing_ok=True)
        return Job(self.folder / "run.log", self.program, self.command)

    def measure(self) -> None:
        """Run it undisturbed."""
        began = time.monotonic()
        job = self.start()
        if job.wait_until(lambda: "training ..." in job.log):
            self.training = time.monotonic()
        if job.wait() != 0:
            raise RuntimeError(f"a run that nobody disturbed has failed:\n{job.log}")
        ended = time.monotonic()
        self.training, self.whole = ended - self.training, ended - began
        self.wanted = self.result(self.output)

    def left(self) -> list[str]:
        """List what is kept; folders that Spark itself makes, and leaves, do not count."""
        names = [path.name for path in self.checkpoint.glob("*")]
        if self.program == "sweep":
            return names
        return [name for name in names if name.startswith("als_spark-")]

    def half_written(self) -> int:
        """Count the folders that a killed run has not finished."""
        folders = [*self.checkpoint.rglob("states-*"), *self.checkpoint.rglob("point-*")]
        return sum(not (folder / RECORD).exists() for folder in folders)

    def check_end(self, job: Job, code: int) -> list[str]:
        """Return the promises that a run has broken which went through."""
        if code != 0:
            return [f"exit code {code}: {job.log[-2000:]}"]
        problems = []
        if self.result(self.output) != self.wanted:
            problems.append("another result")
        if self.left():
            problems.append(f"left behind: {self.left()}")
        return problems


def trials(folder: Path, seed: int, names: Sequence[str], placement: str) -> dict[str, Trial]:
    """Return what is killed, by name."""
    ratings = str(write_csv(folder / "ratings.csv", draw_ratings(300, 200, 12_000, seed).lines()))
    found = {}
    for number, name in enumerate(names):
        own = folder / str(number)
        own.mkdir()
        output, checkpoint = str(own / "out"), str(own / "checkpoint")
        if name == ESTIMATOR:
            command = [ratings, checkpoint, output]
            found[name] = Trial(own, "tests.drills.fit", command, _json)
            continue
        command = ["--ratings", ratings, "--output", output, *SWEEP, "--checkpoint", checkpoint]
        # An exchange implies placement ratings.
        chosen = ("--placement", "grid") if placement == "grid" else ("--exchange", EXCHANGES[name])
        found[name] = Trial(own, "sweep", [*command, *chosen], result_of)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drill; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="drill.sh driver",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--training", choices=tuple(SHARES), help="this one alone, not all mixed")
    parser.add_argument(
        "--placement", choices=("ratings", "grid"), default="ratings", help="of --training sweep"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures as JSON")
    options = parser.parse_args(argv)
    if options.kills < 1:
        parser.error("--kills: at least 1")
    if options.placement == "grid" and options.training != "sweep, broadcast":
        parser.error('--placement grid: needs --training "sweep, broadcast"')
    return run_program("driver", lambda: _run(options), "stopped before the first kill")


def _run(options: argparse.Namespace) -> int:
    check_figures(options.output)
    shares = SHARES if options.training is None else {options.training: 1}
    with signals_raise(), tempfile.TemporaryDirectory(prefix="als_spark-drill-") as name:
        work = trials(Path(name), options.seed, list(shares), options.placement)
        result = drill(work, dealt(shares, options.kills, options.seed), options.seed)
    print(json.dumps(result, indent=2))
    return exit_code_of(result, options.output)


def dealt(shares: Mapping[str, int], kills: int, seed: int) -> list[str]:
    """Return what each kill is aimed at, by the shares, in an order that is drawn."""
    whole = [name for name, share in shares.items() for _ in range(share)]
    # Every share its first before any its second, so that a few kills hit all.
    turns = sorted(range(len(whole)), key=lambda k: whole[:k].count(whole[k]) / shares[whole[k]])
    chosen = np.resize(np.array([whole[k] for k in turns]), kills)
    return [str(name) for name in np.random.default_rng(seed).permutation(chosen)]


def drill(work: Mapping[str, Trial], order: Sequence[str], seed: int) -> dict[str, Any]:
    """Kill runs and continue them; return what came of it, also where it is stopped early."""
    rng = np.random.default_rng(seed)
    began = time.monotonic()
    counts: Counter[str] = Counter()
    problems: list[str] = []
    stopped = False
    job = None
    left = list(order)
    try:
        for name, trial in work.items():
            trial.measure()
            print(f"{name}: {trial.training:.1f} s of {trial.whole:.1f} s, undisturbed", flush=True)
        while left or any(trial.unfinished for trial in work.values()):
            name = left[0] if left else next(n for n, t in work.items() if t.unfinished)
            trial = work[name]
            job = trial.start()
            hit = kill(job, rng, trial) if left else None
            code = None if hit else job.wait()
            counts["resumed"] += "resumed at" in job.log or "resumed:" in job.log
            trial.unfinished = hit is not None
            if hit:
                left.pop(0)
                _count(counts, name, hit, trial)
                continue
            counts["runs through"] += 1
            broken = [
                f"{name}, after {counts['kills']} kills: {p}"
                for p in trial.check_end(job, code or 0)
            ]
            problems += broken
            print(f"{name}: through after {counts['kills']} kills {broken or ''}", flush=True)
            if broken:
                break
    except Interrupted:
        if job is not None:
            job.kill()
        stopped = True
    return {
        **counts,
        "asked_for": len(order),
        "stopped": stopped,
        "seed": seed,
        "problems": problems,
        "seconds": round(time.monotonic() - began, 1),
    }


def _count(counts: Counter[str], name: str, hit: str, trial: Trial) -> None:
    counts["kills"] += 1
    counts[f"kills of {name}"] += 1
    counts[f"killed in {hit}"] += 1
    halves = trial.half_written()
    counts["half-written folders left"] += halves
    print(f"kill {counts['kills']}, {name}: {hit}, {halves} half-written", flush=True)


def kill(job: Job, rng: np.random.Generator, trial: Trial) -> str | None:
    """Kill a run at a random moment; return its phase, or None if it had ended before."""
    if rng.random() < IN_TRAINING:
        if job.wait_until(lambda: "training ..." in job.log):
            pause(job, float(rng.random()) * trial.training)
    else:
        pause(job, float(rng.random()) * trial.whole)
    if job.ended():
        return None
    job.kill()
    phases = PHASES.findall(job.log)
    return phases[-1] if phases else "start"


def pause(job: Job, seconds: float) -> None:
    """Wait so long, or until the run has ended."""
    deadline = time.monotonic() + seconds
    job.wait_until(lambda: time.monotonic() > deadline)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def result_of(folder: Path) -> list[Any]:
    """Return all that must be the same, whatever has happened on the way."""
    results = _json(folder / "results.json")
    for point in results:
        del point["seconds"]
    model = load_model(folder / "best_model")
    factors = [side.tobytes() for side in model.factors]
    return [results, _json(folder / "history.json"), factors]


if __name__ == "__main__":
    sys.exit(main())
