"""``jobs/sweep.py``: ratings in; a trained grid, its results, plots and the best model out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from als_spark.cli.checkpoints import begin_checkpoint, open_checkpoint
from als_spark.cli.config.settings import in_options
from als_spark.cli.config.sweep import Kind, SweepConfig, sweep_record
from als_spark.cli.interrupts import Interrupted
from als_spark.cli.plan import plan_sweep
from als_spark.cli.program import EXIT_DONE, EXIT_INTERRUPTED, job_main, say
from als_spark.cli.spark_job import (
    SparkJob,
    all_versions,
    data_facts,
    job_with_output,
    tables_record,
    tell_data,
    tell_source,
    write_rejected,
)
from als_spark.cli.sweep_input import open_sources, prepare_options
from als_spark.errors import DataError
from als_spark.files.json_files import write_json
from als_spark.files.outputs import INTERRUPTED_FOLDER, StagedFolder
from als_spark.files.places import local_path
from als_spark.model.intervals import IntervalModel
from als_spark.model.large_model import AnyModel
from als_spark.nightly.publishing import write_models
from als_spark.nightly.refit import PHASE, refit_model, refit_posterior, refit_words
from als_spark.redaction import redact_all
from als_spark.report.advice import edges, next_command
from als_spark.report.baseline import Biases, Popular, is_beaten
from als_spark.report.figures.convergence import StopRule
from als_spark.report.figures.sweep import sweep_pictures
from als_spark.report.pages.sweep import sweep_page
from als_spark.report.table import results_table
from als_spark.solve.objective import IMPLICIT_CAVEAT
from als_spark.spark.output import output_folder
from als_spark.spark.prepare.prepare import prepare_ratings, prepare_typed
from als_spark.spark.read.columns import typed_ratings, union_typed
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.session import blas_threads_of_workers
from als_spark.spark.train.best import model_of, seen_record
from als_spark.spark.train.posterior import FittedPosterior, PosteriorGrid
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.baseline import ITEM_DAMPING, USER_DAMPING, fit_biases
from als_spark.train.grid import SweepCollector, SweepOutcome, grid_specs
from als_spark.train.ranking import popularity
from als_spark.train.records import ModelSpec, PointResult
from als_spark.types import SIDES, SplitName

RUN_FILE = "run.json"


def _run(config: SweepConfig) -> int:
    if config.plan:
        return plan_sweep(config)
    n_points = len(config.ranks) * len(config.lambdas or (None,))
    with job_with_output("sweep", config, config.output, output_folder, n_points) as (job, staged):
        run = _Run(config, job, staged)
        summary = run.work()
    say(summary)
    return EXIT_INTERRUPTED if run.stopped else EXIT_DONE


class _Run:
    """One run of the sweep, from its configuration to the files in the staged folder."""

    def __init__(self, config: SweepConfig, job: SparkJob, staged: StagedFolder) -> None:
        self._config = config
        self._job = job
        self._session = job.session
        self._progress = job.progress
        self._staged = staged
        self.stopped = False
        """Whether the training was broken off."""
        self._posteriors = config.posteriors
        self._specs = [
            ModelSpec(point, options.n_factors, options.objective)
            for point, options in enumerate(self._posteriors)
        ] or grid_specs(config.ranks, config.objectives)
        self._selected_on: SplitName = "validation" if config.validation_fraction else "test"
        self._judge = config.chosen_by
        self._collector = SweepCollector(self._selected_on, job.progress.on_finished, self._judge)
        self._popular: Popular = {}
        self._biases: Biases = {}
        self._refitted: AnyModel | None = None
        self._refitted_intervals: IntervalModel | None = None
        self._grid: PosteriorGrid | None = None
        self._checkpoint = open_checkpoint(job.session, config)
        self._facts: dict[str, Any] = {
            "versions": all_versions(job.session),
            "spark_master": job.session.sparkContext.master,
        }

    def work(self) -> str:
        """Do everything; return what to print at the end."""
        resources = ExitStack()
        try:
            prepared = resources.enter_context(self._prepare())
            self._write_rejected(prepared)
            self._rank_popular(prepared)
            self._measure_biases(prepared)
            self._train(prepared)
            self._refit(prepared)
        except BaseException as error:
            # Ctrl-C may first be seen as the failing of a call that it has cancelled.
            if not self._job.stop.requested:
                raise
            self._job.stop.acknowledge()
            self.stopped = True
            if self._collector.outcome() is None:
                raise Interrupted from error
        finally:
            # Which then cannot free anything either.
            with suppress(Exception):
                resources.close()
        outcome = self._collector.outcome()
        if outcome is None and self._judge.is_ranking:
            raise DataError(
                f"no point has a finite {self._selected_on} {self._judge.label}: the factors of "
                "all are too large: use "
                + (
                    "ratings in smaller units"
                    if self._config.lambdas is None
                    else "larger --lambdas"
                )
            )
        if outcome is None:
            raise DataError(
                f"none of the {self._selected_on} ratings can be predicted: all are of users or "
                "items without training ratings: use --cold-start mean, or hold out a smaller share"
            )
        with self._progress.phase("writing results"):
            self._write(outcome, prepared)
        return self._closing_words(outcome)

    def _prepare(self) -> PreparedRatings:
        config = self._config
        with self._progress.phase("looking at the ratings"):
            source, test = open_sources(self._session, config)
        self._sources = [opened for opened in (source, test) if opened is not None]
        for opened in self._sources:
            tell_source(self._progress, opened)
        options = prepare_options(config, [spec.rank for spec in self._specs])
        self._options = options
        label = self._label()
        with unreadable_files_are_named(label):
            prepared = prepare_ratings(
                *(self._session, source, options),
                test_source=test,
                phase=self._progress.phase,
                warn=self._warn,
            )
        self._facts["source"] = source.label
        self._facts["columns"] = dict(source.columns)
        self._facts["read"] = [line for opened in self._sources for line in opened.words]
        self._facts["parts"] = [part for opened in self._sources for part in opened.part_records()]
        self._facts["first_rows"] = list(prepared.summary.first_rows)
        self._facts |= tables_record([opened.version for opened in self._sources])
        if prepared.n_ratings.get(self._selected_on, 0) == 0:
            prepared.close()
            if test is not None and self._selected_on == "test":
                raise DataError(f"{test.label}: no ratings to test on: give others with --test")
            raise DataError(
                f"{source.label}: no rating fell into the {self._selected_on} part, so no point "
                f"can be called best: use a larger --{self._selected_on}-fraction"
            )
        self._note_data(prepared)
        return prepared

    def _warn(self, words: str) -> None:
        self._progress.write(f"warning: {in_options(words)}")

    def _label(self) -> str:
        return " + ".join(source.label for source in self._sources)

    def _note_data(self, prepared: PreparedRatings) -> None:
        self._facts["data"] = data_facts(prepared)
        self._facts |= prepared.plan.as_record()
        tell_data(self._progress, prepared, self._config.duplicates)
        self._facts["blas_threads_per_worker"] = blas_threads_of_workers(self._session.sparkContext)

    def _write_rejected(self, prepared: PreparedRatings) -> None:
        if prepared.rejected is None:
            return
        with self._progress.phase("setting bad rows aside"):
            write_rejected(self._session, prepared.rejected, self._staged.content)

    def _rank_popular(self, prepared: PreparedRatings) -> None:
        """Measure the popular items, which stand beside the models, if rankings are asked for."""
        rule = self._config.ranking
        if rule is None:
            return
        with self._progress.phase("ranking the popular items"):
            degrees = {side: prepared.stats[side].degrees for side in SIDES}
            baseline = popularity(degrees["user"].size, degrees["item"])
            label = "ranking measures of the popular items"
            (self._popular,) = prepared.backend.rankings([baseline], label)
        relevant_from = rule.threshold(prepared.stats["user"].mean)
        if self._selected_on not in self._popular:
            raise DataError(
                f"{self._facts['source']}: no {self._selected_on} rating of a user with training "
                f"ratings is at least {relevant_from:.4g}, so no ranking can be measured: use a "
                f"smaller --relevant-from, or a larger --{self._selected_on}-fraction"
            )
        self._facts["ranking"] = {
            "judge": self._judge.measure,
            "k": rule.top,
            "relevant_from": relevant_from,
            "popular": {split: means.as_record() for split, means in self._popular.items()},
        }

    def _measure_biases(self, prepared: PreparedRatings) -> None:
        """Measure the biases alone, which stand beside the errors of the models."""
        if self._config.implicit:
            # No model predicts ratings.
            return
        backend = prepared.backend
        with self._progress.phase("measuring the biases alone"):
            biases = fit_biases(backend, prepared.stats, "biases alone: users")
            (sums,) = backend.errors([biases], "errors of the biases alone")
            self._biases = {split: part.means() for split, part in sums.items()}
        self._facts["baselines"] = {
            "biases": {
                "user_damping": USER_DAMPING,
                "item_damping": ITEM_DAMPING,
                **{split: means.as_record() for split, means in self._biases.items()},
            }
        }

    def _train(self, prepared: PreparedRatings) -> None:
        if self._posteriors:
            self._grid = PosteriorGrid(prepared, self._posteriors, self._collector)
            with self._progress.phase("training"):
                self._grid.train(self._progress.on_iteration)
            return
        if self._config.implicit:
            self._progress.write(f"warning: {IMPLICIT_CAVEAT}")
        with self._progress.phase("training"):
            if self._checkpoint is not None:
                words = begin_checkpoint(self._checkpoint, self._config, prepared, self._specs)
                self._facts |= {"resumed": words} if words else {}
                for line in words:
                    self._progress.write(line)
            train_grid(
                prepared,
                self._specs,
                self._config.training,
                self._collector,
                on_iteration=self._progress.on_iteration,
                checkpoint=self._checkpoint,
            )

    def _refit(self, prepared: PreparedRatings) -> None:
        """Train the best model on with all ratings, if that is asked for."""
        outcome = self._collector.outcome()
        if not self._config.refit or outcome is None:
            return
        prepared.close()
        best = outcome.points[outcome.best]
        options = replace(
            self._options,
            split=replace(self._options.split, test_fraction=0.0, validation_fraction=0.0),
            ranks=[best.rank],
            ranking=None,
        )
        timed, progress = self._config.duplicates == "last", self._progress
        ratings = union_typed(
            [typed_ratings(source, need_timestamp=timed) for source in self._sources]
        )
        with (
            unreadable_files_are_named(self._label()),
            prepare_typed(
                self._session,
                ratings,
                self._label(),
                options,
                phase=lambda name: progress.phase(f"{PHASE}{name}"),
                warn=self._warn,
            ) as whole,
            progress.phase(f"{PHASE}training"),
        ):
            model = self._best_model(outcome, prepared)
            told: dict[str, Any] = {
                "held_out": sum(n for part, n in prepared.n_ratings.items() if part != "train"),
                "on_iteration": progress.on_iteration,
            }
            if self._best_posterior is None:
                objective, training = best.spec.objective, self._config.training
                self._refitted, record = refit_model(whole, model, objective, training, **told)
            else:
                point = self._posteriors[best.spec.point]
                self._refitted, record, self._refitted_intervals = refit_posterior(
                    whole, model, self._best_posterior.intervals, point, **told
                )
        self._facts["refit"] = record.as_dict()
        progress.write(refit_words(record, sampled=self._config.kind == "sample"))

    def _best_model(self, outcome: SweepOutcome, prepared: PreparedRatings) -> AnyModel:
        best = outcome.points[outcome.best]
        more = {"seed": self._config.seed, "result": best.as_record(best=True)}
        more |= seen_record(prepared)
        objective = best.spec.objective
        if self._best_posterior is not None:
            more |= self._best_posterior.description
            objective = self._best_posterior.objective
        return model_of(prepared, outcome.best_factors, objective, more)

    @property
    def _best_posterior(self) -> FittedPosterior | None:
        return None if self._grid is None else self._grid.best

    @property
    def _note(self) -> str:
        """Which objective λ belongs to, or what is learnt."""
        return self._posteriors[0].note if self._posteriors else self._specs[0].objective.note

    def _write(self, outcome: SweepOutcome, prepared: PreparedRatings) -> None:
        folder = self._staged.content
        points, best = outcome.points, outcome.best
        write_json(
            folder / "results.json",
            [point.as_record(best=position == best) for position, point in enumerate(points)],
        )
        drawn = (points, best, outcome.selected_on)
        words: dict[str, Any] = {"objective_note": self._note, "judge": self._judge}
        pictures = sweep_pictures(
            *drawn,
            tol=self._config.tol,
            stop=_STOPS[self._config.kind],
            burn_in=self._posteriors[0].burn_in if self._posteriors else 0,
            **words,
        )
        self._pictures = list(pictures)
        for name, picture in pictures.items():
            (folder / name).write_bytes(picture)
        model = self._best_model(outcome, prepared)
        intervals = None if self._best_posterior is None else self._best_posterior.intervals
        write_models(
            *(folder / "best_model", model, intervals, self._refitted, self._refitted_intervals)
        )
        write_json(folder / "history.json", [_history(point) for point in points])
        complete = not self.stopped
        if complete and self._checkpoint is not None:
            self._job.when_written.append(self._checkpoint.remove)
        target = local_path(self._config.output)
        if not complete and (target is None or target.exists()):
            self._staged.subfolder = INTERRUPTED_FOLDER
        run = {
            "status": "complete" if complete else "interrupted",
            "points": {"asked": len(self._specs), "finished": len(points)},
            "selected_on": outcome.selected_on,
            **redact_all(self._facts),
            "config": sweep_record(self._config),
            "started": self._job.began.isoformat(timespec="seconds"),
            "seconds": self._job.seconds,
        }
        write_json(folder / RUN_FILE, run)
        page = sweep_page(
            *drawn, run, pictures, popular=self._popular, biases=self._biases, **words
        )
        (folder / "report.html").write_text(page, encoding="utf-8")

    def _advice(self, outcome: SweepOutcome) -> list[str]:
        """Say where the best point lies on an edge of the grid, and what to try next."""
        chosen = outcome.points[outcome.best]
        grid = self._config.ranks, self._config.lambdas or ()
        judge, baselines = self._judge, (self._popular, self._biases)
        beaten = is_beaten(chosen, outcome.selected_on, judge, *baselines)
        most = min(self._facts["data"][f"{side}s"] for side in SIDES)
        following = next_command(
            chosen,
            *grid,
            beaten=beaten,
            for_lists=judge.is_ranking,
            most=most,
            method=self._config.method if self._posteriors else None,
            n_features=self._config.implicit_features or 0,
        )
        return [*edges(chosen, *grid, most=most), *([] if following is None else [following])]

    def _closing_words(self, outcome: SweepOutcome) -> str:
        table = results_table(
            outcome.points,
            outcome.best,
            outcome.selected_on,
            judge=self._judge,
            popular=self._popular,
            biases=self._biases,
        )
        learnt = outcome.points[outcome.best].reg is None
        belongs = "λ is learnt" if learnt else "λ belongs to this objective"
        # Of a grid that was not finished nobody knows where its best point lies.
        advice = [] if self.stopped else self._advice(outcome)
        table = "\n".join([table, f"{belongs}: {self._note}.", *advice])
        if self._config.implicit:
            table += f"\n\nThe {IMPLICIT_CAVEAT}."
        folder = self._config.output.rstrip("/")
        if self._staged.subfolder is not None:
            folder = f"{folder}/{self._staged.subfolder}"
        if self.stopped:
            finished, asked = len(outcome.points), len(self._specs)
            unfitted = self._config.refit and self._refitted is None
            return (
                f"{table}\n\nStopped: {finished} of {asked} points were finished and are kept "
                f"in {folder}" + ("; the best model was not refitted" if unfitted else "")
            )
        if self._refitted is not None:
            n = self._facts["refit"]["ratings"]
            table += (
                f"\n\nThe best model was then refitted on all {n:,} ratings; the errors above are "
                "those before."
            )
        return (
            f"{table}\n\nResults, plots and the best model are in {folder}: report.html, "
            f"results.json, {', '.join(self._pictures)}, best_model/, history.json, run.json"
        )


_STOPS: Mapping[Kind, StopRule] = {
    "ridge": "change",
    "ridge towards a mean": "objective",
    "variational": "bound",
    "sample": "bound",
}
"""What ends a training; samples nothing does."""


def _history(point: PointResult) -> dict[str, Any]:
    """Return the record of ``history.json``; what is not finite is null."""
    record: dict[str, Any] = {"d": point.rank, "lambda_reg": point.reg}
    names = ["objective", "change", *([] if point.learnt is None else ["noise", "rmse"])]
    for name in names:
        values = [getattr(iteration, name) for iteration in point.history]
        if name == "rmse" and not any(map(math.isfinite, values)):
            continue
        record[name] = [value if math.isfinite(value) else None for value in values]
    return record


main = job_main(SweepConfig, _run)
