"""The command lines of the batch jobs."""

from __future__ import annotations

from als_spark.cli.config.batch import EvaluateConfig, RecommendConfig, RetrainConfig, TrainConfig
from als_spark.cli.options import JobOptions
from als_spark.nightly.past_runs import MEMORY

_SOURCE = ("format", "user_col", "item_col", "rating_col", "timestamp_col")
_TRAINING = (
    *("rank", "reg", "exponent", "tol", "max_iter", "seed", "dtype", "accelerate"),
    *("placement", "partitions"),
)
_RANKING = ("top", "relevant_from", "ranking_users")
_LOGGING = ("mlflow", "mlflow_experiment")

TRAIN = JobOptions(
    TrainConfig,
    "train",
    "Train one ALS model and put it into a model store, or into a folder.",
    "0 done, 2 unusable input or options, 5 another run is at work on the store, 1 anything else",
    {
        "ratings": ("ratings", "table", *_SOURCE, "bad_rows", "duplicates"),
        "model": ("from_sweep", *_TRAINING),
        "held-out ratings": ("split", "test_fraction", *_RANKING),
        "result": ("store", "output", "keep", "lock_minutes", *_LOGGING),
    },
    {
        "bad_rows": "stop on unusable rows, or leave them out",
        "rank": "rank d of the model (default: 10)",
        "reg": "ridge, lambda * n^exponent (default: the sweep's, else 0.1 with exponent 1)",
        "exponent": "0: plain ridge; 1: the objective of Spark MLlib (default: the sweep's; 0 with "
        "a lambda and no sweep)",
        "store": "publish the model into this store",
        "output": "write the model into this folder instead",
        "from_sweep": "take rank, lambda and exponent of the best point of a sweep's folder",
    },
)

RETRAIN = JobOptions(
    RetrainConfig,
    "retrain",
    "The nightly job: check the new ratings, train a challenger, and publish it into the store "
    "unless it is worse than the current model.",
    "0 published, or nothing new; 3 kept the champion; 4 data check failed; 5 locked; 2 bad "
    "input; 1 other",
    {
        "ratings": ("ratings", "table", "increments", *_SOURCE, "bad_rows", "duplicates"),
        "data checks": (
            *("max_bad_share", "max_shrink", "max_growth", "max_total_shrink", "range_slack"),
            *("max_mean_shift", "max_spread_shift", "max_fresh_mean_shift", "max_unknown_share"),
        ),
        "model": (*_TRAINING, "full_every"),
        "champion and challenger": (
            *("split", "test_fraction", "measure", "margin", "max_decline"),
            *_RANKING,
        ),
        "store": ("store", "keep", "lock_minutes", "force", *_LOGGING),
    },
    {
        "bad_rows": "stop on any unusable row, or leave them out and check their share",
        "increments": "ratings that came later, oldest first; they win",
        "rank": "rank d of the model (default: the current version's, else 10)",
        "reg": "ridge, lambda * n^exponent (default: the current version's, else 0.1 with "
        "exponent 1)",
        "exponent": "0: plain ridge; 1: the objective of Spark MLlib (default: the current "
        "version's; 0 with a lambda and no version)",
        "store": "the store (required)",
        "measure": "compare challenger and champion by this",
        "margin": "publish a challenger that is at most this share worse",
        "max_decline": "and at most this share worse than any version before the champion, all "
        "steps together (default: three margins)",
        "full_every": "train from the usual start every so many trainings",
        "force": "train on a snapshot again, and in spite of a failed data check",
        "max_bad_share": "unusable rows, as a share of a source's rows",
        "max_shrink": "fewer ratings, users or items than the last run, as a share",
        "max_growth": "more ratings, users or items than the last run, as a share",
        "max_total_shrink": f"fewer than the most of the last {MEMORY} runs, as a share; a run "
        "with --force begins the count anew",
        "range_slack": "ratings outside the range of the last run, by how much",
        "max_mean_shift": "shift of the mean since the last run, as a share of the range",
        "max_spread_shift": "change of the standard deviation since the last run, as a share of "
        "the range",
        "max_fresh_mean_shift": "distance of an increment's mean from the last run's, as a share "
        "of the range, beyond three standard errors",
        "max_unknown_share": "ratings whose user, or whose item, the current version does not "
        "know, as a share",
    },
)

EVALUATE = JobOptions(
    EvaluateConfig,
    "evaluate",
    "Measure a stored model on ratings: errors, rankings, errors by activity and popularity.",
    "0 done, 2 unusable input or options, 1 anything else",
    {
        "model": ("store", "version", "model"),
        "ratings": ("ratings", "table", *_SOURCE, "bad_rows"),
        "rankings": (*_RANKING, "exclude_seen"),
        "result": ("output",),
    },
    {
        "store": "take the model from this store",
        "bad_rows": "stop on unusable rows, or leave them out",
        "relevant_from": "ratings from here on are relevant (default: from their mean)",
        "exclude_seen": "leave the items of these ratings out of each user's ranking, except for "
        "pairs that are among the ratings measured on",
        "output": "folder for the results (required)",
    },
)

RECOMMEND = JobOptions(
    RecommendConfig,
    "recommend",
    "Write the best items of every user (or users of every item, or similar items).",
    "0 done, 2 unusable input or options, 1 anything else",
    {
        "model": ("store", "version", "model"),
        "recommendations": ("top", "recommend_for", "users", "exclude_seen", "fold_in"),
        "files": ("user_col", "item_col", "rating_col", "bad_rows"),
        "result": ("output", "format", "files"),
    },
    {
        "store": "take the model from this store",
        "top": "how many recommendations each gets",
        "recommend_for": "items to users, users to items, or similar items to items",
        "users": "recommend for the users (or items) in this file only: an id on each line, or a "
        "column of a csv, json or parquet file",
        "exclude_seen": "leave out the pairs of users and items in this file (ratings, or nothing "
        "but the two ids); with --fold-in, also what folded users have rated there",
        "fold_in": "ratings of users that the model does not know: factors are solved from them, "
        "where such users otherwise get the popular items",
        "bad_rows": "stop on unusable rows of --exclude-seen and --fold-in, or leave them out",
        "output": "folder for the recommendations (required)",
        "format": "format of the output",
        "files": "files of the output, at most (default: as Spark cuts it)",
    },
)
