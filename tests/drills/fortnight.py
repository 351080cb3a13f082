"""A start and fourteen nights on MovieLens: corrupt, empty, repeated and shifted files, a kill.

All runs share one Spark session. After each, exit code and outcome must be those of the scenario
(``nights.py``), and the store must be whole. The table says for each training that started warm how
many iterations it took, and how many a start from nothing needs to the same objective.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.interrupts import Interrupted
from als_spark.cli.nightly import fit_options
from als_spark.cli.options import parse
from als_spark.cli.program import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    run_program,
)
from als_spark.cli.retrain import main as retrain
from als_spark.errors import EmptySourceError
from als_spark.nightly.fitting import Fitting
from als_spark.nightly.run_log import RunNotes
from als_spark.nightly.run_record import RunRecord
from als_spark.nightly.starts import cold_start
from als_spark.report.progress import ProgressReporter
from als_spark.spark.read.snapshot import read_snapshot
from als_spark.spark.read.sources import Source, SourceOptions, read_source
from als_spark.spark.session import quiet_spark, start_session
from als_spark.store.store import open_store
from tests.drills.figures import check_figures, write_figures
from tests.drills.interrupts import signals_raise
from tests.drills.nights import Night, nights
from tests.drills.ratings import Ratings, draw_ratings, read_ratings
from tests.drills.victim import killed_at

LONGEST = 1000
"""Iterations after which a start from nothing counts as not arriving."""
COLUMNS = ("day", "what came in", "outcome", "exit", "iterations", "cold", "champion", "challenger")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drill; 1 if anything was not as it must be."""
    parser = argparse.ArgumentParser(
        prog="drill.sh fortnight",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="PATH", help="ratings.csv (default: drawn)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures as JSON")
    options, more = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    return run_program("fortnight", lambda: _run(options, more), "stopped")


def _run(options: argparse.Namespace, more: Sequence[str]) -> int:
    check_figures(options.output)
    # For a start of any quality: a night of MovieLens is a few users only.
    settings = ("--margin", "0.05", *more)
    ratings = draw_ratings(300, 200, 12_000) if options.data is None else read_ratings(options.data)
    session = start_session("als_spark drill fortnight")
    quiet_spark(session)
    with signals_raise(), tempfile.TemporaryDirectory(prefix="als_spark-drill-") as folder:
        result = drill(session, Path(folder), ratings, settings)
    session.stop()
    for problem in result["problems"]:
        print(f"PROBLEM  {problem}")
    if not result["problems"]:
        print("Every night was as it must be.")
    if options.output is not None:
        write_figures(options.output, result)
    return EXIT_FAILED if result["problems"] else EXIT_DONE


