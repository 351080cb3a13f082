"""Lists: what ``recommend`` serves, against ``implicit``'s ALS and the popular items; ``--refit``.

MovieLens latest-small. The last 6 % are held out, once of all ratings by time, and once of each
user's. Each library is tuned by NDCG@10 on the last 6 % of each user's remaining ratings: by time
almost nobody has ratings on both sides of a cut. Both have the same rank, iterations, number of
points and of starts (seeds; means over them).

Ours goes the way of ``docs/lists.md``: ``sweep --implicit --judge ndcg``, once for each α,
``train --from-sweep --refit``, ``recommend --exclude-seen``. In both libraries users without a
training rating get the popular items.

``train --refit`` also writes the model before the refit, which lacks what ``train`` has held out:
by time the last 6 % of all ratings, else a tenth at random. Lists of both stand beside each other,
and the RMSE of an explicit model before and after.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy import sparse

from als_spark.cli.recommend import main as recommend
from als_spark.cli.sweep import main as sweep
from als_spark.cli.train import main as train
from als_spark.model.files import load_before_refit, load_model
from scripts.bench.common import MOVIELENS, bench_parser, bench_session, write_result
from scripts.bench.held_out import (
    CUTS,
    TOP,
    Lists,
    Rated,
    compare_errors,
    cut_by_user,
    lists_of_model,
    lists_of_scores,
    lists_of_table,
    ndcg_of_users,
    paired,
    popular_lists,
    read_rated,
    squared_errors,
    write_csv,
)
from scripts.bench.implicit import fit_implicit
from scripts.bench.mllib import say
from scripts.bench.plots import draw_lists

HELD_OUT, RANK, ITERATIONS = 0.06, 32, 15
ALPHAS, EXPONENT = (0.3, 1.0), 0.5
REGS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Ours, with ν = 1/2. ``implicit`` has ν = 0, and 10 times these, as a row of 100 ratings has."""
EXPLICIT = ["--exponent", "1", "--lambda", "0.1"]
HOLDOUTS = {
    "by time": ["--split", "time", "--test-fraction", f"{HELD_OUT / (1 - HELD_OUT):.4f}"],
    "by user": ["--split", "random", "--test-fraction", "0.1"],
}
SEEDS = 2


def main(argv: list[str] | None = None) -> int:
    """Measure the lists of both ways of holding out."""
    parser = bench_parser(__doc__, repeats=SEEDS)
    parser.add_argument("--data", default=str(MOVIELENS), help="ratings (MovieLens latest-small)")
    options = parser.parse_args(argv)
    if not Path(options.data).is_file():
        print(f"{options.data} is not there: give ratings with --data", file=sys.stderr)
        return 2
    rated = read_rated(options.data, quick=options.quick)
    result = {
        "question": "lists: what recommend serves, against implicit's ALS and the popular items",
        "data": Path(options.data).name,
        "held_out": HELD_OUT,
        "rank": RANK,
        "iterations": ITERATIONS,
        "top": TOP,
        "seeds": options.repeats,
        "cuts": {},
    }
    with bench_session("lists"):
        for name in CUTS:
            with tempfile.TemporaryDirectory() as folder:
                result["cuts"][name] = measure(rated, name, Path(folder), options)
            write_result(options.output, "lists", result)
    draw_lists(result, options.output / "lists.png")
    return 0


def measure(rated: Rated, name: str, folder: Path, options: Any) -> dict[str, Any]:
    """Hold out by one of the ways; tune, train and measure."""
    known, held_out = CUTS[name](rated, HELD_OUT)
    users = np.unique(held_out.users)
    both = np.isin(users, known.users)
    jobs = Jobs(known, users, folder, HOLDOUTS[name])
    sweep_folder, chosen = jobs.tune(quick=options.quick)
    their_point = tune_implicit(known, quick=options.quick)
    scores: dict[str, list[Any]] = {}
    squares: dict[str, list[Any]] = {}
    for seed in range(options.repeats):
        implicit = jobs.train(["--from-sweep", str(sweep_folder)], f"implicit-{seed}", seed)
        explicit = jobs.train(["--rank", str(RANK), *EXPLICIT], f"explicit-{seed}", seed)
        lists = {
            "als_spark": jobs.recommend(implicit),
            "als_spark, before the refit": lists_of_model(
                load_before_refit(implicit), users, known
            ),
            "als_spark, explicit": lists_of_model(load_model(explicit), users, known),
            "implicit": lists_of_implicit(known, users, their_point, seed),
            "popular items": popular_lists(users, known),
        }
        for which, found in lists.items():
            scores.setdefault(which, []).append(ndcg_of_users(found, held_out))
        for which, load in (("before", load_before_refit), ("after", load_model)):
            squares.setdefault(which, []).append(squared_errors(load(explicit), held_out))
    ndcg = {which: np.mean(values, axis=0) for which, values in scores.items()}
    errors = {which: np.mean(values, axis=0) for which, values in squares.items()}
    groups = {"users with earlier ratings": both, "all users": np.ones(users.size, bool)}
    row = {
        "ratings": {"train": known.users.size, "held_out": held_out.users.size},
        "chosen": {"als_spark": chosen, "implicit": their_point},
        "groups": {
            group: compare_lists({which: values[of] for which, values in ndcg.items()})
            for group, of in groups.items()
        },
        "explicit_rmse": compare_errors(errors["before"], errors["after"], held_out.users),
    }
    say(f"lists, {name}: {json.dumps(row)}")
    return row


