"""The source notebook's loop against the sweep: the same split, start and stop, point by point.

Answers three questions in one run. Is it the same algorithm: does every grid point need the same
number of iterations and have the same four errors (float64, both placements)? How much faster is
it: the twin's loop over the whole grid against the sweep's training, and against the whole command
with Spark's start? And MLlib: with frequency exponent 1, how long does it take to fit the grid
point after point, each until it has the objective at which ours stops? For MLlib only the last fit
of each point counts, the shortest tried that is enough, and neither Spark's start nor reading; for
ours the whole command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings
from als_spark.spark.read.sources import SourceOptions, read_source
from als_spark.spark.train.run import train_grid
from als_spark.train.grid import SweepCollector, grid_specs
from als_spark.train.records import ModelSpec, PointResult, TrainingOptions
from als_spark.train.start import initial_factors
from scripts.bench.common import (
    MOVIELENS,
    ROOT,
    bench_parser,
    bench_session,
    objective,
    synthetic_frame,
    write_result,
)
from scripts.bench.mllib import fit_mllib, loaded_blas
from scripts.bench.plots import draw_grid
from scripts.bench.synthetic import Ratings
from tests import reference

RANKS, LAMBDAS = (1, 5, 20, 50), (1.0, 2.0, 4.0, 6.0)
MLLIB_LAMBDAS = (0.02, 0.05, 0.1, 0.2)
WITHIN = 1.001
"""How many times our objective MLlib's may be to count as the same."""


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; exit code 1 if a point differs."""
    parser = bench_parser(__doc__, repeats=1)
    parser.add_argument("--data", default=str(MOVIELENS), help="ratings (MovieLens latest-small)")
    for name, choices in (("placements", ("grid", "ratings")), ("peers", ("notebook", "mllib"))):
        parser.add_argument(
            f"--{name}", nargs="+", choices=choices, default=choices, help="default: both"
        )
    parser.add_argument(
        "--doublings",
        type=int,
        default=2,
        metavar="N",
        help="how often MLlib may have twice the iterations, to reach our objective (0: its time "
        "is then a lower bound)",
    )
    options = parser.parse_args(argv)
    if not Path(options.data).is_file():
        print(f"{options.data} is not there: give ratings with --data", file=sys.stderr)
        return 2
    ranks = RANKS[:2] if options.quick else RANKS
    result: dict[str, Any] = {
        "question": "the whole grid: the notebook's loop, and MLlib, against the sweep",
        "ratings": Path(options.data).name,
        "repeats": 1,
    }
    same = True
    with tempfile.TemporaryDirectory() as folder:
        if "mllib" in options.peers:
            result["mllib"] = against_mllib(options.data, ranks, options.doublings, Path(folder))
        if "notebook" in options.peers:
            result["notebook"] = against_notebook(
                options.data, ranks, options.placements, Path(folder)
            )
            same = result["notebook"]["same_in_every_point"]
    write_result(options.output, "notebook", result)
    draw_grid(result, options.output / "notebook.png")
    return 0 if same else 1


def against_notebook(
    data: str, ranks: Sequence[int], placements: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Run the twin's loop, and the sweep in both placements and as a command."""
    specs = grid_specs(ranks, LAMBDAS)
    training = TrainingOptions(dtype="float64")
    seconds: dict[str, float] = {"command": time_command(data, ranks, LAMBDAS, 0.0, folder)[0]}
    print(f"whole command: {seconds['command']:.1f} s", file=sys.stderr)
    ours: dict[str, list[PointResult]] = {}
    prepare = PrepareOptions(
        dtype="float64", cold_start="initial", placement="grid", ranks=[s.rank for s in specs]
    )
    with bench_session("notebook") as session:
        source = read_source(session, SourceOptions(path=data))
        with prepare_ratings(session, source, prepare) as prepared:
            n_users, n_items = len(prepared.summary.users), len(prepared.summary.items)
            train = prepared.backend.blocks["user"].triples()  # type: ignore[union-attr]
            test = prepared.backend.evaluation[0].block.triples()  # type: ignore[union-attr]
        for placement in placements:
            placed = replace(prepare, placement=placement)
            with prepare_ratings(session, source, placed) as prepared:
                collector = SweepCollector("test")
                began = time.perf_counter()
                train_grid(prepared, specs, training, collector)
                seconds[placement] = time.perf_counter() - began
                outcome = collector.outcome()
                assert outcome is not None
                ours[placement] = list(outcome.points)
                print(f"{placement}: {seconds[placement]:.1f} s", file=sys.stderr)

    def twin(spec: ModelSpec) -> dict[str, Any]:
        start = initial_factors(n_users, n_items, spec.rank, training.seed)
        began = time.perf_counter()
        fit = reference.notebook_als(*train, start, spec.objective.reg)
        taken = time.perf_counter() - began
        train_errors = reference.errors(*train, fit.users, fit.items)
        test_errors = reference.errors(*test, fit.users, fit.items)
        return {"iterations": fit.iterations, "errors": [*train_errors, *test_errors], "s": taken}

    rows, worst, same = [], 0.0, True
    for position, spec in enumerate(specs):
        slow = twin(spec)
        row = {"d": spec.rank, "lambda_reg": spec.objective.reg, "notebook": slow}
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
            f"d={spec.rank} λ={spec.objective.reg:g}: notebook {slow['iterations']} iterations in "
            f"{slow['s']:.1f} s, largest difference so far {worst:.1e}",
            file=sys.stderr,
        )
    total = sum(row["notebook"]["s"] for row in rows)
    ratios = {name: total / taken for name, taken in seconds.items()}
    print(f"notebook loop {total:.0f} s; its time over ours: {ratios}")
    print(f"the same in every point: {same}; largest relative difference of an error: {worst:.1e}")
    return {
        "seconds": {"notebook": total, **seconds},
        "notebook_over_ours": ratios,
        "same_in_every_point": same,
        "largest_relative_difference": worst,
        "points": rows,
    }


