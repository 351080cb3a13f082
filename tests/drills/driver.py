"""Sweeps with a checkpoint, killed at random moments and run again until they end.

Each run is a process of its own and gets SIGKILL, with its JVM: most at a random moment of the
training, the others at one of the whole run. The same command is given again until it goes through;
its results, histories and factors must then be those of a run that nobody disturbed, bit for bit,
and its checkpoint gone.
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
from collections.abc import Sequence
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

OPTIONS = (
    *("--ranks", "3,6", "--lambdas", "1,4", "--tol", "0", "--max-iter", "40"),
    *("--checkpoint-every", "2", "--partitions", "2"),
)
PHASES = re.compile(r"^\d\d:\d\d:\d\d ([^:=]+?) \.\.\.$", re.MULTILINE)
IN_TRAINING = 0.75
"""Share of the kills that are aimed at the training."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drill; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="drill.sh driver",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--placement", choices=("ratings", "grid"), default="ratings")
    parser.add_argument("--exchange", choices=("auto", "shuffle"), default="auto")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures as JSON")
    options = parser.parse_args(argv)
    if options.kills < 1:
        parser.error("--kills: at least 1")
    return run_program("driver", lambda: _run(options), "stopped before the first kill")


def _run(options: argparse.Namespace) -> int:
    check_figures(options.output)
    more = ("--placement", options.placement, "--exchange", options.exchange)
    with signals_raise(), tempfile.TemporaryDirectory(prefix="als_spark-drill-") as folder:
        result = drill(Path(folder), options.kills, options.seed, more)
    print(json.dumps(result, indent=2))
    return exit_code_of(result, options.output)


def drill(folder: Path, kills: int, seed: int, more: Sequence[str] = ()) -> dict[str, Any]:
    """Kill runs and continue them; return what came of it, also where it is stopped early."""
    rng = np.random.default_rng(seed)
    ratings = write_csv(folder / "ratings.csv", draw_ratings(300, 200, 12_000, seed).lines())
    command = ["--ratings", str(ratings), "--output", str(folder / "out"), *OPTIONS, *more]
    command += ["--checkpoint", str(folder / "checkpoint")]
    began = time.monotonic()
    if (job := Job(folder / "run.log", "sweep", command)).wait() != 0:
        raise RuntimeError(f"a run that nobody disturbed has failed:\n{job.log}")
    whole = time.monotonic() - began
    expected = result_of(folder / "out")
    training = json.loads((folder / "out" / "run.json").read_text())["seconds"]["training"]
    counts: Counter[str] = Counter()
    problems: list[str] = []
    stopped = False
    try:
        while counts["kills"] < kills or (folder / "checkpoint").exists():
            shutil.rmtree(folder / "out", ignore_errors=True)
            job = Job(folder / "run.log", "sweep", command)
            hit = None
            if counts["kills"] < kills:
                hit = kill(job, rng, training, whole)
            code = None if hit else job.wait()
            counts["resumed"] += "resumed at" in job.log or "resumed:" in job.log
            if hit:
                counts["kills"] += 1
                counts[f"killed in {hit}"] += 1
                halves = half_written(folder / "checkpoint")
                counts["half-written folders left"] += halves
                print(f"kill {counts['kills']}: {hit}, {halves} half-written", flush=True)
                continue
            counts["runs through"] += 1
            if code != 0:
                problems.append(f"exit code {code}: {job.log[-2000:]}")
                break
            if result_of(folder / "out") != expected:
                problems.append(f"other results after {counts['kills']} kills")
            if (folder / "checkpoint").exists():
                problems.append("the checkpoint was left behind")
                break
            print(f"through after {counts['kills']} kills", flush=True)
    except Interrupted:
        job.kill()
        stopped = True
    return {
        **counts,
        "asked_for": kills,
        "stopped": stopped,
        "seed": seed,
        "problems": problems,
        "seconds": round(time.monotonic() - began, 1),
    }


def kill(job: Job, rng: np.random.Generator, training: float, whole: float) -> str | None:
    """Kill a run at a random moment; return its phase, or None if it had ended before."""
    if rng.random() < IN_TRAINING:
        if job.wait_until(lambda: "training ..." in job.log):
            pause(job, float(rng.random()) * training)
    else:
        pause(job, float(rng.random()) * whole)
    if job.ended():
        return None
    job.kill()
    phases = PHASES.findall(job.log)
    return phases[-1] if phases else "start"


def pause(job: Job, seconds: float) -> None:
    """Wait so long, or until the run has ended."""
    deadline = time.monotonic() + seconds
    job.wait_until(lambda: time.monotonic() > deadline)


def half_written(checkpoint: Path) -> int:
    """Count the folders that a killed run has not finished."""
    folders = [*checkpoint.glob("states-*"), *checkpoint.glob("point-*")]
    return sum(not (folder / RECORD).exists() for folder in folders)


def result_of(folder: Path) -> list[Any]:
    """Return all that must be the same, whatever has happened on the way."""
    results = json.loads((folder / "results.json").read_text())
    for point in results:
        del point["seconds"]
    model = load_model(folder / "best_model")
    factors = [side.tobytes() for side in model.factors]
    return [results, json.loads((folder / "history.json").read_text()), factors]


if __name__ == "__main__":
    sys.exit(main())
