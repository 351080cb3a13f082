"""What the benchmarks share: options, the session, the machine, and how results are written."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import threadpoolctl

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from scripts.bench.synthetic import Ratings

ROOT = Path(__file__).resolve().parent.parent.parent
MOVIELENS = ROOT.parent / "shared" / "data" / "ml-latest-small" / "ratings.csv"


def bench_parser(
    text: str | None, *, ratings: int | None = None, ranks: str | None = None, repeats: int = 3
) -> argparse.ArgumentParser:
    """Make the parser of a benchmark, with the options that all have and those it asks for."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small data: does it run at all")
    parser.add_argument("--output", type=result_folder, default="results/bench", metavar="DIR")
    parser.add_argument("--repeats", type=int, default=repeats, metavar="N")
    if ratings is not None:
        parser.add_argument("--ratings", type=int, default=ratings, metavar="N")
    if ranks is not None:
        parser.add_argument("--ranks", default=ranks, metavar="D,...")
    return parser


def result_folder(text: str) -> Path:
    """Refuse a folder that cannot be made, before hours are spent on what is to be written there.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no directory, or the first of its parents that exists cannot be written in.
    """
    folder = Path(text)
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f"{there} is not a directory that can be written in")
    return folder


@contextmanager
def bench_session(question: str) -> Iterator[SparkSession]:
    """Start Spark for a benchmark, and stop it."""
    from als_spark.spark.session import quiet_spark, start_session

    session = start_session(f"als_spark bench {question}")
    quiet_spark(session)
    try:
        yield session
    finally:
        session.stop()


@contextmanager
def synthetic_frame(session: SparkSession, ratings: Ratings) -> Iterator[DataFrame]:
    """Write ratings as Parquet and read them as a DataFrame, once, so that they are in memory."""
    from scripts.bench.synthetic import write_parquet

    with tempfile.TemporaryDirectory() as folder:
        write_parquet(ratings, Path(folder) / "ratings")
        frame = session.read.parquet(f"file://{folder}/ratings")
        frame.count()
        yield frame


def run_child(command: list[str], environment: dict[str, str]) -> Any:
    """Run a benchmark's part in a process of its own, and read what it prints last."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """Describe the machine and its BLAS: a figure means nothing without them."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    blas = [
        {key: library.get(key) for key in ("internal_api", "version", "num_threads")}
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": package_versions(),
        "blas": blas,
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that are compared."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("pyspark", "numpy", "scipy", "pyarrow", "cmfrec", "implicit"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory() -> int:
    """Peak resident bytes of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rmse(ratings: Ratings, users: Any, items: Any) -> float:
    """Root mean squared error of factors over ratings, rows by id."""
    total = 0.0
    for first in range(0, ratings.users.size, 1 << 20):
        part = slice(first, first + (1 << 20))
        predicted = np.einsum("nd,nd->n", users[ratings.users[part]], items[ratings.items[part]])
        errors = ratings.ratings[part].astype(np.float64) - predicted
        total += float(errors @ errors)
    return float(np.sqrt(total / ratings.users.size))


def objective(ratings: Ratings, users: Any, items: Any, reg: float) -> float:
    """Σ (r − u·v)² + λ Σ n |x|² (frequency exponent 1), in float64."""
    from als_spark.train.loop import ridge_term

    total = rmse(ratings, users, items) ** 2 * ratings.users.size
    for rows, factors in ((ratings.users, users), (ratings.items, items)):
        degrees = np.bincount(rows, minlength=factors.shape[0])
        total += ridge_term(factors, degrees, reg, 1.0)
    return total


def by_id(ids: Any, factors: Any) -> Any:
    """Spread factors so that row k is the one of id k."""
    spread = np.zeros((int(ids.max()) + 1, factors.shape[1]), factors.dtype)
    spread[ids] = factors
    return spread


def write_result(folder: Path, question: str, result: dict[str, Any]) -> Path:
    """Write ``QUESTION.json`` with the machine beside the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{question}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    print(f"written: {path}", file=sys.stderr)
    return path
