"""Folders that are tables of Delta Lake, Iceberg or Hudi.

The Parquet files in them hold rows that were deleted or replaced since: only the table's own log
tells which files, and which rows of them, count. So no such file is ever read as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple
from urllib.parse import unquote

from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.files.local import LocalTree
from als_spark.files.places import Place, local_path
from als_spark.files.trees import Tree
from als_spark.spark.hadoop import HadoopTree
from als_spark.spark.output import place_of
from als_spark.spark.read.heads import AT_A_TIME, PATTERN, unmistakable
from als_spark.spark.read.options import SourceOptions

TableKind = Literal["Delta", "Iceberg", "Hudi"]

_ICEBERG = re.compile(r"\.metadata\.json(\.gz)?$|^version-hint\.text$")
"""Files of Iceberg's folder ``metadata``, which others may have too."""
_SYSTEM = re.compile(r"[A-Za-z][\w+.-]*:(//[^/]*)?")


class FoundTable(NamedTuple):
    """A table that a path leads to, into, or above."""

    kind: TableKind
    root: str
    """Its folder: a path of this machine, or the address of another."""


class TableFinder:
    """Looks for tables at paths, above and below them; each folder is looked at once."""

    def __init__(self, session: SparkSession) -> None:
        self._session = session
        self._known: dict[str, TableKind | None] = {}
        self._trees: dict[str, Tree | None] = {"": LocalTree()}

    def at(self, path: str) -> tuple[FoundTable, bool] | None:
        """Find the table that a path, or what matches its pattern, is or lies in.

        The second says whether the path is the very folder of the table.
        """
        path = unmistakable(path)
        place = place_of(self._session, path, read_by_spark=True)
        if place is None:
            return None
        places = [place]
        if PATTERN.search(path) and not self._is_there(place):
            places = [_place(match) for match in self._matches(path)]
        found = self._first(places)
        if found is None:
            return None
        whole = places == [place] and found.root in {*_own_names(place)}
        return found, whole

    def above(self, files: Sequence[str]) -> FoundTable | None:
        """Find a table that one of the files is in, by their addresses as Spark has them."""
        local = [path for file in files if (path := local_path(file)) is not None]
        links = [path for path in local if path.is_symlink()]
        folders: dict[Place, None] = dict.fromkeys([*(path.parent for path in local), *links])
        others = [unquote(file) for file in files if local_path(file) is None]
        folders |= dict.fromkeys(file.rpartition("/")[0] for file in others)
        return self._first(list(folders))

    def _first(self, places: Sequence[Place]) -> FoundTable | None:
        chains = [list(folders_above(place)) for place in places]
        self._look_at(dict.fromkeys(folder for chain in chains for folder in chain))
        for chain in chains:
            for folder in chain:
                kind = self._known[folder]
                if kind is not None:
                    return FoundTable(kind, folder)
        return None

    def _look_at(self, folders: Iterable[str]) -> None:
        new = [folder for folder in folders if folder not in self._known]
        trees = [self._tree(folder) for folder in new]
        look: Callable[[Tree | None, str], TableKind | None] = kind_of
        if all(tree is self._trees[""] for tree in trees):
            kinds = list(map(look, trees, new))
        else:
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                kinds = list(pool.map(look, trees, new))
        self._known |= dict(zip(new, kinds, strict=True))

    def _tree(self, folder: str) -> Tree | None:
        """Return the file system of a folder; None if it does not answer."""
        system = _system(folder)
        if system not in self._trees:
            self._trees[system] = _tree_or_none(self._session, folder)
        return self._trees[system]

    def _is_there(self, place: Place) -> bool:
        if isinstance(place, Path):
            return os.path.lexists(place)
        tree = self._tree(place)
        try:
            return tree is not None and tree.exists(place)
        except OSError:
            return False

    def _matches(self, pattern: str) -> list[str]:
        try:
            return HadoopTree(self._session, pattern).matches(pattern)
        except OSError:
            return []


