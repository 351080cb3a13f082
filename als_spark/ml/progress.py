"""Who watches a fit: the callbacks of its models, and a progress bar."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from als_spark.ml.fit_params import FitParams
from als_spark.report.bar import IterationBar, in_notebook
from als_spark.train.loop import OnIteration
from als_spark.train.records import IterationRecord


@contextmanager
def watched(models: Mapping[int, FitParams]) -> Iterator[OnIteration | None]:
    """Show the bar for the duration of the block, where one is wanted.

    Parameters
    ----------
    models : mapping of int to FitParams
        Parameters by the position of the model.

    Yields
    ------
    callable or None
        Takes the record of each iteration, from any thread; None if nobody watches.
    """
    callbacks = {
        point: callback
        for point, params in models.items()
        if (callback := params.getCallback()) is not None
    }
    shown = [params for params in models.values() if _wants_bar(params)]
    if not callbacks and not shown:
        yield None
        return
    bar = None
    if shown:
        # Bars that nobody has asked for would pile up under a cross-validation.
        asked = any(params.getProgress() for params in shown)
        bar = IterationBar(sum(params.most_iterations for params in shown), leave=asked)
    lock, ended = threading.Lock(), threading.Event()

    def on_iteration(record: IterationRecord) -> None:
        with lock:
            if ended.is_set():
                return
            if bar is not None and _wants_bar(models[record.point]):
                bar.on_iteration(record)
            if record.point in callbacks:
                try:
                    callbacks[record.point](record)
                except BaseException:
                    # Models that other threads have trained meanwhile are nobody's any more.
                    ended.set()
                    raise

    done = False
    try:
        yield on_iteration
        done = True
    finally:
        if bar is not None:
            bar.close(done=done)


def _wants_bar(params: FitParams) -> bool:
    asked = params.getProgress()
    return in_notebook() if asked is None else asked
