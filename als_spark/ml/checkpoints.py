"""What a fit keeps every ``checkpointInterval`` iterations, and how it finds its own of earlier.

Beside the context's checkpoint directory, which Spark makes anew for each process, a fit has a
folder whose name is a hash of all that decides its result: the ratings, rank, objective, stopping
rule and seed of each model, and the factors that it starts from. A fit that differs in anything has
another name, so that no state of another fit can be taken for its own. ::

    als_spark-<hash>/
        locks/       who trains it: one process at a time
        training/    see :mod:`als_spark.store.checkpoint`
"""

from __future__ import annotations

import hashlib
import json
import logging
import posixpath
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import als_spark
from als_spark.errors import ConfigError, DataError, LockLost, StoreLocked
from als_spark.files.places import split_address
from als_spark.ml.fit_params import FitParams
from als_spark.spark.session import described
from als_spark.spark.store_files import files_at
from als_spark.spark.train.run import PreparedRatings
from als_spark.store.checkpoint import CheckpointFolder
from als_spark.store.files import SCRATCH, Files, LocalFiles
from als_spark.store.layout import LOCKS
from als_spark.store.lock import StoreLock
from als_spark.train.backend import Factors
from als_spark.train.checkpoint import Finished, Interval
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.train.state import LoopState

logger = logging.getLogger(__name__)

LOCK_TTL = timedelta(minutes=1)
"""After it the lock of a process on another machine, which is silent, is taken over."""
_TRAINING = "training"
_PREFIX = "als_spark-"
_PAUSE = 1.0


def interval_of(models: Sequence[FitParams]) -> int | None:
    """Return after how many iterations models that are trained together are kept.

    It is the smallest interval of theirs; None where all are off (-1), or where no model does more
    iterations than that.
    """
    given = [n for params in models if (n := params.getCheckpointInterval()) > 0]
    most = max(params.getMaxIter() for params in models)
    return min(given) if given and most > min(given) else None


def fit_identity(
    specs: Sequence[ModelSpec],
    options: Sequence[TrainingOptions],
    starts: Sequence[Factors | None],
    ratings: str,
    placement: str,
) -> dict[str, Any]:
    """Return what decides the result of a fit, as JSON has it.

    Parameters
    ----------
    specs, options, starts : sequence
        One of each model.
    ratings : str
        Tells the ratings from others: :func:`ratings_digest`.
    placement : str
        Whether ratings or models are spread over the cluster.
    """
    models = [
        {
            "rank": spec.rank,
            "objective": spec.objective.as_record(),
            "options": asdict(own),
            "start": None if start is None else _digest_of(start),
        }
        for spec, own, start in zip(specs, options, starts, strict=True)
    ]
    return {
        "job": "ALS.fit",
        "version": als_spark.__version__,
        "config": {"models": models, "ratings": ratings, "placement": placement},
    }


def folder_name(identity: Mapping[str, Any]) -> str:
    """Return the name of the folder of a fit."""
    text = json.dumps(identity, sort_keys=True)
    return f"{_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def parent_of(checkpoint_dir: str) -> tuple[bool, str]:
    """Return whether the folder that a checkpoint directory was made in is local, and where it is.

    Spark's ``setCheckpointDir`` appends a name of its own, which differs from process to process.
    """
    address = split_address(checkpoint_dir)
    if address.scheme in ("", "file"):
        # As Hadoop writes a path: a % in it is one.
        return True, posixpath.dirname(address.path.rstrip("/"))
    return False, posixpath.dirname(checkpoint_dir.rstrip("/"))


def ratings_digest(ratings: DataFrame) -> str:
    """Tell typed ratings from others, in whatever order they come: one pass over them."""
    names = [name for name in ("user", "item", "rating", "weight") if name in ratings.columns]
    # A sum of decimals: under ANSI rules one of integers fails where it overflows.
    hashes = F.xxhash64(*names).cast("decimal(20,0)")
    with described(ratings.sparkSession.sparkContext, "ALS checkpoint: telling the ratings"):
        row = ratings.agg(F.count(F.lit(1)), F.sum(hashes)).head()
    assert row is not None
    return f"{row[0]}-{row[1]}"