def against_mllib(data: str, ranks: Sequence[int], doublings: int, folder: Path) -> dict[str, Any]:
    """Run the sweep with exponent 1 as a command, and MLlib to the same objectives."""
    command, points = time_command(data, ranks, MLLIB_LAMBDAS, 1.0, folder)
    print(f"whole command, exponent 1: {command:.1f} s", file=sys.stderr)
    rows = []
    with bench_session("notebook") as session:
        session.sparkContext.setCheckpointDir(str(folder / "checkpoints"))
        source = read_source(session, SourceOptions(path=data))
        prepare = PrepareOptions(placement="grid", dtype="float64")
        with prepare_ratings(session, source, prepare) as prepared:
            train = Ratings(*prepared.backend.blocks["user"].triples())  # type: ignore[union-attr]
        with synthetic_frame(session, train) as parquet:
            frame = parquet.coalesce(2).cache()
            fit_mllib(frame, 5, 3)
            for point in points:
                row = fit_to_objective(frame, train, point, doublings)
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
        blas = loaded_blas(session)
    total = sum(row["mllib_seconds"] for row in rows)
    n_reached = sum(row["mllib_reached"] for row in rows)
    print(
        f"MLlib's fits {total:.0f} s, our whole command {command:.1f} s: {total / command:.1f} "
        f"times as long; MLlib reached {n_reached} of {len(rows)} objectives"
    )
    return {
        "seconds": {"mllib": total, "command": command},
        "mllib_over_ours": total / command,
        "mllib_reached": n_reached,
        "within": WITHIN,
        "blas": blas,
        "points": rows,
    }


def fit_to_objective(
    frame: Any, train: Ratings, point: dict[str, Any], doublings: int
) -> dict[str, Any]:
    """Fit MLlib with as many iterations as ours had, and twice as many, until that is enough."""
    rank, reg, n = point["d"], point["lambda_reg"], point["iterations"]
    for doubled in range(doublings + 1):
        n = point["iterations"] << doubled
        fit = fit_mllib(frame, rank, n, reg)
        found = objective(train, fit.users, fit.items, reg)
        if found <= WITHIN * point["objective"]:
            break
    return {
        "d": rank,
        "lambda_reg": reg,
        "objective": point["objective"],
        "iterations": point["iterations"],
        "mllib_objective": found,
        "mllib_iterations": n,
        "mllib_reached": found <= WITHIN * point["objective"],
        "mllib_seconds": fit.seconds,
    }


def time_command(
    data: str, ranks: Sequence[int], lambdas: Sequence[float], exponent: float, folder: Path
) -> tuple[float, list[dict[str, Any]]]:
    """Time the whole command over the grid, Spark's start included; return its results too."""
    output = folder / f"exponent-{exponent:g}"
    command = [str(ROOT / "scripts" / "sweep.sh"), "--ratings", data]
    command += ["--ranks", ",".join(map(str, ranks)), "--lambdas", ",".join(map(str, lambdas))]
    command += ["--exponent", str(exponent), "--output", str(output)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYSPARK_")}
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    seconds = time.perf_counter() - began
    return seconds, json.loads((output / "results.json").read_text())


if __name__ == "__main__":
    sys.exit(main())
