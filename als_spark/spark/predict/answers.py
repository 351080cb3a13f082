"""A DataFrame of recommendations that may also be used in a ``with`` block."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from pyspark.sql import DataFrame

from als_spark.spark.session import described

if TYPE_CHECKING:

    class AnswerFrame(DataFrame):
        """A DataFrame whose broadcasts a ``with`` block removes."""

        def __enter__(self) -> AnswerFrame:
            """Describe the Spark jobs of the block."""

        def __exit__(self, *_: object) -> None:
            """Remove the broadcasts."""
else:
    AnswerFrame = DataFrame


class Handle(Protocol):
    """Of something that has been broadcast."""

    def destroy(self, *, blocking: bool = False) -> None:
        """Remove it from everywhere."""
        ...


def answer_frame(frame: DataFrame, handles: Sequence[Handle], label: str) -> AnswerFrame:
    """Let a DataFrame be used in a ``with`` block.

    Parameters
    ----------
    frame : DataFrame
    handles : sequence of Broadcast or SharedBroadcast
        What it needs; destroyed as the block ends. Without a block they are left to Spark, which
        removes a broadcast when no plan of a DataFrame has it any more.
    label : str
        Description of the Spark jobs of the block.
    """
    found = cast(Any, frame)
    kind: Any = type(frame)
    found.__class__ = _with_block(kind)
    found._als_spark_block = (handles, label, ExitStack())
    return cast("AnswerFrame", found)


def destroy(handles: Sequence[Handle]) -> None:
    """Remove broadcasts from everywhere, once each."""
    for handle in handles:
        # Not waiting for the executors' answers.
        handle.destroy(blocking=False)


@cache
def _with_block(kind: Any) -> Any:
    """Return the class of the session's DataFrames (PySpark has several) with a block."""

    def enter(self: Any) -> Any:
        _, label, block = self._als_spark_block
        block.enter_context(described(self.sparkSession.sparkContext, label))
        return self

    def leave(self: Any, *_: object) -> None:
        handles, label, block = self._als_spark_block
        block.close()
        destroy(handles)
        self._als_spark_block = ((), label, block)

    return type(kind.__name__, (kind,), {"__enter__": enter, "__exit__": leave})