@contextmanager
def kept_fit(
    ratings: DataFrame,
    models: Sequence[FitParams],
    specs: Sequence[ModelSpec],
    options: Sequence[TrainingOptions],
    starts: Sequence[Factors | None],
    prepared: PreparedRatings,
) -> Iterator[FitCheckpoint | None]:
    """Keep a fit during the block; what is kept is deleted when the block ends well.

    Yields None where nothing is to be kept: ``checkpointInterval`` is off or not reached, the
    context has no checkpoint directory, or, with a line in the log, nothing can be.

    Raises
    ------
    ConfigError
        If the folder cannot be written.
    """
    session = ratings.sparkSession
    directory, every = session.sparkContext.getCheckpointDir(), interval_of(models)
    # A task that trains a whole model has no states; where there is one, there is nothing to keep.
    whole = prepared.plan.placement == "grid" and len(models) == 1
    if directory is None or every is None or whole:
        yield None
        return
    if not all(params.isSet("seed") for params in models):
        asked = any(params.isSet("checkpointInterval") for params in models)
        logger.log(
            logging.WARNING if asked else logging.INFO,
            "checkpointInterval without seed: nothing is kept, as the start differs from process "
            "to process: set seed",
        )
        yield None
        return
    digest = ratings_digest(ratings)
    identity = fit_identity(specs, options, starts, digest, prepared.plan.placement)
    files, label = _files_below(session, directory, folder_name(identity))
    training, _ = _files_below(session, directory, f"{folder_name(identity)}/{_TRAINING}")
    with _one_fit(files, label) as lock:
        if lock is None:
            yield None
            return
        plan = prepared.plan
        placed = {
            "placement": plan.placement,
            "blocks": plan.n_blocks,
            "exchange": dict(plan.exchange),
        }
        anew = "it is deleted, and the training begins anew"
        folder = CheckpointFolder(training, label, Interval(every), anew)
        with _place_named(label):
            kept = FitCheckpoint(folder, lock, label, alone=len(models) == 1)
            kept.open(identity, {"ratings": digest}, placed)
        yield kept
        with _place_named(label):
            kept.remove()


