"""The files of a model store on any file system that Hadoop has a client for."""

from __future__ import annotations

import posixpath

from pyspark.sql import SparkSession

from als_spark.errors import ConfigError
from als_spark.files.places import local_path, split_address
from als_spark.spark.hadoop import HadoopTree
from als_spark.store.files import Files, MisplacedError
from als_spark.store.store import ModelStore, open_store

OBJECT_STORES = ("s3a", "s3", "s3n")
"""Schemes of file systems whose rename copies, and whose files appear when they are closed."""


class HadoopFiles(Files):
    """Files below the URI of a folder, on a file system whose rename is one step."""


class ObjectFiles(Files):
    """Files below the URI of a folder in an object store.

    A file appears whole when it is closed, so that it is written in its place. Where the store
    knows conditional writes, of several that create a file at once one gets True; where it does
    not, nothing can be created and a ConfigError tells so: whoever only reads can do without.

    A folder gets its name file by file, see :meth:`settle`.
    """

    def __init__(self, tree: HadoopTree, root: str) -> None:
        super().__init__(tree, root)
        self._store = tree

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not be there yet, whole or not at all; False if it is there."""
        if not self._store.creates_alone:
            raise ConfigError(
                f"{self._root}: cannot be written as a model store, which needs an S3 with "
                "conditional writes, and Hadoop 3.4.2 or newer (fs.s3a.create.conditional.enabled):"
                " two runs could publish at once; put the store on HDFS or a disk"
            )
        whole = self._at(path)
        if self._tree.is_folder(whole):
            raise MisplacedError(whole, "folder", "file")
        return not self._tree.exists(whole) and self._store.create(whole, data)

    def replace(self, path: str, data: bytes) -> None:
        """Write a file, over an older one too: readers find the old content or the new."""
        whole = self._at(path)
        if self._tree.is_folder(whole):
            raise MisplacedError(whole, "folder", "file")
        self._tree.write(whole, data)

    def settle(self, source: str, target: str, name: str, data: bytes) -> None:
        """Give a folder its last file and its name; FileExistsError if the name is taken.

        The last file comes first here: whoever creates it has the name.
        """
        if self.exists(target) or not self.create(f"{target}/{name}", data):
            raise FileExistsError(self._at(target))
        names = [*self.sizes(source), name]
        for other in names:
            if other != name:
                whole = self._at(f"{target}/{other}")
                self._tree.make_folder(posixpath.dirname(whole))
                self._tree.rename(self._at(f"{source}/{other}"), whole)
        # With the empty folders that the others have left.
        self.remove_ours(source, names)


def files_at(session: SparkSession, root: str) -> Files:
    """Return the files below a URI; ConfigError if its file system does not answer."""
    try:
        tree = HadoopTree(session, root)
    except OSError as error:
        raise ConfigError(
            f"{root}: its file system does not answer ({error}): check the address"
        ) from error
    kind = ObjectFiles if split_address(root).scheme in OBJECT_STORES else HadoopFiles
    return kind(tree, root.rstrip("/"))


def store_at(session: SparkSession, path: str) -> ModelStore:
    """Return the model store in a directory of any file system.

    Parameters
    ----------
    session : SparkSession
        Knows the file systems.
    path : str
        A path, or a URI. Those of this machine are read and written without Spark.

    Raises
    ------
    ConfigError
        If the file system is unknown or does not answer.
    DataError
        If the path is a file of this machine.
    """
    local = local_path(path)
    if local is not None:
        return open_store(local)
    return ModelStore(files_at(session, path), path.rstrip("/"))
