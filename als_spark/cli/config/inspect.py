"""Configuration of ``inspect``."""

from __future__ import annotations

from als_spark.cli.config.ratings import RATINGS, RatingsConfig
from als_spark.cli.config.settings import InputPath, option


class InspectConfig(RatingsConfig):
    """Everything that decides what ``inspect`` shows."""

    command = "inspect"
    about = (
        "Show how ratings are understood and what they are: files, columns, first rows, counts, "
        "range and histogram, ratings of a user and of an item, and what a job would stumble over."
    )
    positional = "ratings"

    ratings: InputPath | None = option(
        RATINGS, "file or folder that Spark can read; the option may be left out: inspect PATH"
    )
    as_json: bool = option("result", "print the same as JSON", False)
