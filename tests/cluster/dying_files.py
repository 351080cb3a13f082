"""A client that is killed before one of its requests, without a process of its own for each kill.

A process that is killed has made its requests up to then, and none after.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession

from als_spark.spark.store_files import ObjectFiles, files_at
from als_spark.store.files import Files


class Killed(BaseException):
    """What would have come next does not come."""


class DyingTree:
    """A file system whose client dies before a given one of its writing requests."""

    WRITING = ("write", "create", "make_folder", "rename", "rename_over", "place", "copy_in")
    WRITING += ("remove_file", "remove_empty", "scrap")

    def __init__(self, tree: Any, last: int) -> None:
        self._tree = tree
        self._left = last

    def __getattr__(self, name: str) -> Any:
        if self._left < 0:
            raise Killed
        if name in self.WRITING:
            self._left -= 1
            if self._left < 0:
                raise Killed
        return getattr(self._tree, name)

    @property
    def dead(self) -> bool:
        """Whether there was such a request."""
        return self._left < 0


def dying_files(session: SparkSession, root: str, last: int) -> tuple[Files, DyingTree]:
    """Return the files below a URI, whose client dies after so many writing requests."""
    files = files_at(session, root)
    tree: Any = DyingTree(files._tree, last)
    files._tree = tree
    if isinstance(files, ObjectFiles):
        files._store = tree
    return files, tree