def drill(
    session: SparkSession, folder: Path, ratings: Ratings, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Run all nights; return a record of each, and what was not as it must be."""
    path = folder / "store"
    records, problems = [], []
    print(line_of(dict(zip(COLUMNS, COLUMNS, strict=True))))
    for night in nights(folder, ratings):
        began = time.monotonic()
        if night.exit_code is None:
            with killed_at(path, "placed") as run:
                pass
            code, record = None, {"run": run, "outcome": "died"}
        else:
            code, record = run_night(path, night, settings)
        row = {
            "day": night.day,
            "what came in": night.came,
            "outcome": record.get("outcome"),
            "exit": code,
            "start": (record.get("training") or {}).get("start"),
            "iterations": (record.get("training") or {}).get("iterations"),
            "objective": (record.get("training") or {}).get("objective"),
            "cold": None,
            "champion": (record.get("champion") or {}).get("rmse"),
            "challenger": (record.get("challenger") or {}).get("rmse"),
            "sentence": record.get("sentence"),
            "warnings": record.get("warnings"),
            "seconds": round(time.monotonic() - began, 2),
        }
        problems += problems_of(path, night, code, record)
        if row["start"] == "warm" and row["outcome"] == "published":
            row["cold"] = cold_iterations(session, path, night, record, settings)
        records.append(row)
        print(line_of(row), flush=True)
    died = [r for r in open_store(path).history.read_history() if r["status"] == "died"]
    if len(died) != 1:
        problems.append(f"{len(died)} runs are noted as died, where one was killed")
    return {"ratings": len(ratings.users), "nights": records, "problems": problems}


def run_night(path: Path, night: Night, settings: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Run the job; return its exit code and its line of the history."""
    known = {record["run"] for record in open_store(path).history.read_history()}
    with contextlib.redirect_stdout(io.StringIO()):
        code = retrain([*settings, *night.options, "--store", str(path)])
    if code == EXIT_INTERRUPTED:
        # Whoever stops a night wants no other.
        raise Interrupted
    new = [
        record
        for record in open_store(path).history.read_history()
        if record["run"] not in known and record["status"] != "died"
    ]
    return code, new[-1] if new else {}


def problems_of(path: Path, night: Night, code: int | None, record: dict[str, Any]) -> list[str]:
    """Compare a night with what it must be, and look at the store."""
    when = f"day {night.day}, {night.came}"
    found = []
    if (code, record.get("outcome")) != (night.exit_code, night.outcome):
        found.append(
            f"{when}: {record.get('outcome')} with exit code {code}, not {night.outcome} with "
            f"{night.exit_code}: {record.get('sentence')}"
        )
    start = (record.get("training") or {}).get("start")
    if start != night.start:
        found.append(f"{when}: {start} start, not {night.start}")
    if night.warning and not any(night.warning in text for text in record.get("warnings", [])):
        found.append(f"{when}: no warning says {night.warning!r}")
    store = open_store(path)
    found += [f"{when}: {problem}" for problem in store.verify()]
    store.load()
    return found


def cold_iterations(
    session: SparkSession,
    path: Path,
    night: Night,
    record: dict[str, Any],
    settings: Sequence[str],
) -> int | None:
    """Count the iterations from the usual start to the objective that a run has reached.

    None if :data:`LONGEST` are not enough: the two may end in different places.
    """
    argv = [*settings, *night.options, "--store", str(path)]
    parsed = parse(RetrainConfig, argv)
    config = parsed.model_copy(update={"tol": 0.0, "max_iter": LONGEST})
    options, run = fit_options(config), RunRecord.read(record)
    assert run.settings is not None
    assert run.training is not None
    assert run.training.objective is not None
    spec = run.settings.spec
    # The objective is a sum in the factors' dtype: as good as the same is the same.
    objective = run.training.objective * (1 + 1e-6)
    quiet = logging.getLogger("als_spark.drill")
    with ExitStack() as stack:
        progress = stack.enter_context(ProgressReporter(1, logger=quiet))
        sources = [source_of(session, file) for file in (config.ratings, *config.increments)]
        snapshot = stack.enter_context(
            read_snapshot(session, [s for s in sources if s is not None], config.duplicates)
        )
        fitting = Fitting(session, options, RunNotes(run, progress), stack)
        ready = fitting.make_ready(snapshot, spec.rank)
        fitted = fitting.fit(ready, spec, cold_start("to compare"))
    reached = (r.iteration for r in fitted.result.history if r.objective <= objective)
    return next(reached, None)


def source_of(session: SparkSession, path: str | None) -> Source | None:
    """Open a file; None if it is empty."""
    try:
        return read_source(session, SourceOptions(path))
    except EmptySourceError:
        return None


def line_of(row: dict[str, Any]) -> str:
    """Write a line of the table."""
    widths = (3, 34, 17, 4, 10, 5, 8, 10)
    cells = []
    for name, width in zip(COLUMNS, widths, strict=True):
        value = row[name]
        text = "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        cells.append(
            text.ljust(width) if name in ("what came in", "outcome") else text.rjust(width)
        )
    return "  ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
