"""Retrainings killed at random moments, while a reader loads the current model all the time.

Every run is a process of its own, on a snapshot that has changed, and gets SIGKILL, with its JVM,
at a moment drawn from one of the phases of its work. After every kill the store must be whole: the
current version is the one before or the new one, all files are those that were published. Every
few kills a run is let through: it must publish, and clean up what the killed ones have left.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from als_spark.cli.interrupts import Interrupted
from als_spark.cli.program import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    run_program,
)
from als_spark.store.layout import POINTERS, PRUNING, READERS, VERSIONS
from als_spark.store.store import ModelStore, open_store
from tests.drills.figures import check_figures, write_figures
from tests.drills.interrupts import signals_raise
from tests.drills.processes import ROOT, Job
from tests.drills.ratings import Ratings, draw_ratings, write_csv
from tests.drills.reader import digest_of

TARGETS = {
    "starting Spark": 1,
    "looking at the ratings": 1,
    "reading and checking ratings": 2,
    "packing ratings into blocks": 1,
    "training": 4,
    "evaluating": 2,
    "publishing": 6,
    "pruning": 4,
    "finishing": 2,
}
"""Phases that are aimed at, and how often. The last two begin with the switch to the new version,
and with the end of the publishing."""
OPTIONS = (
    *("--rank", "4", "--lambda", "2", "--placement", "ratings", "--max-iter", "10", "--tol", "0"),
    # So that a run publishes whatever its ratings are, and prunes a version each time.
    *("--margin", "10", "--keep", "1"),
)
PHASE_LINE = re.compile(r"^\d\d:\d\d:\d\d (?P<name>[^:=]+?)( \.\.\.|: .*\d (s|min|h)\b.*)$")


@dataclass
class Store:
    """The store of the drill, with what is known of it from outside.

    Attributes
    ----------
    path : Path
    digests : set of str
        Of the models that were ever current.
    problems : list of str
        Promises that were broken.
    """

    path: Path
    digests: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def open(self) -> ModelStore:
        """Open it anew: nothing is remembered from before."""
        return open_store(self.path)

    def pointers(self) -> int:
        """Count the switches."""
        return len(list((self.path / POINTERS).glob("*.json")))

    def check(self, when: str, before: str | None) -> str | None:
        """Look at everything that must hold at any time; return the current version."""
        store = self.open()
        try:
            current = store.current()
            self.problems += [f"{when}: {problem}" for problem in store.verify()]
            if current is not None:
                self.digests.add(digest_of(store.load()))
        except Exception as error:  # noqa: BLE001 - counted, whatever it is
            self.problems.append(f"{when}: {type(error).__name__}: {error}")
            return before
        if current != before and before is not None:
            latest = store.pointers()[-1]
            if latest.version != current or latest.action != "publish":
                self.problems.append(f"{when}: {current} is neither the old version nor a new one")
        return current

    def check_clean(self, when: str, current: str | None) -> None:
        """Look at what must hold after a run that has gone through and published a version."""
        store = self.open()
        history = store.history.read_history()
        if current not in {r.get("version") for r in history if r["status"] == "published"}:
            self.problems.append(f"{when}: the history does not say who has published {current}")
        for record in history:
            if record.get("status") == "running":
                self.problems.append(f"{when}: run {record['run']} is said to run")
        left = [
            f"{folder}/{name}"
            for folder in ("staging", PRUNING, READERS)
            for name in store.files.names(folder)
            # The reader's own, and what is being written at this moment.
            if folder != READERS and not name.endswith(".tmp")
        ]
        published = {pointer.version for pointer in store.pointers()}
        left += [f"{VERSIONS}/{n}" for n in store.files.names(VERSIONS) if n not in published]
        self.problems += [f"{when}: {name} was left behind" for name in left]


def phases_of(log: str) -> list[str]:
    """Return the phases in a log, in the order in which they began or ended."""
    found = (PHASE_LINE.match(line) for line in log.splitlines())
    return [match["name"] for match in found if match]


def phase_hit(log: str, store: Store, pointers_before: int) -> str:
    """Say what a run was doing when it was killed, from its log and from what it has left."""
    lines = [line for line in log.splitlines() if PHASE_LINE.match(line)]
    if not lines:
        return "before the first phase"
    name = phases_of(lines[-1])[0]
    switched = store.pointers() > pointers_before
    if name == "publishing":
        if lines[-1].endswith("..."):
            return "pruning" if switched else "publishing"
        return "finishing"
    return name if lines[-1].endswith("...") else f"after {name}"


class Aim:
    """Draws the moment of a kill, and waits for it.

    Parameters
    ----------
    rng : numpy.random.Generator
    seconds : mapping of str to float
        Usual length of each phase, from a run that was not killed.
    targets : mapping of str to int
        As :data:`TARGETS`.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        seconds: Mapping[str, float],
        targets: Mapping[str, int] = TARGETS,
    ) -> None:
        self._rng = rng
        self._seconds = seconds
        self._targets = targets

    def draw(self) -> str:
        """Choose a phase."""
        weights = np.array(list(self._targets.values()), float)
        return str(self._rng.choice(list(self._targets), p=weights / weights.sum()))

    def wait(self, job: Job, target: str, store: Store) -> None:
        """Wait for the phase, then for a part of its usual length."""
        pointers = store.pointers()
        if target == "pruning":
            reached = job.wait_until(lambda: store.pointers() > pointers)
        elif target == "finishing":
            reached = job.wait_until(lambda: bool(re.search(r"publishing: .*\d", job.log)))
        else:
            reached = job.wait_until(lambda: f"{target} ..." in job.log)
        if reached:
            time.sleep(float(self._rng.random()) * self._seconds.get(target, 0.2))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drill; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="drill.sh kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--every", type=int, default=5, metavar="N", help="kills between two runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures as JSON")
    options = parser.parse_args(argv)
    if options.kills < 1 or options.every < 1:
        parser.error("--kills and --every: at least 1")
    return run_program("kills", lambda: _run(options), "stopped before the first kill")


