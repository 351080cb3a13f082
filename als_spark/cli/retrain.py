"""``jobs/retrain.py``: the nightly job. Check the data, train a challenger, publish it or not."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pyspark.sql import SparkSession

from als_spark.cli.batch_options import RETRAIN
from als_spark.cli.config.batch import RetrainConfig, Spec
from als_spark.cli.fitting import (
    Fitted,
    ReadyRatings,
    Start,
    cold_start,
    fit,
    make_ready,
    measure,
    training_record,
    training_settings,
    warm_start,
    write_version,
)
from als_spark.cli.holdout import HoldoutRule, unseen_by_both
from als_spark.cli.program import exits_if_locked, interrupts_noted, run_program
from als_spark.cli.run_log import RunLog
from als_spark.cli.spark_job import all_versions, open_ratings, refuse_bad_rows, spark_job
from als_spark.cli.stored import permission_is_usage, store_of
from als_spark.cli.tracking import check_tracking, config_record
from als_spark.errors import DataError, EmptySourceError
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import local_path
from als_spark.nightly.checks import Check, check_parts, check_unknown, check_whole
from als_spark.nightly.comparison import Verdict, judge
from als_spark.nightly.past_runs import (
    ancestors_of,
    kept_by,
    last_passed,
    most_lately,
    warm_trainings,
)
from als_spark.report.figures.breakdown import bins_of, breakdown_figure
from als_spark.report.figures.drawing import png_of
from als_spark.report.progress import ProgressReporter
from als_spark.spark.predict.evaluate import Evaluation
from als_spark.spark.read.facts import DataFacts
from als_spark.spark.read.snapshot import Snapshot, read_snapshot
from als_spark.spark.read.sources import Source, unreadable_files_are_named
from als_spark.store.lock import StoreLock
from als_spark.store.store import ModelStore
from als_spark.types import Side

logger = logging.getLogger("als_spark.retrain")


def main(argv: Sequence[str] | None = None, default_config: Path | None = None) -> int:
    """Retrain.

    Parameters
    ----------
    argv : sequence of str, optional
        Options; those of the process if not given.
    default_config : Path, optional
        Configuration file that is read if ``--config`` is not given.

    Returns
    -------
    int
        0 published, or nothing new; 3 kept the champion; 4 data check failed; 5 locked; 2 the
        input or an option is unusable; 130 stopped by Ctrl-C or SIGTERM; 1 anything else.
    """
    work = exits_if_locked("retrain", lambda: _run(RETRAIN.parse(argv, default_config)))
    return run_program("retrain", work, "stopped before the run began; the store is as it was")


def _run(config: RetrainConfig) -> int:
    if config.mlflow is not None:
        check_tracking(config.mlflow)
    with ProgressReporter(1, logger=logger) as progress, ExitStack() as stack:
        stack.enter_context(permission_is_usage("--store", config.store))
        session = None
        if local_path(config.store) is None:
            # Only Spark knows the file system that the store is on.
            session = stack.enter_context(spark_job("retrain", progress)).session
        store = store_of(session, config.store)
        log = RunLog(store, "retrain", config, progress)
        lock = store.lock(log.run, ttl=timedelta(minutes=config.lock_minutes))
        if session is None:
            # Spark is not there yet, but the run must tell how it ended.
            raise_noted = stack.enter_context(interrupts_noted())
            stack.enter_context(log.recorded(lock))
            session = stack.enter_context(spark_job("retrain", progress)).session
            raise_noted()
        else:
            stack.enter_context(log.recorded(lock))
        # Within the record too, which says what the exit code says.
        stack.enter_context(permission_is_usage("--store", config.store))
        _Retrain(config, session, progress, store, lock, log).work()
    print(f"{log.record['sentence']}\nThe report is runs/{log.run}/report.html in {config.store}.")
    return log.exit_code


class _Retrain:
    """One run, with the lock held."""

    def __init__(
        self,
        config: RetrainConfig,
        session: SparkSession,
        progress: ProgressReporter,
        store: ModelStore,
        lock: StoreLock,
        log: RunLog,
    ) -> None:
        self._config = config
        self._session = session
        self._progress = progress
        self._store = store
        self._lock = lock
        self._log = log
        self._versions = all_versions(session)
        log.record["versions"] = self._versions

    def work(self) -> None:
        """Do everything that is to be done, and say in the log how it ended."""
        self._clean_up()
        self._based_on = self._store.pointer_number()
        self._champion_name, champion = self._read_champion()
        self._past = self._store.history.read_history()
        previous, last = last_passed(self._past)
        # If no version can be read, the next is trained as they were.
        spec = self._config.spec(_spec_of(champion) or _spec_from(last.get("settings")))
        decision = (self._config.measure, self._config.margin, self._config.largest_decline)
        self._unseen_by = None
        if champion is not None:
            rule = HoldoutRule.of(self._config)
            self._unseen_by = unseen_by_both(champion, str(self._champion_name), rule)
        with ExitStack() as stack:
            snapshot = self._read(stack, champion)
            settings = training_settings(self._config, spec)
            self._log.record["settings"] = settings
            # Before anything else: an increment of unusable rows alone is not "nothing new".
            if not self._passes(check_parts(snapshot.parts, previous, self._config.limits)):
                return
            same = settings == last.get("settings") and kept_by(self._past) in (None, decision)
            if self._nothing_new(snapshot, previous, same, champion):
                return
            ready = make_ready(
                self._session, snapshot, spec.rank, self._config, self._progress, stack
            )
            if ready.prepared.n_ratings.get("test", 0) == 0:
                raise DataError(
                    f"{snapshot.label}: no rating is held out, so challenger and champion cannot "
                    "be compared: use a larger --test-fraction"
                )
            facts = ready.facts
            unknown = _unknown_shares(ready, champion)
            self._note_data(ready, unknown)
            checks = check_whole(facts, previous, self._config.limits, most_lately(self._past))
            checks += check_unknown(
                {s: share for s, (_, share) in unknown.items()}, self._config.limits
            )
            if not self._passes(checks):
                return
            start = self._choose_start(ready, champion, spec)
            self._progress.write(f"{start.kind} start: {start.reason}")
            with self._progress.phase("training"):
                fitted = fit(
                    self._session, ready.prepared, spec, self._config, start, self._progress
                )
            self._log.record["training"] = training_record(fitted)
            self._compare_and_publish(ready, fitted, champion)

    def _clean_up(self) -> None:
        removed = self._store.recover()
        if removed:
            self._log.add_warning(f"removed what a killed run had left: {', '.join(removed)}")

    def _read_champion(self) -> tuple[str | None, FactorModel | None]:
        """Read the current version; where it is damaged, go back to one that is not."""
        self._damaged = False
        try:
            current = self._store.current()
            if current is None:
                return None, None
            return current, self._store.load(current)
        except DataError as error:
            self._damaged = True
            self._log.add_warning(f"the current version is damaged: {error}")
        try:
            older = self._store.rollback(run=self._log.run, check=self._lock.check)
        except DataError:
            self._log.add_warning("no older version is intact: there is nothing to compare with")
            return None, None
        self._based_on = self._store.pointer_number()
        self._log.add_warning(f"rolled back to version {older}, which readers get until a new one")
        return older, self._store.load(older)

    def _read(self, stack: ExitStack, champion: FactorModel | None) -> Snapshot:
        config, sources = self._config, []
        with self._progress.phase("looking at the ratings"):
            by_time = config.split == "time"
            sources.append(
                open_ratings(
                    self._session, config, config.ratings, config.table, need_timestamp=by_time
                )
            )
            for path in config.increments:
                source = self._open_increment(path, by_time)
                if source is not None:
                    sources.append(source)
        self._log.record["source"] = {
            "label": sources[0].label,
            "increments": [source.label for source in sources[1:]],
        }
        label = " + ".join(source.label for source in sources)
        stack.enter_context(unreadable_files_are_named(label))
        with self._progress.phase("reading and checking ratings"):
            snapshot = stack.enter_context(
                read_snapshot(
                    self._session, sources, config.duplicates, integer_ids=_integers_of(champion)
                )
            )
        for part in snapshot.parts[1:]:
            if part.rows == 0:
                self._log.add_warning(f"{part.label} has no rows")
        refuse_bad_rows(snapshot, config.bad_rows)
        for problem in snapshot.problems:
            self._log.add_warning(f"unusable rows left out: {problem}")
        for doubt in snapshot.warnings:
            self._log.add_warning(doubt)
        self._log.record["data"] = {
            "ratings": snapshot.n_ratings,
            "bad_rows": snapshot.n_bad,
            "duplicates": snapshot.n_duplicates,
        }
        return snapshot

    def _open_increment(self, path: str, by_time: bool) -> Source | None:
        try:
            return open_ratings(self._session, self._config, path, need_timestamp=by_time)
        except EmptySourceError:
            self._log.add_warning(f"{path} is empty")
            return None

    def _nothing_new(
        self,
        snapshot: Snapshot,
        previous: DataFacts | None,
        same_settings: bool,
        champion: FactorModel | None,
    ) -> bool:
        if previous is None or previous.fingerprint != snapshot.fingerprint:
            return False
        if not same_settings or champion is None or self._damaged or self._config.force:
            return False
        self._log.record["data"] |= previous.as_record()
        self._log.end(
            "unchanged",
            f"nothing new: these {snapshot.n_ratings:,} ratings were trained on already, with the "
            f"same settings; version {self._champion_name} stays",
        )
        return True

    def _passes(self, checks: Sequence[Check]) -> bool:
        known = self._log.record.setdefault("checks", [])
        known.extend(check.as_record() for check in checks)
        failed = [check for check in checks if not check.passed]
        if not failed:
            return True
        sentence = "; ".join(
            f"{check.name} {check.value}, limit {check.limit}"
            + (f", last run {check.previous}" if check.previous else "")
            + f" (--{check.option.replace('_', '-')})"
            for check in failed
        )
        if self._config.force:
            self._log.add_warning(f"data check failed, and --force goes on: {sentence}")
            return True
        self._log.end("data_check_failed", f"data check failed, nothing was trained: {sentence}")
        return False

    def _note_data(self, ready: ReadyRatings, unknown: Mapping[str, tuple[int, float]]) -> None:
        self._log.record["data"] |= {
            **ready.facts.as_record(),
            **{f"new_{side}s": count for side, (count, _) in unknown.items()},
            "unknown_share": max((share for _, share in unknown.values()), default=None),
        }

    def _choose_start(self, ready: ReadyRatings, champion: FactorModel | None, spec: Spec) -> Start:
        if champion is None:
            return cold_start("there is no model to start from")
        if champion.rank != spec.rank:
            return cold_start(f"the current version has rank {champion.rank}, not {spec.rank}")
        if self._unseen_by is not None:
            return cold_start("the current version was trained on ratings that are held out now")
        before = warm_trainings(self._past, spec.rank)
        if before is None:
            before = int(champion.description.get("warm_runs", 0))
        warm_runs = before + 1
        if warm_runs >= self._config.full_every:
            return cold_start(f"a full training every {self._config.full_every} runs")
        return warm_start(
            ready.prepared, champion, str(self._champion_name), self._config.seed, warm_runs
        )

    def _compare_and_publish(
        self, ready: ReadyRatings, fitted: Fitted, champion: FactorModel | None
    ) -> None:
        config, log = self._config, self._log
        models = {"challenger": fitted.model}
        if champion is not None:
            models["champion"] = champion
        with self._progress.phase("evaluating"):
            found = measure(self._session, ready, models, config, self._unseen_by)
        challenger = dict(found["challenger"].metrics)
        if self._unseen_by is not None:
            log.add_warning(
                f"version {self._champion_name} was trained with {self._unseen_by}: the two are "
                f"compared on the {challenger['count']:,} ratings that neither was trained on"
            )
        before = dict(found["champion"].metrics) if champion is not None else None
        verdict = judge(
            challenger,
            before,
            config.measure,
            config.margin,
            ancestors=ancestors_of(self._past, str(self._champion_name), config.measure),
            max_decline=config.largest_decline,
        )
        log.record |= {
            "challenger": challenger,
            "champion": before,
            "iterations": fitted.result.iterations,
            "comparison": {
                "measure": config.measure,
                "margin": config.margin,
                "max_decline": config.largest_decline,
                "holdout": challenger["count"],
                "challenger": challenger,
                "champion": None if before is None else {**before, "version": self._champion_name},
                "verdict": verdict.sentence,
            },
        }
        log.pictures["breakdown.png"] = _draw_breakdown(found)
        log.record["previous_version"] = self._champion_name
        if not verdict.publish:
            log.end("kept", f"kept version {self._champion_name}: {verdict.sentence}")
            return
        self._publish(ready, fitted, verdict)

    def _publish(self, ready: ReadyRatings, fitted: Fitted, verdict: Verdict) -> None:
        log = self._log
        with (
            tempfile.TemporaryDirectory(prefix="als_spark-") as name,
            self._progress.phase("publishing"),
        ):
            folder = Path(name)
            write_version(
                folder,
                fitted.model,
                metrics={
                    "held_out": log.record["challenger"],
                    "champion": log.record["champion"],
                    "verdict": verdict.sentence,
                    "train": fitted.result.as_record(),
                },
                fingerprint=ready.facts.as_record(),
                config=config_record(self._config),
                versions=self._versions,
            )
            version = self._store.publish(
                folder, run=log.run, expected=self._based_on, check=self._lock.check
            )
            log.record["version"] = version
            pruned = self._store.prune(self._config.keep, check=self._lock.check)
        if pruned:
            self._progress.write(f"removed old versions: {', '.join(pruned)}")
        log.end("published", f"published {version}: {verdict.sentence}")


def _spec_from(settings: Mapping[str, Any] | None) -> Spec | None:
    """Return the model that an earlier run's settings name."""
    if settings is None or not settings.keys() >= set(Spec._fields):
        return None
    return Spec(*(settings[name] for name in Spec._fields))


