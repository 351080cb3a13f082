"""``jobs/evaluate.py``: a stored model on given ratings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession

from als_spark.cli.config.settings import config_record, in_options
from als_spark.cli.config.stored import EvaluateConfig
from als_spark.cli.program import EXIT_DONE, job_main, say
from als_spark.cli.spark_job import (
    all_versions,
    job_with_output,
    open_ratings,
    open_seen,
    tables_record,
    tell_source,
    unknown_pairs,
    warn_of_no_effect,
)
from als_spark.cli.stored import OpenLargeModel, open_large_model
from als_spark.errors import DataError
from als_spark.files.json_files import write_json
from als_spark.model.calibration import Calibrator
from als_spark.model.description import learnt_of
from als_spark.model.large_model import AnyModel
from als_spark.nightly.fitting import none_relevant, warnings_of
from als_spark.nightly.holdout import HoldoutRule
from als_spark.redaction import redact_all
from als_spark.report.figures.breakdown import bins_of, breakdown_figure
from als_spark.report.figures.drawing import png_of
from als_spark.report.lists import baseline_warnings, list_headers, list_rows
from als_spark.report.pages.evaluate import calibration_picture, evaluate_page
from als_spark.report.progress import ProgressReporter
from als_spark.solve.objective import IMPLICIT_CAVEAT, MORE_KEYS
from als_spark.spark.output import output_folder
from als_spark.spark.predict.evaluate import RANKING_MEASURES, RankingOptions, evaluate_models
from als_spark.spark.predict.seen_ratings import has_seen
from als_spark.spark.prepare.snapshot import open_snapshot
from als_spark.spark.read.bad_rows import refuse_bad_rows
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.seen import KnownIds, without_pairs
from als_spark.spark.read.snapshot import Snapshot

METRICS_FILE = "metrics.json"
CALIBRATION_FILE = "calibration.png"


def _run(config: EvaluateConfig) -> int:
    with job_with_output("evaluate", config, config.output, output_folder) as (job, staged):
        with ExitStack() as stack:
            record = redact_all(_evaluate(config, job.session, job.progress, stack))
        record |= {
            "started": job.began.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": config_record(config),
            "versions": all_versions(job.session),
            "seconds": job.seconds,
        }
        picture = png_of(
            breakdown_figure(
                bins_of(record["by_user"]),
                bins_of(record["by_item"]),
                note=record["model"]["label"],
            )
        )
        (staged.content / "breakdown.png").write_bytes(picture)
        calibration = calibration_picture(record, record["model"]["label"])
        if calibration is not None:
            (staged.content / CALIBRATION_FILE).write_bytes(calibration)
        page = evaluate_page(record, picture, calibration)
        (staged.content / "report.html").write_text(page, "utf-8")
        write_json(staged.content / METRICS_FILE, record)
    say(_words(config, record))
    return EXIT_DONE


def _evaluate(
    config: EvaluateConfig, session: SparkSession, progress: ProgressReporter, stack: ExitStack
) -> dict[str, Any]:
    with progress.phase("reading the model"):
        opened = open_large_model(session, config, stack, intervals=True)
    model = opened.model
    no_effect: list[str] = []
    with progress.phase("looking at the ratings"):
        source = open_ratings(session, config, config.ratings, config.table, need_timestamp=False)
        tell_source(progress, source)
        versions = [source.version]
        seen = None
        if config.exclude_seen is not None:
            pairs = open_ratings(
                session, config, config.exclude_seen, need_timestamp=False, need_rating=False
            )
            tell_source(progress, pairs)
            versions.append(pairs.version)
            known = KnownIds(model.users.ids, model.items.ids)
            seen = open_seen(session, pairs, known, config.bad_rows, progress)
            no_effect += warn_of_no_effect(progress, unknown_pairs(seen), strict=config.strict)
    label = source.label + (f" + {config.exclude_seen}" if config.exclude_seen else "")
    with unreadable_files_are_named(label):
        with progress.phase("reading and checking ratings"):
            reading = open_snapshot(session, [source], "last")
            snapshot = stack.enter_context(reading)
        refuse_bad_rows(snapshot.label, snapshot.bad, config.bad_rows)
        ranking = RankingOptions(
            config.top, config.relevant_from, config.ranking_users, tuple(RANKING_MEASURES)
        )
        words = none_relevant(ranking, snapshot)
        no_effect += warn_of_no_effect(progress, words, strict=config.strict)
        with progress.phase("evaluating"):
            models = {"model": model}
            left_out = None
            if seen is not None:
                # What is never recommended cannot be found: what is to be found stays in.
                left_out = without_pairs(seen.pairs, snapshot.ratings)
            results = evaluate_models(
                *(session, snapshot.ratings, models, ranking),
                seen=left_out,
                baselines=True,
                calibrator=_calibrator(opened, snapshot),
            )
            found = results["model"]
            trained_on = _trained_on(model, snapshot)
        for name, value in found.metrics.items():
            if value is not None and not math.isfinite(value):
                raise DataError(
                    f"{opened.label} on {snapshot.label}: {name} is {value}, though the ratings "
                    f"are from {snapshot.lowest:g} to {snapshot.highest:g}: the model's factors "
                    "are too large: train it again"
                )
    words = _all_cold(source.label, found.metrics)
    no_effect += warn_of_no_effect(progress, words, strict=config.strict)
    warnings = [*no_effect, *warnings_of(snapshot)]
    if trained_on is not None:
        progress.write(f"warning: {trained_on}")
        warnings.append(trained_on)
    if model.description.get("implicit") is True:
        warnings.append(IMPLICIT_CAVEAT)
    if snapshot.n_duplicates:
        warnings.append(f"{snapshot.n_duplicates:,} repeated ratings of a pair: took the last")
    if seen is None and config.ranking_users > 0:
        warnings.append(
            "rankings may hold items that a user has rated in training, which lowers their "
            "measures: leave them out with --exclude-seen"
        )
    if seen is not None and seen.bad.n:
        warnings.append(f"unusable rows of {seen.label} left out: {seen.bad.n:,}: {seen.bad}")
    if seen is not None:
        warnings += [f"{seen.label}: {words}" for words in seen.changed.lines]
    seen_facts = {}
    if seen is not None:
        seen_facts = {"seen_pairs": seen.n_pairs, "seen_pairs_known": seen.n_known}
    baselines = dict(found.baselines)
    if model.description.get("implicit") is True:
        # No model predicts ratings.
        del baselines["biases"]
    record: dict[str, Any] = {
        "model": {
            "label": opened.label,
            "version": opened.version,
            "rank": model.rank,
            "users": len(model.users),
            "items": len(model.items),
            **{key: model.description.get(key) for key in ("lambda_reg", "exponent")},
            "objective_of_lambda": model.description.get("objective_of_lambda"),
            **{key: model.description[key] for key in MORE_KEYS if key in model.description},
            **_learnt(model),
        },
        "source": {
            "label": source.label,
            "exclude_seen": config.exclude_seen,
            "read": source.words,
            **tables_record(versions),
        },
        "data": {
            "ratings": snapshot.n_ratings,
            "lowest": snapshot.lowest,
            "highest": snapshot.highest,
            "mean": snapshot.mean,
            "bad_rows": snapshot.bad.n,
            "duplicates": snapshot.n_duplicates,
            "changed_ids": snapshot.changed.n,
            "cold_ratings": found.metrics["cold"],
            **seen_facts,
        },
        "metrics": dict(found.metrics),
        "by_source": dict(found.by_source),
        "baselines": baselines,
        "by_user": found.by_user,
        "by_item": found.by_item,
        "calibration": found.calibration,
    }
    warnings += baseline_warnings(record)
    return {**record, "warnings": [in_options(warning) for warning in warnings]}


def _learnt(model: AnyModel) -> dict[str, Any]:
    """Return method, and what it has learnt, of a model whose λ was not given."""
    learnt = learnt_of(model.description)
    return {} if learnt is None else {"method": model.description.get("method"), "learnt": learnt}


def _calibrator(opened: OpenLargeModel, snapshot: Snapshot) -> Calibrator | None:
    """Return what measures the calibration of a model; none of implicit feedback predicts."""
    if opened.model.description.get("implicit") is True:
        return None
    return Calibrator(snapshot.lowest, snapshot.highest, opened.intervals)


def _all_cold(label: str, metrics: Mapping[str, float | int | None]) -> str | None:
    """Say so if the model has factors for none of the ratings."""
    count, cold = metrics["count"], metrics["cold"]
    if not count or count != cold:
        return None
    return (
        f"{label}: {cold:,} of {count:,} ratings are cold: none is of a user and an item that the "
        "model has training ratings of, so the errors are those of means: give ratings with the "
        "ids that the model was trained on"
    )


def _trained_on(model: AnyModel, snapshot: Snapshot) -> str | None:
    """Say so if the ratings are those that the model was trained on."""
    held_out: float | None
    if model.description.get("fingerprint") == snapshot.fingerprint:
        rule = HoldoutRule.of_model(model)
        held_out = 0.0 if rule is None else rule.test_fraction
    else:
        held_out = has_seen(model, snapshot.ratings, snapshot.n_ratings)
    if held_out is None:
        return None
    share = f", but for the share {held_out:.3g} that it held out" if held_out else ""
    return (
        f"these are the ratings that the model was trained on{share}: its errors on others are "
        "larger, so measure it on ratings that it has not seen"
    )


def _words(config: EvaluateConfig, record: dict[str, Any]) -> str:
    metrics = record["metrics"]
    lines = [f"{record['model']['label']} on {metrics['count']:,} ratings:"]
    lines += [
        f"  {name:<10}{'-' if metrics[name] is None else format(metrics[name], '.4f')}"
        for name in ("rmse", "mse", "mae", "ndcg", "recall", "precision", "map", "coverage")
    ]
    if metrics["cold"]:
        lines.append(
            f"  cold: {metrics['cold']:,} of {metrics['count']:,} ratings, of users or items "
            "without training ratings, are predicted by means"
        )
    if config.ranking_users > 0:
        lines.append(
            f"  rankings: the first {metrics['k']} items of {metrics['ranking_users']:,} users; "
            f"relevant from {metrics['relevant_from']:.3g}"
        )
    biases = record["baselines"].get("biases")
    if biases is not None and biases["rmse"] is not None:
        lines.append(
            f"  biases alone (damped means of users and items): RMSE {biases['rmse']:.4f}, "
            f"MAE {biases['mae']:.4f}"
        )
    within = {
        entry["coverage"]: entry["observed"] for entry in record["calibration"].get("intervals", ())
    }
    if within:
        lines.append(
            f"  intervals: of the ratings {within[0.5]:.1%} are within those of 50%, "
            f"{within[0.9]:.1%} within those of 90%"
        )
    lines += _lists(record)
    lines += [f"Warning: {words}" for words in baseline_warnings(record)]
    names = [METRICS_FILE, "breakdown.png", "report.html"]
    if record["calibration"].get("by_prediction"):
        names.insert(2, CALIBRATION_FILE)
    folder = config.output.rstrip("/")
    lines.append(f"Written to {folder}: {', '.join(names)}")
    return "\n".join(lines)


def _lists(record: dict[str, Any]) -> list[str]:
    """Lay out the ranking measures by what users are answered from."""
    rows = [list_headers(record["metrics"]["k"]), *list_rows(record, "-")]
    if len(rows) == 1:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])])
        for first, *rest in rows
    ]


main = job_main(EvaluateConfig, _run, "stopped; nothing written")
