"""The source notebook's loop against the sweep: the same split, start and stop, point by point.

Answers two questions in one run. Is it the same algorithm: does every grid point need the same
number of iterations and have the same four errors (float64, both placements)? And how much faster
is it: the twin's loop over the whole grid against the sweep's training, and against the whole
command with Spark's start?
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from als_spark.results import PointResult
from als_spark.spark.prepared import PrepareOptions
from als_spark.spark.ratings import prepare_ratings
from als_spark.spark.session import quiet_spark, start_session
from als_spark.spark.sources import SourceOptions, read_source
from als_spark.spark.sweep import train_grid
from als_spark.sweep import SweepCollector, grid_specs
from als_spark.training import ModelSpec, TrainingOptions, initial_factors
from scripts.bench.common import MOVIELENS, ROOT, write_result
from tests import reference

RANKS, LAMBDAS = (1, 5, 20, 50), (1.0, 2.0, 4.0, 6.0)


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; exit code 1 if a point differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratings", default=str(MOVIELENS))
    parser.add_argument("--output", type=Path, default=Path("results/bench"))
    parser.add_argument("--quick", action="store_true", help="ranks 1 and 5 only")
    parser.add_argument(
        "--placements", default="grid,ratings", help="which to compare (default: both)"
    )
    options = parser.parse_args(argv)
    ranks = RANKS[:2] if options.quick else RANKS
    specs = grid_specs(ranks, LAMBDAS)
    training = TrainingOptions(dtype="float64")
    session = start_session("als_spark bench notebook")
    quiet_spark(session)
    source = read_source(session, SourceOptions(path=options.ratings))
    prepare = PrepareOptions(
        dtype="float64", cold_start="initial", placement="grid", ranks=[s.rank for s in specs]
    )
    ours: dict[str, list[PointResult]] = {}
    seconds: dict[str, float] = {}
    with prepare_ratings(session, source, prepare) as prepared:
        n_users, n_items = len(prepared.summary.users), len(prepared.summary.items)
        train = prepared.backend.blocks["user"].triples()  # type: ignore[union-attr]
        test = prepared.backend.evaluation[0].block.triples()  # type: ignore[union-attr]
    for placement in options.placements.split(","):
        with prepare_ratings(session, source, replace(prepare, placement=placement)) as prepared:
            collector = SweepCollector("test")
            began = time.perf_counter()
            train_grid(session, prepared, specs, training, collector)
            seconds[placement] = time.perf_counter() - began
            outcome = collector.outcome()
            assert outcome is not None
            ours[placement] = list(outcome.points)
            print(f"{placement}: {seconds[placement]:.1f} s", file=sys.stderr)
    session.stop()
    seconds["command"] = time_command(options.ratings, ranks)
    print(f"whole command: {seconds['command']:.1f} s", file=sys.stderr)

    def twin(spec: ModelSpec) -> dict[str, Any]:
        start = initial_factors(n_users, n_items, spec.rank, training.seed)
        began = time.perf_counter()
        fit = reference.notebook_als(*train, start, spec.reg)
        taken = time.perf_counter() - began
        train_errors = reference.errors(*train, fit.users, fit.items)
        test_errors = reference.errors(*test, fit.users, fit.items)
        return {"iterations": fit.iterations, "errors": [*train_errors, *test_errors], "s": taken}

    rows, worst, same = [], 0.0, True
    for position, spec in enumerate(specs):
        slow = twin(spec)
        row = {"d": spec.rank, "lambda_reg": spec.reg, "notebook": slow}
        for placement, points in ours.items():
            point = points[position]
            found = [
                *(point.errors["train"].mse, point.errors["train"].mae),
                *(point.errors["test"].mse, point.errors["test"].mae),
            ]
            gap = max(abs(a / b - 1) for a, b in zip(found, slow["errors"], strict=True))
            same = same and point.iterations == slow["iterations"] and gap < 1e-6
            worst = max(worst, gap)
            row[placement] = {"iterations": point.iterations, "errors": found, "s": point.seconds}
        rows.append(row)
        print(
            f"d={spec.rank} λ={spec.reg:g}: notebook {slow['iterations']} iterations in "
            f"{slow['s']:.1f} s, largest difference so far {worst:.1e}",
            file=sys.stderr,
        )
    seconds["notebook"] = sum(row["notebook"]["s"] for row in rows)
    ratios = {name: seconds["notebook"] / taken for name, taken in seconds.items()}
    print(f"notebook loop {seconds['notebook']:.0f} s; its time over ours: {ratios}")
    print(f"the same in every point: {same}; largest relative difference of an error: {worst:.1e}")
    write_result(
        options.output,
        "notebook",
        {
            "question": "the notebook's loop over the grid against the sweep",
            "ratings": Path(options.ratings).name,
            "repeats": 1,
            "seconds": seconds,
            "notebook_over_ours": ratios,
            "same_in_every_point": same,
            "largest_relative_difference": worst,
            "points": rows,
        },
    )
    return 0 if same else 1


def time_command(ratings: str, ranks: tuple[int, ...]) -> float:
    """Time the whole default command over the grid, Spark's start included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(ROOT / "scripts" / "sweep.sh"), "--ratings", ratings]
        command += ["--ranks", ",".join(map(str, ranks)), "--output", f"{folder}/out"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
