"""The report pages of sweep, retraining and evaluation, read back from their HTML."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest

from als_spark.report.format import OUTCOMES
from als_spark.report.pages.evaluate import evaluate_page
from als_spark.report.pages.retrain import RETRAIN_PICTURES, retrain_page
from als_spark.report.pages.sweep import SWEEP_PICTURES, sweep_page
from als_spark.report.pages.views import first_rows_table
from als_spark.solve.objective import Objective
from als_spark.train.records import ErrorMeans, Judge, ModelSpec, PointResult, RankingMeans
from tests.pages import (
    PAGE_WIDTH,
    Element,
    facts,
    headings,
    least_width,
    pictures,
    read_page,
    rows_of,
    section_of,
    tables,
    warnings_of,
)

SWEEP_PNGS = {name: name.encode() for name in SWEEP_PICTURES}
NOTE = "ridge λ|x|² for each row (exponent 0)"
HOSTILE = "<script>alert('x')</script>\"&amp;"


def badge(root: Element) -> tuple[str, str, str]:
    """Tone, word and sentence."""
    (found,) = [e for e in root.all("div") if e.kind.startswith("outcome")]
    return found.kind.split()[1], found.one("strong").text, found.one("span").text


# -------------------------------------------------------------------------------------------- sweep


def make_point(rank: int, reg: float, test: float, **more: Any) -> PointResult:
    return PointResult(
        spec=ModelSpec(0, rank, Objective(reg)),
        iterations=1234,
        evaluations=1240,
        converged=more.pop("converged", True),
        objective=1.0,
        seconds=75.0,
        errors={
            "train": ErrorMeans(test / 2, test / 3, 800),
            "test": ErrorMeans(test, test / 2, 200, more.pop("cold", 0)),
            **more,
        },
    )


# The best stands inside the grid, so that nothing has to be warned of but the choice itself.
RANKS, REGS = (1, 5, 20), (1.0, 2.0, 4.0)
GRID = [
    make_point(rank, reg, 1 + abs(rank - 5) / 10 + abs(reg - 2) / 100)
    for rank in RANKS
    for reg in REGS
]
BEST = 4
RUN: dict[str, Any] = {
    "status": "complete",
    "points": {"asked": 9, "finished": 9},
    "versions": {"als_spark": "0.1.0", "numpy": "2.4.6"},
    "spark_master": "local[2]",
    "source": "ratings.csv",
    "columns": {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": None},
    "data": {
        "users": 610,
        "items": 9724,
        "ratings": {"train": 80000, "test": 20004},
        "bad_rows_dropped": {},
        "duplicate_pairs": 0,
        "lowest_rating": 0.5,
        "highest_rating": 5.0,
        "histogram": [[0.5, 0.5, 25001], [4.5, 5.0, 75003]],
    },
    "parts": [
        {
            "words": "ratings.csv: text",
            "format": "text",
            "columns": [
                {"name": "userId", "type": "string", "role": "user"},
                {"name": "note", "type": "string"},
            ],
        }
    ],
    "first_rows": [
        {"user": "7", "item": "a", "rating": 3.5, "problem": None},
        {"user": None, "item": "b", "rating": None, "problem": "user is missing"},
    ],
    "placement": "grid",
    "config": {
        "ranks": list(RANKS),
        "lambdas": list(REGS),
        "exponent": 0.0,
        "max_iter": 1000,
        "cold_start": "mean",
        "duplicates": "mean",
    },
    "started": "2026-03-01T02:00:00+00:00",
    "seconds": {"reading ratings": 3.2, "training": 125.0, "total": 130.0},
}
OPTIMISTIC = "The test ratings chose the best model"


def changed(path: str, value: Any, run: dict[str, Any] = RUN) -> dict[str, Any]:
    """The run record with another value at a path of keys."""
    run = copy.deepcopy(run)
    *parents, last = path.split(".")
    at = run
    for key in parents:
        at = at[key]
    at[last] = value
    return run


def test_first_rows_that_are_all_usable_have_no_column_of_problems() -> None:
    rows = [{"user": "7", "item": "a", "rating": 3.5, "problem": None}]
    table = first_rows_table(rows)
    assert [list(table.headers), *map(list, table.rows)] == [
        ["user", "item", "rating"],
        ["7", "a", "3.5"],
    ]


def test_the_sweep_page_tells_what_ran_and_which_model_is_best() -> None:
    root = read_page(sweep_page(GRID, BEST, "test", RUN, SWEEP_PNGS, objective_note=NOTE))
    assert badge(root) == (
        "good",
        "complete",
        "The best of 9 models: rank d = 5, λ = 2, test MSE 1.0000.",
    )
    assert "started 2026-03-01 02:00:00 UTC" in root.one("header").text
    assert headings(root) == [
        *("Take note", "Data", "Results", "Pictures", "Time", "Versions", "Configuration")
    ]
    assert facts(section_of(root, "Data")) == {
        "source": "ratings.csv",
        "columns": "user: userId, item: movieId, rating: rating",
        "ratings": "80,000 train, 20,004 test",
        "users": "610",
        "items": "9,724",
        "lowest, highest rating": "0.5, 5",
        "pairs rated more than once": "0",
        "rows dropped": "0",
        "Spark master": "local[2]",
        "placement": "grid",
        "columns and types": "userId is the user, note",
    }
    first, bars = tables(section_of(root, "Data"))
    assert rows_of(first) == [
        ["user", "item", "rating", ""],
        ["7", "a", "3.5", "–"],
        ["–", "b", "–", "user is missing"],
    ]
    assert rows_of(bars) == [
        ["rating", "ratings", "share"],
        ["0.5", "25,001", "25.0 %"],
        ["4.5 to 5", "75,003", "75.0 %"],
    ]
    assert f"this objective: {NOTE}." in section_of(root, "Results").text
    assert pictures(root) == [(alt, SWEEP_PNGS[n]) for n, (alt, _) in SWEEP_PICTURES.items()]
    (time,) = tables(section_of(root, "Time"))
    assert rows_of(time)[1:] == [
        ["reading ratings", "3.2 s"],
        ["training", "2 min 05 s"],
        ["total", "2 min 10 s"],
    ]
    assert facts(section_of(root, "Versions")) == RUN["versions"]
    assert json.loads(section_of(root, "Configuration").one("pre").text) == RUN["config"]
    (warning,) = warnings_of(root)
    assert warning.startswith(OPTIMISTIC)


def test_the_results_hold_every_error_and_mark_the_best_row() -> None:
    root = read_page(sweep_page(GRID, BEST, "test", RUN, {}))
    (table,) = tables(section_of(root, "Results"))
    header, *rows = rows_of(table)
    assert header[1:3] == ["d", "λ"]
    measures = ("rmse", "mse", "mae")
    assert header[3:9] == [f"{s} {name.upper()}" for s in ("train", "test") for name in measures]
    for row, point in zip(rows, GRID, strict=True):
        assert (int(row[1]), float(row[2])) == (point.rank, point.reg)
        errors = [e for split in ("train", "test") for e in (point.errors[split],)]  # type: ignore[index]
        expected = [getattr(means, name) for means in errors for name in measures]
        assert [float(cell) for cell in row[3:9]] == pytest.approx(expected, abs=6e-5)
        assert row[9:] == ["1,234", "stopping rule", "1 min 15 s"]
    assert [row[0].strip() for row in rows] == ["★ best" if k == BEST else "" for k in range(9)]
    assert [r.kind for r in table.all("tr")[1:]] == ["good" if k == BEST else "" for k in range(9)]
    assert "Pictures" not in headings(root)
    assert "this objective" not in section_of(root, "Results").text


def test_rankings_have_a_table_of_their_own_with_the_popular_items() -> None:
    def means_of(ndcg: float) -> RankingMeans:
        return RankingMeans(ndcg, 0.25, 0.125, 0.0625, 0.75, 20, 5, 4.0)

    points = [replace(p, rankings={"test": means_of(0.1 + k / 100)}) for k, p in enumerate(GRID)]
    judge, best, popular = Judge("ndcg", 5), 8, {"test": means_of(0.13)}
    page = sweep_page(points, best, "test", RUN, SWEEP_PNGS, judge=judge, popular=popular)  # type: ignore[arg-type]
    root = read_page(page)
    assert badge(root)[2] == "The best of 9 models: rank d = 20, λ = 4, test NDCG@5 0.1800."
    (table,) = tables(section_of(root, "Rankings"))
    header, *rows = rows_of(table)
    labels = ["NDCG@5", "recall@5", "precision@5", "MAP@5", "coverage"]
    assert header[3:] == labels
    assert table.one("caption").text.startswith("On the test ratings. The popular items, ")
    assert [float(row[3]) for row in rows] == pytest.approx(
        [0.1 + k / 100 for k in range(9)] + [0.13]
    )
    assert rows[-1][0] == "popular items"
    assert [float(cell) for cell in rows[-1][4:]] == [0.25, 0.125, 0.0625, 0.75]
    assert rows[best][0] == "★ best"
    assert not any("--implicit" in line for line in warnings_of(root))
    popular = {"test": means_of(0.5)}
    page = sweep_page(points, best, "test", RUN, {}, judge=judge, popular=popular)  # type: ignore[arg-type]
    assert any("with --implicit --exponent 0.5" in line for line in warnings_of(read_page(page)))
    below = "3 of 9 models rank worse than the popular items (test NDCG@5 below 0.1300)."
    assert below in warnings_of(root)
    assert ("Coloured cells with the NDCG@5 of every rank and λ", b"heatmap.png") in pictures(root)
    assert "Chosen: the largest test NDCG@5." in section_of(root, "Results").text


def test_the_biases_alone_stand_below_the_models() -> None:
    biases = {"train": ErrorMeans(0.64, 0.5, 9), "test": ErrorMeans(1.21, 0.6, 9)}
    root = read_page(sweep_page(GRID, BEST, "test", RUN, {}, biases=biases))  # type: ignore[arg-type]
    (table,) = tables(section_of(root, "Results"))
    last = rows_of(table)[-1]
    assert last[0] == "biases alone"
    assert last[3:9] == ["0.8000", "0.6400", "0.5000", "1.1000", "1.2100", "0.6000"]
    worse = [p for p in GRID if p.errors["test"].mse > 1.21]
    assert len(worse) == 6
    warning = "6 of 9 models predict worse than the biases alone (test RMSE above 1.1000)."
    assert warning in warnings_of(root)
    assert not any("Next to try" in line for line in warnings_of(root))
    page = sweep_page(GRID, BEST, "test", RUN, {}, biases={"test": ErrorMeans(0.9, 0.6, 9)})
    found = warnings_of(read_page(page))
    assert any("models, the best among them, predict worse" in line for line in found)
    assert any("with --exponent 1 --lambdas 0.05,0.1,0.2, and" in line for line in found)


def test_the_widest_tables_fit_a_page_of_1200_pixels() -> None:
    means = RankingMeans(0.1234, 0.1234, 0.1234, 0.1234, 0.1234, 12345, 100, 4.0)
    splits = ("validation", "test")
    widest = [
        replace(
            point,
            spec=ModelSpec(0, 2000, Objective(1.23457e-05)),
            seconds=3723.0,
            converged=k > 0,
            errors=dict.fromkeys(("train", *splits), ErrorMeans(123.456, 123.456, 9)),
            rankings=dict.fromkeys(splits, means),
        )
        for k, point in enumerate(GRID)
    ]
    popular = dict.fromkeys(splits, means)
    page = sweep_page(widest, 1, "validation", RUN, {}, judge=Judge("ndcg", 100), popular=popular)  # type: ignore[arg-type]
    root = read_page(page)
    (errors,) = tables(section_of(root, "Results"))
    rankings = tables(section_of(root, "Rankings"))
    assert [t.one("caption").text.split(".")[0] for t in rankings] == [
        "On the validation ratings",
        "On the test ratings",
    ]
    for table in (errors, *rankings):
        assert 500 < least_width(table) <= PAGE_WIDTH


def test_a_choice_on_validation_is_no_warning_and_missing_errors_are_dashes() -> None:
    points = [
        replace(p, errors={**p.errors, "validation": ErrorMeans(p.errors["test"].mse, 0.5, 9)})
        for p in GRID
    ]
    points[0] = replace(points[0], errors={"validation": ErrorMeans(9.0, 2.0, 9)})
    root = read_page(sweep_page(points, BEST, "validation", RUN, {}))
    assert "validation MSE 1.0000" in badge(root)[2]
    assert warnings_of(root) == []
    assert "Take note" not in headings(root)
    (table,) = tables(section_of(root, "Results"))
    assert rows_of(table)[1][3:12] == [*"–––", "3.0000", "9.0000", "2.0000", *"–––"]


def test_an_interrupted_sweep_says_what_is_missing() -> None:
    run = changed("points", {"asked": 9, "finished": 5}, {**RUN, "status": "interrupted"})
    root = read_page(sweep_page(GRID[:5], BEST, "test", run, SWEEP_PNGS))
    tone, word, sentence = badge(root)
    assert (tone, word) == ("neutral", "interrupted")
    assert sentence.startswith("Stopped after 5 of 9 models. The best of 5 models:")
    # The first point lies on an edge, which means something only where all of the grid has run.
    for record, told in ((run, False), (RUN, True)):
        page = read_page(sweep_page(GRID, 0, "test", record, {}))
        assert any("of the grid" in warning for warning in warnings_of(page)) == told
    assert any("4 of 9 models are missing" in line for line in warnings_of(root))


@pytest.mark.parametrize(
    ("points", "best", "run", "warning"),
    [
        (
            [replace(p, converged=k >= 2) for k, p in enumerate(GRID)],
            BEST,
            RUN,
            "2 of 9 models were stopped by the cap on iterations (--max-iter 1000), before",
        ),
        (
            [*GRID[:8], replace(GRID[8], converged=False)],
            BEST,
            changed("config", {}),
            "1 of 9 models was stopped by the cap on iterations (--max-iter –), before",
        ),
        (
            [replace(p, converged=False) for p in GRID],
            BEST,
            RUN,
            "d = 1, λ = 4; d = 5, λ = 1; d = 5, λ = 2; d = 5, λ = 4; and 3 more.",
        ),
        (GRID, 7, RUN, "The best rank, d = 20, is the largest of the grid"),
        (GRID, 3, RUN, "The best λ, 1, is the smallest of the grid: a smaller one"),
        (GRID, 5, RUN, "The best λ, 4, is the largest of the grid: a larger one"),
        (
            [*GRID[:8], make_point(20, 4.0, math.nan)],
            BEST,
            RUN,
            "1 of 9 models has no finite test error",
        ),
        (
            [*GRID[:4], make_point(5, 2.0, 1.0, cold=50), *GRID[5:]],
            BEST,
            RUN,
            "50 of 200 test ratings are of users or items without training ratings; they are pred",
        ),
        (
            [*GRID[:4], make_point(5, 2.0, 1.0, cold=50), *GRID[5:]],
            BEST,
            changed("config.cold_start", "drop"),
            "50 of 250 test ratings are of users or items without training ratings; they are left",
        ),
        (
            [*GRID[:4], make_point(5, 2.0, 1.0, cold=50), *GRID[5:]],
            BEST,
            changed("config", {}),
            "they are counted apart.",
        ),
        (
            GRID,
            BEST,
            changed("data.bad_rows_dropped", {"no user": 1200, "rating <b>": 3}),
            "3 rows were dropped: rating <b>. They are in the folder rejected/.",
        ),
        (
            GRID,
            BEST,
            changed("data.duplicate_pairs", 4321),
            "4,321 pairs were rated more than once; of each the mean was taken.",
        ),
    ],
)
def test_the_sweep_warns(
    points: list[PointResult], best: int, run: dict[str, Any], warning: str
) -> None:
    found = warnings_of(read_page(sweep_page(points, best, "test", run, {})))
    assert [warning in line for line in found].count(True) == 1
    others = [line for line in found if warning not in line and OPTIMISTIC not in line]
    assert all("rows were dropped" in line or "Next to try" in line for line in others)
    assert any("Next to try" in line for line in found) == ("of the grid" in warning)


def test_the_sweep_counts_dropped_rows() -> None:
    run = changed("data.bad_rows_dropped", {"no user": 1200, "no item": 34})
    assert facts(read_page(sweep_page(GRID, BEST, "test", run, {})))["rows dropped"] == "1,234"


def test_one_rank_and_one_lambda_have_no_edge() -> None:
    run = changed("config.ranks", [5], changed("config.lambdas", [2.0]))
    run["points"] = {"asked": 1}
    (warning,) = warnings_of(read_page(sweep_page([GRID[4]], 0, "test", run, {})))
    assert warning.startswith(OPTIMISTIC)


def test_a_bare_record_still_makes_a_page() -> None:
    root = read_page(sweep_page(GRID, BEST, "test", {}, {}))
    assert badge(root)[1] == "interrupted"
    assert headings(root) == ["Take note", "Data", "Results"]
    assert facts(root) == {"rows dropped": "0"}


# ------------------------------------------------------------------------------------------ retrain

BINS = [
    {"label": "1–5", "count": 100, "mse": 1.44, "mae": 0.9},
    {"label": "6–20", "count": 0, "mse": None, "mae": None},
    {"label": "21–100", "count": 12345, "mse": 0.64, "mae": 0.6},
]
RETRAIN: dict[str, Any] = {
    "run": "20260301-020000",
    "started": "2026-03-01T02:00:00+00:00",
    "finished": "2026-03-01T02:04:05+00:00",
    "outcome": "published",
    "exit_code": 0,
    "sentence": "Version v0007 is published: its RMSE is lower.",
    "source": {"label": "ratings/", "increments": ["2026-02-28.csv", "2026-03-01.csv"]},
    "data": {
        "ratings": 100836,
        "users": 610,
        "items": 9724,
        "lowest": 0.5,
        "highest": 5.0,
        "mean": 3.501557,
        "bad_rows": 3,
        "duplicates": 0,
        "new_users": 4,
        "new_items": 17,
        "unknown_share": 0.0123,
    },
    "checks": [
        {
            "name": "unusable rows of new_a.csv",
            "value": 0.01,
            "limit": 0.5,
            "previous": 0.02,
            "passed": True,
        },
        {
            "name": "mean rating of new_a.csv",
            "value": 2.5,
            "limit": 0.5,
            "previous": None,
            "passed": False,
        },
    ],
    "training": {
        "start": "warm",
        "reason": "the champion has the same rank",
        "rank": 20,
        "lambda_reg": 0.05,
        "exponent": 1.0,
        "iterations": 12,
        "converged": False,
        "objective": 65432.123456,
        "history": [[1, 70000.0, 3.0], [2, 66000.0, 1.0]],
    },
    "comparison": {
        "measure": "rmse",
        "margin": 0.001,
        "holdout": 20167,
        "champion": {"version": "v0006", "rmse": 0.9, "mae": 0.7, "ndcg": 0.30, "recall": 0.1},
        "challenger": {"version": None, "rmse": 0.88, "mae": 0.72, "ndcg": 0.31, "recall": 0.1},
        "verdict": "the challenger is better by more than the margin",
    },
    "version": "v0007",
    "previous_version": "v0006",
    "warnings": ["two increments have one name"],
    "config": {"rank": 20, "store": "models/"},
    "versions": {"als_spark": "0.1.0"},
    "seconds": {"reading_ratings": 30.0, "total": 245.0, "skipped": None},
}
PNGS = {name: name.encode() for name in RETRAIN_PICTURES}


def test_the_retrain_page_tells_of_a_refit() -> None:
    refit = {
        "ratings": 100836,
        "held_out_before": 20167,
        "iterations": 3,
        "converged": False,
        "objective": 65000.5,
        "seconds": 1.5,
        "measured": "before the refit",
    }
    root = read_page(retrain_page({**RETRAIN, "refit": refit}, PNGS))
    assert facts(section_of(root, "Refit on all ratings")) == {
        "trained on": "100,836",
        "of these held out before": "20,167",
        "start": "the factors of the challenger",
        "iterations": "3",
        "ended": "by the cap",
        "objective": "65,000.5",
        "measures on this page": "before the refit",
    }
    assert "The refit was stopped by the cap after 3 iterations" in warnings_of(root)[-1]


def test_the_retrain_page_tells_the_whole_run() -> None:
    root = read_page(retrain_page(RETRAIN, PNGS))
    assert badge(root) == ("good", "published", RETRAIN["sentence"])
    subtitle = root.one("header").one("p").text
    assert subtitle == (
        "run 20260301-020000, started 2026-03-01 02:00:00 UTC, finished 2026-03-01 02:04:05 UTC"
    )
    assert headings(root) == [
        *("Take note", "Run", "Data", "Checks of the data", "Training", "Comparison", "History"),
        *("Time", "Versions", "Configuration"),
    ]
    assert facts(section_of(root, "Run")) == {
        "published version": "v0007",
        "version before": "v0006",
        "exit code": "0",
    }
    assert facts(section_of(root, "Data")) == {
        "source": "ratings/",
        "increments": "2026-02-28.csv, 2026-03-01.csv",
        "ratings": "100,836",
        "users": "610",
        "items": "9,724",
        "lowest rating": "0.5",
        "highest rating": "5",
        "mean rating": "3.50156",
        "unusable rows": "3",
        "duplicates": "0",
        "new users": "4",
        "new items": "17",
        "share of unknown users or items": "1.2 %",
    }
    assert facts(section_of(root, "Training")) == {
        "start": "warm",
        "because": "the champion has the same rank",
        "rank d": "20",
        "ridge λ": "0.05",
        "exponent ν of the counts": "1",
        "iterations": "12",
        "ended": "by the cap",
        "objective": "65,432.1",
    }
    columns = [{"name": "year", "kind": "number"}, {"name": "kind", "kind": "list", "values": 3}]
    own = {"columns": columns, "rated_with": 9066, "rated_without": 0, "by_features_alone": 361}
    page = retrain_page({**RETRAIN, "features": {"item": own}}, {})
    told = facts(section_of(read_page(page), "Training"))
    assert told["features of an item"] == "year (number), kind (list, 3 values)"
    assert told["rated items with features"] == "9,066"
    assert told["items known by features alone"] == "361"
    assert "rated items without" not in told
    assert warnings_of(root) == [
        "two increments have one name",
        "Data checks that failed: mean rating of new_a.csv.",
        "Training was stopped by the cap after 12 iterations, before the stopping rule was met.",
    ]
    (time,) = tables(section_of(root, "Time"))
    assert rows_of(time)[1:] == [["reading ratings", "30.0 s"], ["total", "4 min 05 s"]]
    assert [row.kind for row in time.all("tr")[1:]] == ["", "neutral"]


def test_failed_checks_are_highlighted_and_named() -> None:
    (table,) = tables(section_of(read_page(retrain_page(RETRAIN, {})), "Checks of the data"))
    assert rows_of(table)[1:] == [
        ["unusable rows of new_a.csv", "0.01", "0.5", "0.02", "passed"],
        ["mean rating of new_a.csv", "2.5", "0.5", "–", "failed"],
    ]
    assert [row.kind for row in table.all("tr")[1:]] == ["", "bad"]


def test_the_comparison_says_for_each_measure_who_is_better() -> None:
    root = read_page(retrain_page(RETRAIN, {}))
    section = section_of(root, "Comparison")
    assert facts(section) == {
        "verdict": "the challenger is better by more than the margin",
        "decided by": "RMSE",
        "margin": "0.001",
        "ratings held out": "20,167",
    }
    (table,) = tables(section)
    assert rows_of(table) == [
        ["measure", "champion (v0006)", "challenger", "difference", "challenger is"],
        ["RMSE", "0.9000", "0.8800", "-0.0200", "better"],
        ["MAE", "0.7000", "0.7200", "+0.0200", "worse"],
        ["NDCG", "0.3000", "0.3100", "+0.0100", "better"],
        ["Recall", "0.1000", "0.1000", "0.0000", "equal"],
    ]
    assert [row.kind for row in table.all("tr")[1:]] == ["neutral", "", "", ""]


@pytest.mark.parametrize("champion", [None, {"version": "v1", "rmse": None}])
def test_without_a_champion_there_is_no_difference(champion: Any) -> None:
    root = read_page(retrain_page(changed("comparison.champion", champion, RETRAIN), {}))
    (table,) = tables(section_of(root, "Comparison"))
    assert rows_of(table)[1] == ["RMSE", "–", "0.8800", "–", "–"]


def test_an_unknown_measure_decides_under_its_own_name() -> None:
    root = read_page(retrain_page(changed("comparison.measure", "hit rate", RETRAIN), {}))
    section = section_of(root, "Comparison")
    assert facts(section)["decided by"] == "hit rate"
    assert {row.kind for row in section.all("tr")} == {""}


def test_pictures_stand_where_they_belong() -> None:
    root = read_page(retrain_page(RETRAIN, {**PNGS, "b.png": b"b", "a.png": b"a"}))
    for heading in {heading for heading, _, _ in RETRAIN_PICTURES.values()}:
        section = section_of(root, heading)
        own = {name: known for name, known in RETRAIN_PICTURES.items() if known[0] == heading}
        assert pictures(section) == [(alt, name.encode()) for name, (_, alt, _) in own.items()]
        assert [one.text for one in section.all("figcaption")] == [one[2] for one in own.values()]
    other = section_of(root, "Other pictures")
    assert pictures(other) == [("a.png", b"a"), ("b.png", b"b")]
    assert pictures(read_page(retrain_page(RETRAIN, {}))) == []


@pytest.mark.parametrize("outcome", [*OUTCOMES, "odd", None])
def test_every_outcome_has_a_word_and_a_tone(outcome: str | None) -> None:
    tone, word, _ = badge(read_page(retrain_page({"outcome": outcome}, {})))
    if outcome in OUTCOMES:
        assert (word, tone) == OUTCOMES[outcome]
    else:
        assert (word, tone) == (outcome or "no outcome recorded", "bad")


# --------------------------------------------------------------------------------------- evaluation

EVALUATE: dict[str, Any] = {
    "run": "eval-1",
    "started": "2026-03-01T02:00:00+00:00",
    "model": {
        "label": "models/current",
        "version": "v0007",
        "rank": 20,
        "lambda_reg": 0.05,
        "objective_of_lambda": "ridge of each row",
    },
    "source": "ratings.csv",
    "data": {"ratings": 20167, "users": 600, "bad_rows": 0},
    "metrics": {
        "mse": 0.7744,
        "mae": 0.67,
        "rmse": 0.88,
        "ndcg": 0.31,
        "recall": 0.1,
        "precision": 0.2,
        "map": 0.05,
        "coverage": None,
        "k": 10,
        "relevant_from": 4.0,
    },
    "by_user": BINS,
    "by_item": BINS[:2],
    "warnings": ["3 users are not in the model"],
    "config": {"k": 10},
    "versions": {"numpy": "2.4.6"},
    "seconds": {"total": 9.5},
}


def test_the_evaluation_page_has_measures_with_their_meaning() -> None:
    root = read_page(evaluate_page(EVALUATE))
    assert badge(root) == ("good", "evaluated", "RMSE 0.8800 over 20,167 ratings.")
    assert headings(root) == [
        *("Take note", "Model", "Data", "Measures", "Who is predicted well"),
        *("Time", "Versions", "Configuration"),
    ]
    model = facts(section_of(root, "Model"))
    assert (model["ridge λ"], model["objective"]) == ("0.05", "ridge of each row")
    assert facts(section_of(root, "Data")) == {
        "source": "ratings.csv",
        "ratings": "20,167",
        "users": "600",
        "bad rows": "0",
    }
    assert warnings_of(root) == ["3 users are not in the model"]
    section = section_of(root, "Measures")
    (table,) = tables(section)
    rows = rows_of(table)[1:]
    assert [row[:3] for row in rows] == [
        ["RMSE", "0.8800", "lower"],
        ["MAE", "0.6700", "lower"],
        ["MSE", "0.7744", "lower"],
        ["NDCG@10", "0.3100", "higher"],
        ["Recall@10", "0.1000", "higher"],
        ["Precision@10", "0.2000", "higher"],
        ["MAP@10", "0.0500", "higher"],
        ["Coverage@10", "–", "higher"],
    ]
    assert rows[4][3] == "share of a user's relevant items that are among the first 10"
    assert "Relevant is a rating of at least 4." in section.text


def test_bins_are_in_tables_and_drawn() -> None:
    root = read_page(evaluate_page(EVALUATE))
    section = section_of(root, "Who is predicted well")
    by_user, by_item = tables(section)
    assert rows_of(by_user)[1:] == [
        ["1–5", "100", "1.2000", "0.9000"],
        ["6–20", "0", "–", "–"],
        ["21–100", "12,345", "0.8000", "0.6000"],
    ]
    assert by_item.one("caption").text == "By popularity of the item"
    ((_, png),) = pictures(section)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    given = section_of(read_page(evaluate_page(EVALUATE, b"drawn already")), section.one("h2").text)
    assert [content for _, content in pictures(given)] == [b"drawn already"]


def test_calibration_is_in_tables_and_drawn() -> None:
    calibration = {
        "by_prediction": [
            {"count": 7, "predicted": 2.5, "observed": 2.75},
            {"count": 8, "predicted": 4.0, "observed": 3.9},
        ],
        "intervals": [{"coverage": 0.5, "observed": 0.512}],
    }
    record = EVALUATE | {"calibration": calibration}
    section = section_of(read_page(evaluate_page(record)), "Calibration")
    tenths, intervals = map(rows_of, tables(section))
    assert tenths[1:] == [["1", "7", "2.5000", "2.7500"], ["2", "8", "4.0000", "3.9000"]]
    assert intervals[1:] == [["50.0 %", "51.2 %"]]
    assert len(pictures(section)) == 1
    given = section_of(read_page(evaluate_page(record, None, b"drawn")), "Calibration")
    assert [content for _, content in pictures(given)] == [b"drawn"]


def test_what_was_learnt_stands_in_place_of_a_ridge() -> None:
    learnt = {
        "noise_deviation": 0.72,
        "prior_deviations": {"user_bias": 0.4, "item_bias": 0.5, "products": 0.3},
        "freedom": {"user": 5.7, "item": 26.0},
        "r_hat": None,
    }
    told = {
        "standard deviation of the noise": "0.72",
        "of biases of users": "0.4",
        "of biases of items": "0.5",
        "of products of factors": "0.3",
        "degrees of freedom of the noise, users": "5.7",
        "degrees of freedom of the noise, items": "26",
    }
    model = {**EVALUATE["model"], "method": "variational", "learnt": learnt}
    found = facts(section_of(read_page(evaluate_page(EVALUATE | {"model": model})), "Model"))
    assert found.items() >= told.items()
    assert not found.keys() & {"ridge λ", "objective"}
    training = {**RETRAIN["training"], "learnt": learnt}
    page = read_page(retrain_page(RETRAIN | {"training": training}, {}))
    assert facts(section_of(page, "Training")).items() >= told.items()


def test_measures_without_a_length_of_list() -> None:
    record = {"metrics": {"ndcg": 0.5}, "source": {"label": "a.csv", "held_out": 5}}
    root = read_page(evaluate_page(record))
    assert badge(root) == ("good", "evaluated", "NDCG 0.5000.")
    assert rows_of(tables(root)[0])[1][:2] == ["NDCG", "0.5000"]
    assert facts(root) == {"source": "a.csv", "held out": "5"}


def test_an_evaluation_that_measured_nothing_is_bad() -> None:
    for record in ({}, {"metrics": None}, {"metrics": {"rmse": None}}):
        tone, word, sentence = badge(read_page(evaluate_page(record)))
        assert (tone, word) == ("bad", "not evaluated")
        assert sentence == "The run ended before anything was measured."


# ---------------------------------------------------------------------------------- of both of them

PAGES = {
    "retrain": (RETRAIN, lambda record: retrain_page(record, PNGS)),
    "evaluate": (EVALUATE, evaluate_page),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_any_key_may_be_missing_or_null(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Figures are made as always, but what Matplotlib would draw is not looked at.
    drawn = "als_spark.report.pages.evaluate.png_of"
    monkeypatch.setattr(drawn, lambda figure: repr(figure.axes).encode())
    record, page = PAGES[name]
    full = dict.fromkeys(headings(read_page(page(record))), True)
    for key in record:
        without = {other: value for other, value in record.items() if other != key}
        assert page({**record, key: None}) == page(without)
        assert full.items() >= dict.fromkeys(headings(read_page(page(without))), True).items()
    for key, value in record.items():
        if isinstance(value, dict):
            for inner in value:
                read_page(page(changed(f"{key}.{inner}", None, record)))
    read_page(page({}))
    read_page(page(dict.fromkeys(record)))


def hostile(value: Any) -> Any:
    """The record with every text in it replaced."""
    if isinstance(value, dict):
        return {key: hostile(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [hostile(entry) for entry in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("name", PAGES)
def test_no_text_of_a_record_gets_out_of_its_place(name: str) -> None:
    record, page = PAGES[name]
    root = read_page(page(hostile(record)))
    assert headings(root) == headings(read_page(page(record)))
    assert root.text.count(HOSTILE) >= 5


@pytest.mark.parametrize("name", PAGES)
def test_equal_records_give_equal_pages(name: str) -> None:
    record, page = PAGES[name]
    assert page(record) == page(copy.deepcopy(record))