def compare_lists(ndcg: dict[str, Any]) -> dict[str, Any]:
    """Means over users, and what ours has more than each of the others."""
    ours, *others = ndcg
    return {
        "users": ndcg[ours].size,
        "ndcg": {which: float(values.mean()) for which, values in ndcg.items()},
        "ours_minus": {which: paired(ndcg[ours], ndcg[which]) for which in others},
    }


class Jobs:
    """The jobs, run one after the other as the page has them.

    Parameters
    ----------
    known : Rated
        Ratings before those held out.
    users : (n,)
        Whom to recommend for.
    folder : Path
        Of all files.
    holdout : list of str
        What ``train`` holds out, in options.
    """

    def __init__(self, known: Rated, users: Any, folder: Path, holdout: list[str]) -> None:
        self._folder, self._users, self._holdout = folder, users, holdout
        self._ratings = write_csv(known, folder / "ratings.csv")
        parts = zip(cut_by_user(known, HELD_OUT), ("earlier.csv", "later.csv"), strict=True)
        self._earlier, self._later = (write_csv(part, folder / file) for part, file in parts)
        self._asked = folder / "users.csv"
        self._asked.write_text("\n".join(["userId", *map(str, users.tolist()), ""]))

    def tune(self, *, quick: bool) -> tuple[Path, dict[str, float]]:
        """Sweep once for each α; return the folder of the best sweep, and its point."""
        tried = {}
        for alpha in ALPHAS[:1] if quick else ALPHAS:
            output = self._folder / f"sweep-{alpha:g}"
            words = ["--ratings", self._earlier, "--test", self._later, "--judge", "ndcg"]
            words += ["--implicit", "--alpha", f"{alpha:g}", "--exponent", f"{EXPONENT:g}"]
            words += ["--ranks", str(RANK), "--lambdas", ",".join(f"{reg:g}" for reg in REGS)]
            done(sweep([*words, "--max-iter", str(ITERATIONS), "--output", str(output)]))
            points = json.loads((output / "results.json").read_text())
            best = next(point for point in points if point["best"])
            tried[output] = {"alpha": alpha, "reg": best["lambda_reg"], "inner": best["test_ndcg"]}
        chosen = max(tried, key=lambda output: tried[output]["inner"])
        return chosen, {**tried[chosen], "exponent": EXPONENT}

    def train(self, objective: list[str], name: str, seed: int) -> Path:
        """Train and refit a model; return its folder."""
        output = self._folder / name
        words = ["--ratings", self._ratings, *objective, *self._holdout, "--refit"]
        words += ["--max-iter", str(ITERATIONS), "--seed", str(seed), "--ranking-users", "0"]
        done(train([*words, "--output", str(output)]))
        return output

    def recommend(self, model: Path) -> Lists:
        """Write the lists of a model, and read them."""
        output = model.with_name(f"lists-{model.name}")
        words = ["--model", str(model), "--top", str(TOP), "--users", str(self._asked)]
        done(recommend([*words, "--exclude-seen", self._ratings, "--output", str(output)]))
        return lists_of_table(pq.read_table(output), self._users)


def done(code: int) -> None:
    """Stop where a job has not done its work."""
    if code:
        raise SystemExit(code)


def tune_implicit(known: Rated, *, quick: bool) -> dict[str, float]:
    """Choose λ and α of ``implicit`` on the same inner part, from as many points."""
    earlier, later = cut_by_user(known, HELD_OUT)
    asked = np.unique(later.users[np.isin(later.users, earlier.users)])
    tried = []
    for alpha in ALPHAS[:1] if quick else ALPHAS:
        for reg in REGS:
            point = {"alpha": alpha, "reg": 10 * reg}
            lists = lists_of_implicit(earlier, asked, point, seed=0)
            tried.append({**point, "inner": float(ndcg_of_users(lists, later).mean())})
    return max(tried, key=lambda point: point["inner"])


def lists_of_implicit(known: Rated, users: Any, point: dict[str, float], seed: int) -> Lists:
    """Fit ``implicit`` to all of these ratings; users without any get the popular items."""
    user_ids, rows = np.unique(known.users, return_inverse=True)
    item_ids, columns = np.unique(known.items, return_inverse=True)
    confidences = sparse.csr_matrix(
        (1 + point["alpha"] * known.ratings, (rows, columns)), dtype=np.float32
    )
    factors, items = fit_implicit(confidences, RANK, point["reg"], ITERATIONS, seed)
    lists = popular_lists(users, known)
    trained = np.isin(users, user_ids)
    scores = factors[np.searchsorted(user_ids, users[trained])] @ items.T
    lists.items[trained] = lists_of_scores(scores, users[trained], item_ids, known).items
    return lists


if __name__ == "__main__":
    sys.exit(main())