def _spec_of(model: FactorModel | None) -> Spec | None:
    if model is None:
        return None
    description = model.description
    return Spec(model.rank, float(description["lambda_reg"]), float(description["exponent"]))


def _integers_of(model: FactorModel | None) -> list[Side]:
    """Return the sides whose ids are integers, so that text can be none of them."""
    sides: tuple[Side, ...] = get_args(Side)
    return [side for side in sides if model is not None and model.side(side).ids.are_integers]


def _unknown_shares(
    ready: ReadyRatings, champion: FactorModel | None
) -> dict[str, tuple[int, float]]:
    """Count, for each side, the ids the champion does not know, and the share of their ratings."""
    if champion is None:
        return {}
    summary, shares = ready.prepared.summary, {}
    for side, ids, counts, theirs in (
        ("user", summary.users, summary.user_counts, champion.users),
        ("item", summary.items, summary.item_counts, champion.items),
    ):
        unknown = theirs.rows_of(ids.ids) < 0
        share = float(counts[unknown].sum() / max(int(counts.sum()), 1))
        shares[side] = (int(np.count_nonzero(unknown)), share)
    return shares


def _draw_breakdown(found: Mapping[str, Evaluation]) -> bytes:
    by_user = {name: bins_of(result.by_user) for name, result in found.items()}
    by_item = {name: bins_of(result.by_item) for name, result in found.items()}
    return png_of(breakdown_figure(by_user, by_item, note="on the held-out ratings"))
