"""The nightly run: check the data, train a challenger, publish it or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.model.intervals import IntervalModel
from als_spark.model.large_model import AnyModel
from als_spark.nightly.checks import Check, CheckLimits, check_parts, check_unknown, check_whole
from als_spark.nightly.comparison import LARGER_IS_BETTER, Measure, Verdict, judge
from als_spark.nightly.fit_options import FitOptions
from als_spark.nightly.fitting import Fitting, ReadyRatings
from als_spark.nightly.holdout import unseen_by_both
from als_spark.nightly.method import (
    Choice,
    Earlier,
    RidgeRows,
    posterior_of,
    ridge_rows,
    warm_prior,
)
from als_spark.nightly.past_runs import (
    ancestors_of,
    kept_by,
    last_passed,
    last_published,
    most_lately,
    warm_trainings,
)
from als_spark.nightly.publishing import publish
from als_spark.nightly.refit import refit
from als_spark.nightly.run_log import RunLog
from als_spark.nightly.run_record import Comparison, Spec
from als_spark.nightly.starts import Start, cold_start, warm_start
from als_spark.report.figures.breakdown import bins_of, breakdown_figure
from als_spark.report.figures.drawing import png_of
from als_spark.solve.objective import IMPLICIT_CAVEAT
from als_spark.spark.large import load_from_store
from als_spark.spark.predict.evaluate import Evaluation
from als_spark.spark.read.facts import DataFacts
from als_spark.spark.read.snapshot import Snapshot
from als_spark.spark.read.sources import SourceOptions
from als_spark.types import SIDES, Side


@dataclass(frozen=True, slots=True)
class RetrainOptions:
    """What decides a nightly run.

    Attributes
    ----------
    sources : tuple of SourceOptions
        The ratings, and those that came later, oldest first.
    fit : FitOptions
    choose : callable
        Returns what to train, given an earlier model and what to call that; None without one.
    limits : CheckLimits
    measure, margin, max_decline
        As in :func:`~als_spark.nightly.comparison.judge`.
    full_every : int
        One in so many trainings is from the usual start; the others start warm.
    force : bool
        Train although the snapshot was trained on already, and in spite of a failed data check.
    keep : int
        Versions that are kept.
    """

    sources: tuple[SourceOptions, ...]
    fit: FitOptions
    choose: Callable[[Earlier | None, str | None], Choice]
    limits: CheckLimits
    measure: Measure
    margin: float
    max_decline: float
    full_every: int
    force: bool
    keep: int


class Retrain:
    """One nightly run, with the lock held."""

    def __init__(self, session: SparkSession, options: RetrainOptions, log: RunLog) -> None:
        self._session = session
        self._options = options
        self._fit = options.fit
        self._log = log

    def work(self) -> None:
        """Do everything that is to be done; the log says how it ended.

        Raises
        ------
        DataError
            If the ratings are unusable, or there is nothing to compare two models on.
        """
        # A champion of which a side is large stays in the store until the end.
        with ExitStack() as kept:
            self._work(kept)

    def _work(self, kept: ExitStack) -> None:
        options, log = self._options, self._log
        self._clean_up()
        self._based_on = self._log.store.pointer_number()
        self._champion_name, champion = self._read_champion(kept)
        self._past = log.past_runs()
        previous, last = last_passed(self._past)
        before = None if last is None else last.settings
        other = None if champion is None else Earlier.of_model(champion)
        origin = f"version {self._champion_name}"
        if other is None and before is not None:
            # No version can be read: the next is trained as they were.
            other, origin = Earlier.of_settings(before), "the last run"
        choice = options.choose(other, None if other is None else origin)
        spec = choice.spec
        self._fit = fit = options.fit.with_method(choice.posterior, choice.features)
        if lost := choice.features_lost(other, origin):
            log.add_warning(lost)
        if spec.objective.implicit and options.measure not in LARGER_IS_BETTER:
            log.add_warning(
                f'{IMPLICIT_CAVEAT}: compare models by `measure="ndcg"` or `measure="recall"`'
            )
        decision = (options.measure, options.margin, options.max_decline)
        self._unseen_by = None
        if champion is not None:
            self._unseen_by = unseen_by_both(champion, str(self._champion_name), fit.holdout)
        with ExitStack() as stack:
            fitting = Fitting(self._session, fit, log, stack)
            fitting.read_features()
            snapshot = fitting.read(options.sources, _integers_of(champion))
            settings = fit.settings(spec, fitting.features)
            log.record = replace(log.record, settings=settings)
            # Before anything else: an increment of unusable rows alone is not "nothing new".
            if not self._passes(check_parts(snapshot.parts, previous, options.limits)):
                return
            same = settings.same_as(before) and kept_by(self._past) in (None, decision)
            if self._nothing_new(snapshot, previous, same, champion):
                return
            ready = fitting.make_ready(snapshot, spec.rank)
            if ready.prepared.n_ratings.get("test", 0) == 0:
                raise DataError(
                    f"{snapshot.label}: no rating is held out, so challenger and champion cannot "
                    "be compared: use a larger `test_fraction=`"
                )
            unknown = _unknown_shares(ready, champion)
            self._note_data(ready.facts, unknown)
            checks = check_whole(ready.facts, previous, options.limits, most_lately(self._past))
            checks += check_unknown({s: share for s, (_, share) in unknown.items()}, options.limits)
            if not self._passes(checks):
                return
            start = self._choose_start(ready, champion, spec)
            self._log.progress.write(f"{start.kind} start: {start.reason}")
            fitted = fitting.fit(ready, spec, start)
            models = {"challenger": fitted.model}
            if champion is not None:
                models["champion"] = champion
            found = fitting.measure(ready, models, self._unseen_by)
            verdict = self._compare(found)
            if verdict.publish:
                words = verdict.sentence
                if fit.refit:
                    fitted = refit(
                        *(self._session, fit, log, stack, ready, fitted), fitting.features
                    )
                    words += f"; refitted on all {snapshot.n_ratings:,} ratings after that"
                version = publish(log, fitted, self._based_on, options.keep)
                log.end("published", f"published {version}: {words}")
            else:
                log.end("kept", f"kept version {self._champion_name}: {verdict.sentence}")

    def _clean_up(self) -> None:
        removed = self._log.store.recover()
        if removed:
            self._log.add_warning(f"removed what a killed run had left: {', '.join(removed)}")

    def _read_champion(self, kept: ExitStack) -> tuple[str | None, AnyModel | None]:
        """Read the current version; where it is damaged, go back to one that is not.

        Of a version that was refitted this is the model before the refit, which has not seen what
        is held out.
        """
        self._damaged = False
        try:
            current = self._log.store.current()
            if current is None:
                return None, None
            return current, self._load(current, kept)
        except DataError as error:
            self._damaged = True
            self._log.add_warning(f"the current version is damaged: {error}")
        try:
            older = self._log.store.rollback(run=self._log.run, check=self._log.lock.check)
        except DataError:
            self._log.add_warning("no older version is intact: there is nothing to compare with")
            return None, None
        self._based_on = self._log.store.pointer_number()
        self._log.add_warning(f"rolled back to version {older}, which readers get until a new one")
        return older, self._load(older, kept)

    def _load(self, version: str, kept: ExitStack) -> AnyModel:
        return load_from_store(self._session, self._log.store, version, kept, before_refit=True)

    def _nothing_new(
        self,
        snapshot: Snapshot,
        previous: DataFacts | None,
        same_settings: bool,
        champion: AnyModel | None,
    ) -> bool:
        if previous is None or previous.fingerprint != snapshot.fingerprint:
            return False
        if not same_settings or champion is None or self._damaged or self._options.force:
            return False
        self._note_data(replace(previous, tables=snapshot.tables), {})
        trained = last_published(self._past)
        back = trained is not None and trained != self._champion_name
        newer = [table for table in snapshot.tables if table not in previous.tables]
        named = "; ".join(f"{table.label}: {table}" for table in newer)
        self._log.end(
            "unchanged",
            f"nothing new: these {snapshot.n_ratings:,} ratings were trained on already, with the "
            f"same settings; version {self._champion_name} stays"
            + (f", as after the roll-back from {trained} (`force=` trains anew)" if back else "")
            + (f" (another version of the table, but the same ratings: {named})" if newer else ""),
        )
        return True

    def _passes(self, checks: Sequence[Check]) -> bool:
        log = self._log
        log.record = replace(log.record, checks=(*log.record.checks, *checks))
        failed = [check for check in checks if not check.passed]
        if not failed:
            return True
        sentence = "; ".join(
            f"{check.name} {check.value}, limit {check.limit}"
            + (f", last run {check.previous}" if check.previous else "")
            + f" (`{check.option}=`)"
            for check in failed
        )
        if self._options.force:
            log.add_warning(f"data check failed, and `force=` goes on: {sentence}")
            return True
        log.end("data_check_failed", f"data check failed, nothing was trained: {sentence}")
        return False

    def _note_data(self, facts: DataFacts, unknown: Mapping[Side, tuple[int, float]]) -> None:
        data = self._log.record.data
        assert data is not None
        data = data.with_facts(facts)
        if unknown:
            data = replace(
                data,
                new_users=unknown["user"][0],
                new_items=unknown["item"][0],
                unknown_share=max(share for _, share in unknown.values()),
            )
        self._log.record = replace(self._log.record, data=data)

    def _choose_start(self, ready: ReadyRatings, champion: AnyModel | None, spec: Spec) -> Start:
        if champion is None:
            return cold_start("there is no model to start from")
        posterior = self._fit.posterior
        known: IntervalModel | RidgeRows | None = None
        if posterior is not None:
            if posterior.method == "sample":
                return cold_start("a model by sample goes on from no other")
            if posterior.method == "ridge":
                known, what = ridge_rows(champion), "ridge towards a mean"
            else:
                known = posterior_of(self._log.store, str(self._champion_name))
                what = "variational posterior"
            if known is None:
                return cold_start(f"the current version has no {what} to start from")
        rank = champion.rank if known is None else known.rank
        if rank != spec.rank:
            return cold_start(f"the current version has rank {rank}, not {spec.rank}")
        if self._unseen_by is not None:
            return cold_start("the current version was trained on ratings that are held out now")
        before = warm_trainings(self._past, spec.rank)
        if before is None:
            before = int(champion.description.get("warm_runs", 0))
        warm_runs = before + 1
        if warm_runs >= self._options.full_every:
            return cold_start(f"a full training every {self._options.full_every} runs")
        name, prepared = str(self._champion_name), ready.prepared
        if known is not None:
            return warm_prior(prepared, known, champion, name, warm_runs)
        return warm_start(prepared, champion, name, self._fit.training.seed, warm_runs)

    def _compare(self, found: Mapping[str, Evaluation]) -> Verdict:
        options, log = self._options, self._log
        challenger = dict(found["challenger"].metrics)
        before = dict(found["champion"].metrics) if "champion" in found else None
        holdout = int(challenger["count"] or 0)
        if self._unseen_by is not None:
            log.add_warning(
                f"version {self._champion_name} was trained with {self._unseen_by}: the two are "
                f"compared on the {holdout:,} ratings that neither was trained on"
            )
        verdict = judge(
            challenger,
            before,
            options.measure,
            options.margin,
            ancestors=ancestors_of(self._past, str(self._champion_name), options.measure),
            max_decline=options.max_decline,
        )
        log.record = replace(
            log.record,
            challenger=challenger,
            champion=before,
            comparison=Comparison(
                measure=options.measure,
                margin=options.margin,
                max_decline=options.max_decline,
                holdout=holdout,
                challenger=challenger,
                champion=None if before is None else {**before, "version": self._champion_name},
                verdict=log.say(verdict.sentence),
            ),
            previous_version=self._champion_name,
        )
        log.pictures["breakdown.png"] = _draw_breakdown(found)
        return verdict


def _integers_of(model: AnyModel | None) -> list[Side]:
    """Return the sides whose ids are integers, so that text can be none of them."""
    return [side for side in SIDES if model is not None and model.side(side).ids.are_integers]


def _unknown_shares(
    ready: ReadyRatings, champion: AnyModel | None
) -> dict[Side, tuple[int, float]]:
    """Count, for each side, the ids the champion does not know, and the share of their ratings."""
    if champion is None:
        return {}
    summary = ready.prepared.summary
    shares: dict[Side, tuple[int, float]] = {}
    for side, ids, counts in (
        (SIDES[0], summary.users, summary.user_counts),
        (SIDES[1], summary.items, summary.item_counts),
    ):
        unknown = champion.side(side).ids.rows_of(ids.ids) < 0
        share = float(counts[unknown].sum() / max(int(counts.sum()), 1))
        shares[side] = (int(np.count_nonzero(unknown)), share)
    return shares


def _draw_breakdown(found: Mapping[str, Evaluation]) -> bytes:
    by_user = {name: bins_of(result.by_user) for name, result in found.items()}
    by_item = {name: bins_of(result.by_item) for name, result in found.items()}
    return png_of(breakdown_figure(by_user, by_item, note="on the held-out ratings"))
