"""Features of rows from files and DataFrames, against numbers made by hand."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from als_spark.errors import ConfigError, DataError
from als_spark.spark.prepare.row_features import build_features, row_features
from als_spark.spark.read.row_features import read_feature_columns
from als_spark.spark.read.sources import SourceOptions, read_source

N = 24
YEARS = [None, *(1990.0 + k for k in range(1, N))]
TOWNS = ["Bern" if k % 3 == 0 else "Ulm" if k % 3 == 1 else f"rare {k}" for k in range(N)]
GENRES = [
    [name for name, step in (("Drama", 2), ("War", 3), ("Rare", 20)) if k % step == 0]
    for k in range(N)
]
SCHEMA = "film string, year double, town string, genres array<string>, seen boolean, made date"


def by_hand() -> dict[str, np.ndarray]:
    years = np.array([np.nan if year is None else year for year in YEARS])
    years = np.where(np.isnan(years), np.nanmean(years), years)
    return {
        "year": (years - years.mean())[:, None] / years.std(ddof=1),
        "town": np.stack([[town == name for town in TOWNS] for name in ("Bern", "Ulm")], axis=1),
        "genres": np.stack([[name in own for own in GENRES] for name in ("Drama", "War")], axis=1),
    }


def in_order(features, column):
    """The features of a column, by rising number in the id."""
    order = np.argsort([int(name.strip("f")) for name in features.ids.to_pylist()])
    first = 0
    for found in features.columns:
        if found.name == column:
            return features.table[order, first : first + found.n_features]
        first += found.n_features
    raise AssertionError(f"no {column}")


@pytest.mark.slow
def test_columns_of_a_frame(spark: SparkSession) -> None:
    rows = [(f"f{k}", YEARS[k], TOWNS[k], GENRES[k], k < 9, date(2000, 1, 1 + k)) for k in range(N)]
    rows[4] = (*rows[4][:2], " NULL", None, *rows[4][4:])
    frame = spark.createDataFrame(rows, SCHEMA).selectExpr(
        *("*", "cast(null as double) nothing", "1 one", "'a' same", "struct(year) own"),
        *("film name", "string(int(year) % 2) code"),
    )
    found = row_features(frame.repartition(3), "item", "film")
    assert [(own.name, own.kind, own.values) for own in found.columns] == [
        ("year", "number", ()),
        ("made", "number", ()),
        ("town", "category", ("Bern", "Ulm")),
        ("genres", "list", ("Drama", "War")),
        ("seen", "category", ("false", "true")),
        # Text of a typed source is text, whatever it looks like.
        ("code", "category", ("1", "0")),
    ]
    assert [own.n_missing for own in found.columns] == [1, 0, 1, 9, 0, 1]
    assert [own.n_rare for own in found.columns] == [0, 0, 8, 1, 0, 0]
    assert found.ids.to_pylist() == sorted(f"f{k}" for k in range(N))
    for name, expected in by_hand().items():
        expected = expected.astype(float)
        if name != "year":
            expected[4] = 0
        np.testing.assert_allclose(in_order(found, name), expected, atol=1e-12)
    assert in_order(found, "seen")[:, 1].tolist() == [1.0] * 9 + [0.0] * (N - 9)
    assert sorted(found.left_out) == [
        "name: no value of at least 5 rows",
        "nothing: no row has a value",
        "one: the same number, 1, in all rows that have one",
        "own: of type struct<year:double>",
        "same: the same value, 'a', in all rows",
    ]
    odd = [*rows, ("f3", float("inf"), *rows[3][2:])]
    frame = spark.createDataFrame(odd, SCHEMA).selectExpr("*", "struct(year) own", "film name")
    with pytest.raises(DataError, match=r"year is infinite, or beyond ±1e\+18 \(1 row, such as"):
        row_features(frame, "item", "film")
    options = {"chosen": ["town", "year"], "bad_rows": "drop"}
    again = row_features(frame.coalesce(1), "item", "film", **options)
    assert [own.name for own in again.columns] == ["year", "town"]
    np.testing.assert_allclose(again.table[:, :1], found.table[:, :1], atol=1e-12)
    wrong = {
        r"no item column 'item': its columns are film, year": {"column": None},
        r"no column 'x' \(`item_feature_cols=x`\): .* are year, town": {"chosen": ["x"]},
        r"column 'own' is of type struct<year:double>: features are": {"chosen": ["town", "own"]},
        r"nothing in it is of use .*\(name: no value of at least 5 rows\)": {"chosen": ["name"]},
        r"the item column 'seen' is of type boolean": {"column": "seen"},
    }
    for words, options in wrong.items():
        with pytest.raises(DataError, match=words):
            row_features(frame, "item", **{"column": "film", **options})
    twice = spark.createDataFrame([*rows, rows[3]], SCHEMA)
    with pytest.raises(DataError, match="1 row too many: item f3 is there 2 times: give one row"):
        row_features(twice, "item", "film", chosen=["year"])
    with pytest.raises(ConfigError, match="features_from_frame takes a Spark DataFrame"):
        row_features([1], "item")  # type: ignore[arg-type]


@pytest.mark.slow
def test_columns_of_files(spark: SparkSession, tmp_path: Path) -> None:
    def read(name, text="", side="item", **options):
        path = tmp_path / name
        if text:
            path.write_text(text, encoding="utf-8")
        source = read_source(spark, SourceOptions(str(path), features_of=side, **options))
        return build_features(read_feature_columns(source, side))

    lines = [
        f'{k},"{TOWNS[k]}, there",{"|".join(GENRES[k])},{"n/a" if YEARS[k] is None else YEARS[k]}'
        for k in range(N)
    ]
    csv = "\n".join(["id,town,genres,year", *lines, ""])
    found = read("films.csv", csv, columns={"item": "id_in_ratings"})
    kinds = [(own.name, own.kind, len(own.values)) for own in found.columns]
    assert kinds == [("year", "number", 0), ("town", "category", 2), ("genres", "list", 2)]
    for name, expected in by_hand().items():
        np.testing.assert_allclose(in_order(found, name), expected.astype(float), atol=1e-12)
    wrong = {
        r"year is not a number \(1 row, such as id=7, .*year=soon": csv.replace(
            str(YEARS[7]), "soon"
        ),
        "no header: features are known by the names": "\n".join(lines),
        "no item column among film_code, town, genres": csv.replace("id,", "film_code,", 1),
        r"more or fewer fields than the first line \(1 row": csv + "99,Bern\n",
    }
    for place, (words, text) in enumerate(wrong.items()):
        with pytest.raises(DataError, match=words):
            read(f"wrong{place}.csv", text)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.csv").write_text(csv)
    (mixed / "b.csv").write_text(csv.replace("year", "made").replace(",", ";"))
    with pytest.raises(DataError, match="files of 2 kinds, whose columns have other names"):
        read("mixed")