def kind_of(tree: Tree | None, folder: str) -> TableKind | None:
    """Tell which kind of table a folder is by what lies in it; None if it is none."""
    base = folder.rstrip("/")
    try:
        if tree is None:
            return None
        if tree.exists(f"{base}/_delta_log"):
            return "Delta"
        if tree.exists(f"{base}/.hoodie"):
            return "Hudi"
        metadata = f"{base}/metadata"
        if tree.exists(metadata):
            names = (entry.name for entry in tree.entries(metadata))
            return "Iceberg" if any(map(_ICEBERG.search, names)) else None
    except OSError:
        # A folder above that may not be looked into holds no files that may be read.
        return None
    return None


def refusal(
    session: SparkSession, options: SourceOptions, found: FoundTable, where: str
) -> DataError:
    """Say in one line what a path is, or lies in, and how to read it.

    ``where`` is a phrase such as "is" or "lies in"; the table follows it.
    """
    return DataError(
        f"{options.label}: {where} {_article(found.kind)} {found.kind} table"
        f"{'' if where == 'is' else f', {found.root}'}, whose files also hold rows that were "
        f"deleted since: {how_to_read(session, options, found)}"
    )


def how_to_read(session: SparkSession, options: SourceOptions, found: FoundTable) -> str:
    """Say with which packages, settings and options a table is read."""
    spark = ".".join(session.version.split(".")[:2])
    scala = _scala(session)
    by_name = 'a table of a catalog by `table="NAME"`' if options.format_option else ""
    if found.kind == "Delta":
        # The artifacts are named after the version of Spark since Delta Lake 4.
        suffix = "" if spark.startswith("3.") else f"_{spark}"
        by_format = '`format="delta"`' if options.format_option else ""
        ways = " or ".join(way for way in (by_format, by_name) if way)
        return (
            f"give the folder {found.root}"
            + (f" with {ways}" if ways else "")
            + f", and Spark needs --packages io.delta:delta-spark{suffix}_{scala}:VERSION "
            "--conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension "
            "--conf spark.sql.catalog.spark_catalog="
            "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        )
    if found.kind == "Iceberg":
        needs = (
            f"--packages org.apache.iceberg:iceberg-spark-runtime-{spark}_{scala}:VERSION "
            "--conf spark.sql.catalog.CATALOG=org.apache.iceberg.spark.SparkCatalog, and the "
            "settings of that catalog"
        )
        name = "CATALOG.DATABASE.TABLE"
    else:
        needs = (
            f"--packages org.apache.hudi:hudi-spark{spark}-bundle_{scala}:VERSION "
            "--conf spark.serializer=org.apache.spark.serializer.KryoSerializer "
            "--conf spark.sql.extensions=org.apache.spark.sql.hudi.HoodieSparkSessionExtension"
        )
        name = "DATABASE.TABLE"
    if not options.format_option:
        return f"write its rows as Parquet and give these; Spark reads it with {needs}"
    return f'give it by its name in a catalog, `table="{name}"`, and Spark needs {needs}'


def _article(kind: TableKind) -> str:
    return "an" if kind == "Iceberg" else "a"


def _scala(session: SparkSession) -> str:
    """Return the Scala that a session runs on, as packages are named after it: 2.13."""
    jvm = session.sparkContext._jvm
    assert jvm is not None
    return ".".join(str(jvm.scala.util.Properties.versionNumberString()).split(".")[:2])


def folders_above(place: Place) -> Iterator[str]:
    """Return a place and the folders above it, by its own name and by where links lead."""
    for name in _own_names(place):
        system = _system(name)
        path = PurePosixPath(name.removeprefix(system) or "/")
        yield from (f"{system}{folder}" for folder in (path, *path.parents))


def _own_names(place: Place) -> tuple[str, ...]:
    if isinstance(place, Path):
        return tuple(dict.fromkeys((os.path.abspath(place), os.path.realpath(place))))
    return (place.rstrip("/"),)


def _system(folder: str) -> str:
    """Return what stands before the path of an address; nothing of a path of this machine."""
    found = _SYSTEM.match(folder)
    return found[0] if found else ""


def _place(address: str) -> Place:
    """Take an address as Hadoop writes it, with no character escaped."""
    return Path(address[len("file:") :]) if address.startswith("file:/") else address


def _tree_or_none(session: SparkSession, folder: str) -> Tree | None:
    try:
        return HadoopTree(session, folder)
    except OSError:
        return None
