"""``jobs/recommend.py`` against NumPy on the stored factors."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from als_spark.model.factor_model import FactorModel
from jobs.recommend import main
from tests.jobs.nightly import BASE, Lake

TOP = 5
SEEN = set(zip(BASE.users.tolist(), BASE.items.tolist(), strict=True))
# Ratings of two users that the model does not know, and of one that it knows.
STRANGERS = {9001: {3: 5.0, 7: 1.0, 12: 4.0, 8888: 3.0}, 9002: {1: 2.0, 2: 4.5}}


@pytest.fixture(scope="module")
def lake(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    assert lake.retrain("--dtype", "float64", "--exponent", "1", "--lambda", "0.1") == 0
    lines = [f"{u},{i},{r}" for u, row in STRANGERS.items() for i, r in row.items()]
    lake.file("strangers.csv", [*lines, "4,5,1"], header="user,item,rating")
    return lake


def read(folder: Path) -> dict[Any, tuple[list[tuple[Any, float]], str]]:
    """Recommendations and source of each id."""
    if list(folder.glob("*.parquet")):
        rows = pq.read_table(folder).to_pylist()
    else:
        lines = [line for path in folder.glob("*.json") for line in path.read_text().splitlines()]
        rows = [json.loads(line) for line in lines]
    found = {}
    for row in rows:
        asked = row["user"] if "user" in row else row["item"]
        assert asked not in found
        pairs = [tuple(entry.values()) for entry in row["recommendations"]]
        found[asked] = (pairs, row["source"])
    return found


def best(scores: dict[Any, float], top: int = TOP) -> list[tuple[Any, float]]:
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:top]


def same(found: list[tuple[Any, float]], wanted: list[tuple[Any, float]]) -> None:
    assert [key for key, _ in found] == [key for key, _ in wanted]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in wanted], rtol=1e-9)


def by_id(model: FactorModel, side: str) -> dict[int, np.ndarray]:
    ids = model.users if side == "user" else model.items
    factors = model.factors.users if side == "user" else model.factors.items
    return dict(zip(ids.ids.to_pylist(), factors, strict=True))


def popular(model: FactorModel) -> list[tuple[int, float]]:
    stats = model.item_stats
    rows = zip(model.items.ids.to_pylist(), stats.degrees.tolist(), stats.means(), strict=True)
    order = sorted(rows, key=lambda row: (-row[1], row[0]))
    return [(item, float(mean)) for item, _, mean in order]


@pytest.mark.slow
def test_users_in_parquet_without_what_they_have_seen(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = tmp_path / "out", lake.store.load()
    options = ["--store", str(lake.path), "--top", str(TOP), "--output", str(out)]
    # As a program writes whole numbers beside missing ones.
    lines = [f"{user}.0,{item}.0" for user, item in SEEN]
    seen = lake.file("decimals.csv", [*lines, "4.0,NULL"], header="user,item")
    options += ["--exclude-seen", seen, "--bad-rows", "drop", "--strict"]
    assert main([*options, "--files", "1"]) == 0
    assert f"{len(model.users)} rows of recommendations are in {out}." in capsys.readouterr().out
    assert len(list(out.glob("*.parquet"))) == 1
    found, items = read(out), by_id(model, "item")
    assert found.keys() == set(model.users.ids.to_pylist())
    for user, factors in by_id(model, "user").items():
        pairs, source = found[user]
        assert source == "model"
        scores = {i: float(factors @ f) for i, f in items.items() if (user, i) not in SEEN}
        same(pairs, best(scores))


def test_listed_unknown_and_folded_users_in_json(lake: Lake, tmp_path: Path) -> None:
    out, model = tmp_path / "out", lake.store.load()
    listed = lake.file("users.txt", ["4", "17", "9001", "9002", "9003", "17"], header="user")
    options = ["--store", str(lake.path), "--top", str(TOP), "--output", str(out)]
    options += ["--format", "json", "--users", listed]
    assert main(options) == 0
    found, users, items = read(out), by_id(model, "user"), by_id(model, "item")
    assert found.keys() == {4, 17, 9001, 9002, 9003}
    for user in (4, 17):
        same(found[user][0], best({i: float(users[user] @ f) for i, f in items.items()}))
    for user in (9001, 9002, 9003):
        assert found[user] == (popular(model)[:TOP], "popular")
    least = int(np.sort(model.item_stats.degrees)[-3])
    often = set(model.items.ids.filter(model.item_stats.degrees >= least).to_pylist())
    assert main([*options, "--min-ratings", str(least)]) == 0
    rare = read(out)
    for user in (4, 17):
        same(rare[user][0], best({i: float(users[user] @ items[i]) for i in often}))
    assert rare[9001] == ([p for p in popular(model) if p[0] in often][:TOP], "popular")
    strangers = str(lake.folder / "strangers.csv")
    assert main([*options, "--fold-in", strangers, "--exclude-seen", strangers]) == 0
    found = read(out)
    assert found.keys() == {4, 17, 9001, 9002, 9003}
    # One who is known is not folded in: other ratings of his count for nothing but as seen.
    scores = {i: float(users[4] @ f) for i, f in items.items() if i != 5}
    same(found[4][0], best(scores))
    assert found[4][1] == "model"
    assert found[9003][1] == "popular"
    for user, rated in STRANGERS.items():
        known = {item: rating for item, rating in rated.items() if item in items}
        features = np.array([items[item] for item in known])
        ridge = 0.1 * len(known) * np.eye(model.rank)
        right = features.T @ np.array(list(known.values()))
        factors = np.linalg.solve(features.T @ features + ridge, right)
        scores = {i: float(factors @ f) for i, f in items.items() if i not in rated}
        assert found[user][1] == "fold_in"
        same(found[user][0], best(scores))


@pytest.mark.slow
def test_files_of_which_the_model_knows_nothing(
    lake: Lake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "out"
    users = lake.file("unknown.csv", ["9001.0", "9002", "None"], header="user")
    seen = lake.file("foreign.csv", ["4,8888", "17,8888"], header="user,item")
    new = lake.file("others.csv", ["9001,8888,3"], header="user,item,rating")
    known = lake.file("known.csv", ["4,5,1", "4,5,1"], header="user,item,rating")
    items = lake.file("no items.csv", ["8888"], header="item")
    options = ["--store", str(lake.path), "--top", "2", "--output", str(out)]
    wanted = [
        (["--users", users], f"{users}: the model knows none of its 2 user ids, which get the pop"),
        (["--exclude-seen", seen], f"{seen}: none of its 2 pairs is of a user and an item that"),
        (["--fold-in", new], f"{new}: none of its 1 ratings of new users is of an item that"),
        (["--fold-in", known], f"{known}: none of its 2 ratings is of a user that the model does"),
        (
            ["--users", items, "--for", "similar-items"],
            f"{items}: the model knows none of its 1 item ids, which are left out",
        ),
    ]
    for words, message in wanted:
        assert main([*options, *words, "--strict"]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
        assert not out.exists()
    together = [word for words, _ in wanted[:3] for word in words]
    with caplog.at_level(logging.INFO, "als_spark.recommend"):
        assert main([*options, *together]) == 0
    for _, message in wanted[:3]:
        assert f"warning: {message}" in caplog.text
    assert f"{users}: 1 user id written with decimals, such as 9001.0: read as 9001" in caplog.text
    assert "2 ids to recommend for; 1 rows have none" in caplog.text
    assert {user: source for user, (_, source) in read(out).items()} == dict.fromkeys(
        (9001, 9002), "popular"
    )


@pytest.mark.slow
def test_items_and_similar_items(lake: Lake, tmp_path: Path) -> None:
    model = lake.store.load()
    users, items = by_id(model, "user"), by_id(model, "item")
    options = ["--store", str(lake.path), "--top", str(TOP), "--format", "json"]
    out = tmp_path / "items"
    seen = ["--exclude-seen", str(lake.base)]
    assert main([*options, "--for", "items", *seen, "--output", str(out)]) == 0
    found = read(out)
    assert found.keys() == items.keys()
    for item, factors in items.items():
        scores = {u: float(factors @ f) for u, f in users.items() if (u, item) not in SEEN}
        same(found[item][0], best(scores))
    out = tmp_path / "similar"
    listed = lake.file("items.csv", ["3", "7", "8888"], header="movieId")
    words = ["--for", "similar-items", "--users", listed, "--output", str(out)]
    assert main([*options, *words]) == 0
    found = read(out)
    # Nothing is like an item that nobody knows.
    assert found.keys() == {3, 7}
    for item, (pairs, _) in found.items():
        mine = items[item]
        scores = {
            i: float(mine @ f / np.linalg.norm(mine) / np.linalg.norm(f))
            for i, f in items.items()
            if i != item
        }
        same(pairs, best(scores))


def test_the_output_is_replaced_only_if_it_is_ours(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--store", str(lake.path), "--output", str(out), "--files", "1"]
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert main(options) == 2
    assert "holds 'thesis.txt', which no earlier recommend" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    assert main([*options, "--format", "json"]) == 0
    assert len(list(out.glob("*.json"))) == 1
    version = str(lake.store.current())
    assert main([*options, "--version", version[:9], "--top", "1"]) == 0
    assert not list(out.glob("*.json"))
    assert all(len(pairs) == 1 for pairs, _ in read(out).values())
    # A run that fails leaves what is there.
    assert main([*options, "--users", str(lake.folder / "nowhere.txt")]) == 2
    assert "nowhere.txt: cannot be read" in capsys.readouterr().err
    assert len(read(out)) == 60
    # What only Spark has written is somebody else's.
    (out / "_ALS_SPARK").unlink()
    assert (out / "_SUCCESS").exists()
    assert main(options) == 2
    assert "holds '._SUCCESS.crc', which no earlier recommend" in capsys.readouterr().err
    assert len(read(out)) == 60
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_seen_pairs_need_no_ratings_and_those_folded_in_are_seen_too(
    lake: Lake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "als_spark.recommend")
    out, model = tmp_path / "out", lake.store.load()
    items = set(model.items.ids.to_pylist())
    ids = lake.file("few.txt", ["4", "9001"], header="17")
    rows = ["4,1,x", "17,2,", "17,3,5", ",7,5", "abc,1,1"]
    seen = lake.file("pairs.csv", rows, header="user,item,rating")
    options = ["--store", str(lake.path), "--output", str(out), "--users", ids]
    options += ["--top", "100000000", "--exclude-seen", seen, "--files", "3"]
    options += ["--fold-in", str(lake.folder / "strangers.csv")]
    assert main(options) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "pairs.csv: 1 unusable row: user is missing (1 row, such as user=null, item=7" in said
    assert said.endswith("leave these rows out with --bad-rows drop")
    assert main([*options, "--bad-rows", "drop"]) == 0
    assert f"{seen}: left out 1 unusable row: user is missing" in caplog.text
    assert f"4 pairs in {seen} are not recommended" in caplog.text
    strangers = lake.folder / "strangers.csv"
    assert f"4 pairs of new users in {strangers} are not recommended" in caplog.text
    found = read(out)
    assert {user: source for user, (_, source) in found.items()} == {
        4: "model",
        17: "model",
        9001: "fold_in",
    }
    for user, left_out in ((4, {1}), (17, {2, 3}), (9001, STRANGERS[9001].keys())):
        assert {item for item, _ in found[user][0]} == items - left_out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--fold-in", "x", "--for", "items"], "--fold-in x: users are folded in"),
        (["--exclude-seen", "x", "--for", "similar-items"], "--exclude-seen x: similar items"),
        (["--top", "0"], "--top 0: not usable"),
        (["--min-ratings", "0"], "--min-ratings 0: not usable"),
        (["--min-ratings", "999"], "--min-ratings 999: no item of the model has as many training"),
        (["--users", "{folder}/empty.txt"], "empty.txt: the file is empty"),
        (["--fold-in", "{folder}/bad.csv"], "1 unusable row: rating is not a number"),
        (["--fold-in", "{folder}/none.csv"], "none.csv: cannot be read: Path does not exist"),
        (["--exclude-seen", "{folder}/none.csv"], "check the path and the file"),
        (["--exclude-seen", "{folder}/empty.csv"], "no usable pairs of a user and an item"),
        (["--exclude-seen", "x", "--bad-rows", "keep"], "--bad-rows keep: not usable: use one of"),
    ],
)
def test_bad_input(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    (lake.folder / "empty.txt").write_text("")
    lake.file("empty.csv")
    lake.file("bad.csv", ["9001,2,4,3", "1,2,x,3", "9001,3,4,whenever"])
    words = [option.format(folder=lake.folder) for option in options]
    assert main(["--store", str(lake.path), "--output", str(tmp_path / "out"), *words]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tables_in_the_place_of_files(
    lake: Lake, spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = lake.file("asked.csv", ["9001", "4", "5", "7"], header="user")
    files = {
        "users": users,
        "exclude-seen": str(lake.base),
        "fold-in": f"{lake.folder}/strangers.csv",
    }
    for name, path in files.items():
        frame = spark.read.csv(path, header=True, inferSchema=True)
        frame.createOrReplaceTempView(f"listed_{name.replace('-', '_')}")
    tables = {name: f"table:listed_{name.replace('-', '_')}" for name in files}
    answers = []
    for inputs in (files, tables):
        out = tmp_path / f"out{len(answers)}"
        given = [word for name, value in inputs.items() for word in (f"--{name}", value)]
        assert main(["--store", str(lake.path), "--output", str(out), "--strict", *given]) == 0
        answers.append(read(out))
    assert answers[0] == answers[1]
    assert set(answers[1]) == {9001, 4, 5, 7}
    assert answers[1][9001][1] == "fold_in"
    capsys.readouterr()
    for name in tables:
        options = ["--store", str(lake.path), "--output", str(tmp_path / "no")]
        assert main([*options, f"--{name}", "table:nowhere"]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert "table nowhere: cannot be read: " in last
        assert last.endswith(": check the name of the table")
    assert not (tmp_path / "no").exists()