def _run(options: argparse.Namespace) -> int:
    check_figures(options.output)
    # A drill that is stopped leaves neither its processes nor its folder behind.
    with signals_raise(), tempfile.TemporaryDirectory(prefix="als_spark-drill-") as folder:
        result = drill(Path(folder), options.kills, options.every, options.seed)
    tell(result)
    if options.output is not None:
        write_figures(options.output, result)
    if result["problems"] or result["reader"]["failures"]:
        return EXIT_FAILED
    return EXIT_INTERRUPTED if result["stopped"] else EXIT_DONE


def drill(
    folder: Path, kills: int, every: int, seed: int, targets: Mapping[str, int] = TARGETS
) -> dict[str, Any]:
    """Kill runs, and let some through; return what came of it, also where it is stopped early."""
    rng = np.random.default_rng(seed)
    base = draw_ratings(120, 80, 3000, seed)
    write_csv(folder / "base.csv", base.lines())
    store = Store(folder / "store")
    began = time.monotonic()
    seconds = first_run(folder, store, base, rng)
    reader = subprocess.Popen(
        [sys.executable, "-m", "tests.drills.reader", str(store.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    hits: Counter[str] = Counter()
    number = through = late = 0
    stopped = False
    try:
        current = store.check("first run", None)
        while number < kills:
            aim = Aim(rng, seconds, targets)
            current, hit = kill_one(folder, store, base, aim, rng, number + 1, current)
            if hit is None:
                # It had ended before its moment came: no kill, but a run like the others.
                late += 1
                continue
            number += 1
            hits[hit] += 1
            print(f"kill {number}: {hit}, current version {current}", flush=True)
            if number % every == 0 or number == kills:
                current = let_through(folder, store, base, rng, number, current)
                through += 1
    except Interrupted:
        if number == 0:
            raise
        stopped = True
    finally:
        reader.terminate()
        words, _ = reader.communicate(timeout=60)
    seen = json.loads(words)
    mixed = set(seen.pop("digests")) - store.digests
    if mixed:
        store.problems.append(f"the reader saw {len(mixed)} models that nobody published")
    return {
        "kills": number,
        "asked_for": kills,
        "stopped": stopped,
        "seed": seed,
        "hit": dict(hits.most_common()),
        "runs_through": through,
        "ended_before_their_kill": late,
        "reader": {**seen, "models": len(store.digests)},
        "problems": store.problems,
        "seconds": round(time.monotonic() - began, 1),
    }


def first_run(
    folder: Path, store: Store, base: Ratings, rng: np.random.Generator
) -> dict[str, float]:
    """Publish, undisturbed; return the usual length of the phases."""
    job = start(folder, store, base, rng)
    if job.wait() != 0:
        raise RuntimeError(f"a run that nobody disturbed has failed:\n{job.log}")
    seconds = dict(store.open().history.read_history()[-1]["seconds"])
    # Spark's end, pictures and report: no phase of their own.
    total = seconds.pop("total")
    seconds["finishing"] = max(total - sum(seconds.values()), 1.0)
    # What comes after the switch is part of the publishing.
    seconds["pruning"] = seconds["publishing"]
    return seconds


def start(folder: Path, store: Store, base: Ratings, rng: np.random.Generator) -> Job:
    """Start a retraining on a snapshot that nobody has trained on."""
    chosen = rng.choice(len(base.users), 30, replace=False)
    today = base.part(np.sort(chosen))
    today = today._replace(
        ratings=rng.integers(4, 9, 30) / 2, times=today.times + int(rng.integers(1e8, 2e8))
    )
    write_csv(folder / "today.csv", today.lines())
    options = ["--ratings", str(folder / "base.csv"), "--increments", str(folder / "today.csv")]
    return Job(folder / "run.log", "retrain", [*options, "--store", str(store.path), *OPTIONS])


def kill_one(
    folder: Path,
    store: Store,
    base: Ratings,
    aim: Aim,
    rng: np.random.Generator,
    number: int,
    current: str | None,
) -> tuple[str | None, str | None]:
    """Start a run and kill it; return the version that is current, and the phase that was hit.

    None for the phase if the run had ended before; then it must have gone through.
    """
    pointers = store.pointers()
    job = start(folder, store, base, rng)
    try:
        aim.wait(job, aim.draw(), store)
    except BaseException:
        # The drill itself is stopped: nothing is to go on writing into its folder.
        job.kill()
        raise
    if job.ended():
        when, hit = f"the run before kill {number}", None
        # A run that fails by itself must not pass for one that was too quick.
        if (code := job.wait()) != 0:
            store.problems.append(f"{when}: exit code {code}: {job.log[-2000:]}")
    else:
        job.kill()
        hit = phase_hit(job.log, store, pointers)
        when = f"kill {number} ({hit})"
    return store.check(when, current), hit


def let_through(
    folder: Path,
    store: Store,
    base: Ratings,
    rng: np.random.Generator,
    number: int,
    current: str | None,
) -> str | None:
    """Let a run go through, and look at what it has cleaned up."""
    when = f"the run after kill {number}"
    job = start(folder, store, base, rng)
    code = job.wait()
    if code != 0:
        store.problems.append(f"{when}: exit code {code}: {job.log[-2000:]}")
    after = store.check(when, current)
    if after == current:
        store.problems.append(f"{when}: nothing was published")
    store.check_clean(when, after)
    return after


def tell(result: dict[str, Any]) -> None:
    """Print the figures."""
    reader = result["reader"]
    early = f", stopped early: {result['asked_for']} were asked for" if result["stopped"] else ""
    print(f"\n{result['kills']} kills in {result['seconds']:.0f} s (seed {result['seed']}){early}:")
    for phase, count in result["hit"].items():
        print(f"  {count:>4}  {phase}")
    print(
        f"{result['runs_through']} runs after kills went through, "
        f"{result['ended_before_their_kill']} ended before their kill"
    )
    print(
        f"the reader loaded {reader['loads']:,} times, {len(reader['failures'])} failures, "
        f"slowest {reader['slowest']:.2f} s"
    )
    for problem in [*result["problems"], *reader["failures"][:10]]:
        print(f"PROBLEM  {problem}")
    if not result["problems"] and not reader["failures"]:
        print("Every promise was kept.")


if __name__ == "__main__":
    sys.exit(main())
