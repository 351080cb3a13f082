"""Partition the grid: every executor gets the packed ratings, and a task trains a whole model.

A model is a Spark job of one task, so its result is there as soon as it is done, and a run that is
stopped keeps what it has. Largest models go first.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial

from pyspark import Broadcast, SparkContext, inheritable_thread_target
from pyspark.sql import SparkSession

from als_spark.errors import SolveError
from als_spark.spark.session import broadcasted, default_partitions
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import Factors
from als_spark.train.bayes.loop import Posterior, PosteriorRecord, train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.checkpoint import Checkpoint, Finished
from als_spark.train.grid import Collector
from als_spark.train.local import LocalBackend
from als_spark.train.loop import OnIteration, train_models
from als_spark.train.metrics import ErrorSums, SideStats
from als_spark.train.records import (
    ModelSpec,
    Options,
    RankingMeans,
    TrainingOptions,
    options_of_each,
)
from als_spark.train.state import LoopState
from als_spark.types import SplitName

_Returned = tuple[LoopState, Mapping[SplitName, ErrorSums], Mapping[SplitName, RankingMeans]]


class PerModel:
    """All ratings on the driver; each task gets them, and trains one model.

    A placement (see :class:`als_spark.spark.train.run.Placement`); ``backend`` is broadcast once a
    training.
    """

    def __init__(self, session: SparkSession, backend: LocalBackend) -> None:
        self._session = session
        self.backend = backend

    def close(self) -> None:
        """Do nothing: between trainings nothing is kept on the executors."""

    def train(
        self,
        specs: Sequence[ModelSpec],
        options: Options,
        collector: Collector,
        *,
        starts: Sequence[Factors | None] | None = None,
        on_iteration: OnIteration | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Train all points, a Spark task each.

        ``on_iteration`` hears of all iterations of a model when the collector has it; a checkpoint
        has finished models, and no states.
        """
        context = self._session.sparkContext
        each = options_of_each(options, len(specs))
        done = set()
        for finished in () if checkpoint is None else checkpoint.finished():
            collector.add(*finished)
            done.add(finished.trained.spec.point)
        largest_first = sorted(
            (k for k, spec in enumerate(specs) if spec.point not in done),
            key=lambda k: (-specs[k].rank, specs[k].objective.reg, specs[k].point),
        )
        if not largest_first:
            return
        group = f"als_spark-grid-{secrets.token_hex(4)}"
        with broadcasted(context, self.backend) as shared:

            def train(k: int) -> None:
                spec = specs[k]
                context.setJobGroup(group, f"ALS model d={spec.rank} λ={spec.objective.reg:g}")
                work = [(spec, starts[k] if starts is not None else None)]
                run = partial(
                    train_partition,
                    backend=shared,
                    options=each[k],
                    with_errors=collector.needs_errors,
                )
                # One partition, one task: the model.
                for returned in context.parallelize(work, 1).mapPartitions(run).collect():
                    if isinstance(returned, SolveError):
                        raise returned
                    trained, sums, rankings = returned
                    if checkpoint is not None:
                        checkpoint.keep_finished(Finished(trained, sums, rankings))
                    collector.add(trained, sums, rankings)
                    if on_iteration is not None:
                        for record in trained.history:
                            on_iteration(record)

            self._in_threads(train, largest_first, group)

    def train_posteriors(
        self,
        stats: SideStats,
        grid: Sequence[PosteriorOptions],
        take: Callable[[int, Posterior], None],
        on_iteration: Callable[[int, PosteriorRecord], None],
    ) -> None:
        """Train all points, a Spark task each; ``on_iteration`` hears of those that are done."""
        context = self._session.sparkContext
        largest_first = sorted(range(len(grid)), key=lambda k: (-grid[k].n_factors, k))
        group = f"als_spark-grid-{secrets.token_hex(4)}"
        with broadcasted(context, (self.backend, stats)) as shared:

            def train(k: int) -> None:
                context.setJobGroup(group, f"{grid[k].method} d={grid[k].n_factors}")
                run = partial(posterior_partition, known=shared)
                for returned in context.parallelize([grid[k]], 1).mapPartitions(run).collect():
                    if isinstance(returned, SolveError):
                        raise returned
                    take(k, returned)
                    for record in returned.history:
                        on_iteration(k, record)

            self._in_threads(train, largest_first, group)

    def _in_threads(self, train: Callable[[int], None], work: Sequence[int], group: str) -> None:
        """Run jobs side by side, as many as there are cores; cancel the group if one fails."""
        context = self._session.sparkContext
        # A thread of its own in the JVM too, which ends with it. From PySpark 4 on the session is
        # asked for; 3.5 would take it for the function.
        takes_session = int(self._session.version.split(".")[0]) >= 4
        in_thread: Callable[..., Callable[[int], None]] = (
            inheritable_thread_target(self._session) if takes_session else inheritable_thread_target
        )
        n_threads = min(len(work), default_partitions(context))
        pool = ThreadPoolExecutor(n_threads, thread_name_prefix="als_spark-grid")
        futures = [pool.submit(in_thread(train), k) for k in work]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _cancel(context, group)
            raise
        pool.shutdown()


def train_partition(
    work: Iterable[tuple[ModelSpec, Factors | None]],
    *,
    backend: Broadcast[LocalBackend],
    options: TrainingOptions,
    with_errors: bool = True,
) -> Iterator[_Returned | SolveError]:
    """Train the models of a partition: the function that runs on an executor.

    A system without a solution is returned, not raised (see
    :func:`als_spark.spark.train.exchange.solve_partition`).
    """
    prepare_worker()
    for spec, start in work:
        starts = None if start is None else [start]
        try:
            (trained,) = train_models(backend.value, [spec], options, starts=starts)
        except SolveError as error:
            yield error
            continue
        sums: Mapping[SplitName, ErrorSums] = {}
        rankings: Mapping[SplitName, RankingMeans] = {}
        if with_errors:
            factors = trained.plain_factors
            (sums,) = backend.value.errors([factors], "")
            (rankings,) = backend.value.rankings([factors], "")
        yield trained, sums, rankings


def posterior_partition(
    work: Iterable[PosteriorOptions], *, known: Broadcast[tuple[LocalBackend, SideStats]]
) -> Iterator[Posterior | SolveError]:
    """Train the models with a learnt prior of a partition: the function that runs on an executor.

    A system without a solution is returned, as in :func:`train_partition`.
    """
    prepare_worker()
    for options in work:
        try:
            yield train_posterior(*known.value, options)
        except SolveError as error:
            yield error


def _cancel(context: SparkContext, group: str) -> None:
    # Where the interrupt has taken the JVM down too, there is nothing left to cancel.
    if context._jsc is not None:
        try:
            context.cancelJobGroup(group)
        except Exception:  # noqa: BLE001 - py4j raises many kinds for a JVM that is gone
            return