class FitCheckpoint:
    """A :class:`als_spark.train.checkpoint.Checkpoint` of a fit.

    Of a model that is fitted alone the states are kept, and not the model when it is done: the fit
    ends with it. A process that has lost its lock keeps nothing more.
    """

    def __init__(
        self, folder: CheckpointFolder, lock: StoreLock, label: str, *, alone: bool
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._label = label
        self._alone = alone
        self._lost = False
        self._finished: list[Finished] = []
        self._running: list[LoopState] = []

    def __repr__(self) -> str:
        """Say where it is."""
        return f"<FitCheckpoint {self._label}>"

    def open(
        self, identity: Mapping[str, Any], data: Mapping[str, Any], plan: Mapping[str, Any]
    ) -> None:
        """Take up what is there; begin anew where it is damaged."""
        try:
            words = self._take(identity, data, plan)
        except (ConfigError, DataError) as error:
            logger.warning("%s", error)
            self._folder.check(identity, restart=True)
            words = self._folder.begin(identity, data, plan)
        for line in words:
            logger.warning("%s: %s", self._label, line)

    def _take(
        self, identity: Mapping[str, Any], data: Mapping[str, Any], plan: Mapping[str, Any]
    ) -> list[str]:
        self._folder.check(identity)
        words = self._folder.begin(identity, data, plan)
        running, finished = self._folder.running(), list(self._folder.finished())
        self._running, self._finished = running, finished
        if not running and not finished:
            return []
        done = max((state.iterations for state in running), default=0)
        where = f"resumed at iteration {done}" if running else "resumed"
        more = f"; models done before: {len(finished)}" if finished else ""
        return [f"{where}{more}", *words]

    def finished(self) -> Iterator[Finished]:
        """Give the models that earlier processes have finished."""
        return iter(self._finished)

    def running(self) -> list[LoopState]:
        """Return the states that were kept last."""
        return self._running

    def keep_states(self, states: Sequence[LoopState]) -> None:
        """Keep the states of all models that are not finished, if it is time."""
        with _place_named(self._label):
            if self._folder.is_due(states) and self._is_ours():
                self._folder.keep_states(states)

    def keep_finished(self, finished: Finished) -> None:
        """Keep a finished model, of several."""
        with _place_named(self._label):
            if not self._alone and self._is_ours():
                self._folder.keep_finished(finished)

    def remove(self) -> None:
        """Delete what was kept."""
        if self._is_ours():
            self._folder.remove()

    def _is_ours(self) -> bool:
        if self._lost:
            return False
        try:
            self._lock.check()
        except LockLost as error:
            self._lost = True
            logger.warning("%s; the fit goes on and keeps nothing more", error)
        return not self._lost


_in_use: set[str] = set()
_in_use_lock = threading.Lock()


@contextmanager
def _one_fit(files: Files, label: str) -> Iterator[StoreLock | None]:
    """Hold the lock of a fit; None, and a line in the log, where another one has it."""
    with _in_use_lock:
        mine = label not in _in_use
        _in_use.add(label)
    if not mine:
        logger.warning("%s: the same is being fitted in this process: nothing is kept", label)
        yield None
        return
    try:
        lock = StoreLock(files, label, "ALS.fit", ttl=LOCK_TTL)
        try:
            with _place_named(label):
                _acquire(lock, label)
        except (ConfigError, StoreLocked) as error:
            logger.warning("%s; the fit goes on and keeps nothing", error)
            yield None
            return
        try:
            yield lock
        finally:
            # Whatever has ended the fit may have ended the file system; the lock then runs out.
            with suppress(Exception):
                names = files.names(LOCKS)
                lock.release()
                _tidy(files, names)
    finally:
        with _in_use_lock:
            _in_use.discard(label)


def _acquire(lock: StoreLock, label: str) -> None:
    """Take the lock; wait until that of a process that may have died elsewhere has run out."""
    until = time.monotonic() + LOCK_TTL.total_seconds() + _PAUSE
    told = False
    while True:
        try:
            lock.acquire()
        except StoreLocked:
            if time.monotonic() > until:
                raise
            if not told:
                logger.warning("%s: locked: waiting whether its owner lives", label)
            told = True
            time.sleep(_PAUSE)
        else:
            return


def _tidy(files: Files, locks: Sequence[str]) -> None:
    """Delete the lock that was released, not that of whoever has taken it since; and what is empty.

    Parameters
    ----------
    files : Files
    locks : sequence of str
        Names of the locks before the release.
    """
    for path in (*(f"{LOCKS}/{name}" for name in locks), LOCKS, SCRATCH, ""):
        with suppress(OSError):
            files.remove(path)


def _files_below(session: SparkSession, directory: str, name: str) -> tuple[Files, str]:
    is_local, parent = parent_of(directory)
    place = f"{parent.rstrip('/')}/{name}"
    return (LocalFiles(Path(place)) if is_local else files_at(session, place)), place


@contextmanager
def _place_named(label: str) -> Iterator[None]:
    try:
        yield
    except (ConfigError, DataError):
        raise
    except OSError as error:
        raise ConfigError(
            f"{label}: cannot be used for what checkpointInterval keeps ({error}): set another "
            "checkpoint directory, or checkpointInterval=-1"
        ) from error


def _digest_of(start: Factors) -> str:
    digest = hashlib.sha256()
    for side in start:
        digest.update(repr((side.shape, str(side.dtype))).encode())
        digest.update(np.ascontiguousarray(side).tobytes())
    return digest.hexdigest()
