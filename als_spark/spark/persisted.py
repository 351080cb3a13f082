"""RDDs that stay on the executors, whatever becomes of what they were computed from."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

from pyspark import RDD, SparkContext, StorageLevel

from als_spark.spark.session import described

_ONCE = StorageLevel.MEMORY_AND_DISK_DESER
_TWICE = StorageLevel(
    _ONCE.useDisk, _ONCE.useMemory, _ONCE.useOffHeap, _ONCE.deserialized, replication=2
)


def persist_without_lineage(rdd: RDD[Any]) -> None:
    """Persist an RDD that is not computed yet, and cut off its lineage as soon as it is.

    It is cut off by files, which outlive executors, if the Spark context has a checkpoint
    directory, else by what the executors have persisted, each block on two of them, so that one may
    be lost.
    """
    if rdd.ctx.getCheckpointDir() is None:
        rdd.persist(replicated_level(rdd.ctx)).localCheckpoint()
    else:
        rdd.persist(_ONCE).checkpoint()


def replicated_level(context: SparkContext) -> StorageLevel:
    """Return the level at which a block outlives one executor, where there are several."""
    # The driver is one of them; in local mode there is no other.
    n_executors = len(context._jsc.sc().statusTracker().getExecutorInfos()) - 1
    return _ONCE if n_executors < 2 else _TWICE


def is_running(context: SparkContext) -> bool:
    """Tell whether a Spark context has not been stopped."""
    return context._jsc is not None


def free(rdd: RDD[Any]) -> None:
    """Unpersist an RDD and delete its checkpoint files, which Spark would leave there."""
    if not is_running(rdd.ctx):
        return
    with suppress(Exception):
        rdd.unpersist()
        files = rdd.getCheckpointFile()
        if files is not None:
            jvm: Any = rdd.ctx._jvm
            path = jvm.org.apache.hadoop.fs.Path(files)
            path.getFileSystem(rdd.ctx._jsc.hadoopConfiguration()).delete(path, True)


class Persisted:
    """An RDD that is computed at once, and stays until no plan of Spark and no holder needs it.

    Spark frees it, and deletes its checkpoint files, once its object in the JVM is garbage: when
    neither this object nor a DataFrame that was made of the RDD is there any more. So a DataFrame
    outlives the model that it came from.

    Parameters
    ----------
    rdd : RDD
        Not persisted yet.
    label : str
        Description of the Spark job that computes it.
    recomputed : bool
        Whether lost blocks are computed again, from a source that stays: there is one copy then.
        Else see :func:`persist_without_lineage`.
    """

    def __init__(self, rdd: RDD[Any], label: str, *, recomputed: bool = False) -> None:
        rdd.setName("als_spark: factors of a model")
        if recomputed:
            rdd.persist(_ONCE)
        else:
            persist_without_lineage(rdd)
        try:
            with described(rdd.ctx, label):
                rdd.count()
        except BaseException:
            free(rdd)
            raise
        cleaner = rdd.ctx._jsc.sc().cleaner()
        if rdd.getCheckpointFile() is not None and cleaner.isDefined():
            cleaner.get().registerRDDCheckpointDataForCleanup(rdd._jrdd.rdd(), rdd.id())
        # Without the Python objects that it was made of, which refer to those of the JVM.
        self.rdd: RDD[Any] = RDD(rdd._jrdd, rdd.ctx, rdd._jrdd_deserializer)
        self._holders: weakref.WeakSet[Any] = weakref.WeakSet()

    def __repr__(self) -> str:
        """Say which it is."""
        return f"<Persisted: RDD {self.rdd.id()}>"

    def hold(self, holder: object) -> None:
        """Keep the RDD from being freed by others."""
        self._holders.add(holder)

    def release(self, holder: object) -> None:
        """Free it at once, unless others hold it."""
        self._holders.discard(holder)
        if not self._holders:
            free(self.rdd)
