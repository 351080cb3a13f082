"""How long ``inspect`` takes, against Spark's own ``df.summary()`` of the three columns.

Both begin at the files, Parquet and csv, and take turns. The csv is read with the types given,
which spares Spark another pass.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv

from scripts.bench.common import bench_parser, bench_session, write_result
from scripts.bench.plots import draw_overview
from scripts.bench.synthetic import Ratings, generate, write_parquet

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NAMES = {"inspect": "als-spark inspect", "summary": "df.summary()"}
SCHEMA = "user int, item int, rating double"
N_FILES = 8


def main(argv: list[str] | None = None) -> int:
    """Measure."""
    parser = bench_parser(__doc__, ratings=10_000_000)
    options = parser.parse_args(argv)
    n_ratings = 200_000 if options.quick else options.ratings
    with tempfile.TemporaryDirectory() as folder, bench_session("overview") as session:
        ratings = generate(n_ratings)
        write_parquet(ratings, Path(folder) / "parquet", N_FILES)
        write_csv(ratings, Path(folder) / "csv")
        rows = []
        for kind in ("parquet", "csv"):
            row = measure(session, kind, f"{folder}/{kind}", options.repeats)
            print(f"{kind}: inspect takes {row['inspect_over_summary']:.2f} of df.summary()")
            rows.append(row)
    path = write_result(options.output, "overview", {"ratings": n_ratings, "rows": rows})
    draw_overview(rows, NAMES, n_ratings, path.with_suffix(".png"))
    return 0


def write_csv(ratings: Ratings, folder: Path) -> None:
    """Write ratings as a folder of csv files."""
    folder.mkdir()
    table = pa.table({"user": ratings.users, "item": ratings.items, "rating": ratings.ratings})
    step = -(-table.num_rows // N_FILES)
    for k in range(N_FILES):
        pyarrow.csv.write_csv(table.slice(k * step, step), folder / f"part-{k:03}.csv")


def measure(session: SparkSession, kind: str, path: str, repeats: int) -> dict[str, Any]:
    """Take the seconds of both, in turns after a first round that does not count."""
    from als_spark.spark.read.overview import first_rows, id_warnings, look_over
    from als_spark.spark.read.sources import SourceOptions, read_source

    def inspect() -> None:
        source = read_source(session, SourceOptions(path=path))
        first_rows(source)
        id_warnings(session, source, look_over(session, source))

    def summary() -> None:
        reader = session.read.schema(SCHEMA).option("header", True).format(kind)
        frame = session.read.parquet(path) if kind == "parquet" else reader.load(path)
        frame.select("user", "item", "rating").summary().collect()

    taken: dict[str, list[float]] = {name: [] for name in NAMES}
    for round_ in range(repeats + 1):
        for name, work in (("inspect", inspect), ("summary", summary)):
            seconds = _seconds(work)
            if round_ > 0:
                taken[name].append(seconds)
    middle = {name: statistics.median(seconds) for name, seconds in taken.items()}
    ratio = middle["inspect"] / middle["summary"]
    return {"format": kind, "seconds": middle, "all": taken, "inspect_over_summary": ratio}


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
