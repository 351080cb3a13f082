"""Tables that have versions, Delta Lake's and Iceberg's: one version of them is read.

A write that ends while a job runs makes a new version, and the job goes on with the one that it has
begun with, and notes in its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import ParseException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.spark.hadoop import HadoopTree
from als_spark.spark.read.facts import TableVersion
from als_spark.spark.read.heads import Listing, list_files, unmistakable
from als_spark.spark.read.names import quoted
from als_spark.spark.read.options import SourceOptions
from als_spark.spark.read.table_folders import FoundTable, TableFinder, refusal

_NO_READER = (
    "DATA_SOURCE_NOT_FOUND",
    "Failed to find the data source",
    "Failed to find data source",
    "DELTA_CONFIGURE_SPARK_SESSION",
)
"""How Spark and Delta Lake say that a session lacks Delta's reader, or half of it."""
_DETAILS = "# Detailed Table Information"


class Table(NamedTuple):
    """A table as it is read; its version, where it has one."""

    frame: DataFrame
    version: TableVersion | None = None

    @property
    def format(self) -> str:
        """Say what it is, as :class:`als_spark.spark.read.sources.Source` does of files."""
        return "" if self.version is None else str(self.version)


class SourceFolder:
    """What is at the path of a source: a table, or files that lie in none."""

    def __init__(self, session: SparkSession, options: SourceOptions) -> None:
        assert options.path is not None
        self._session = session
        self._options = options
        self._path = options.path
        self._finder = TableFinder(session)

    def table(self) -> Table | None:
        """Read the Delta table that the path is the folder of; None if it leads to no table.

        Raises
        ------
        DataError
            If the path is, or lies in, a table that cannot be read by its path, with the remedy.
        """
        at = self._finder.at(self._path)
        if at is None:
            if self._options.format == "delta":
                raise DataError(
                    f"{self._options.label}: is no Delta table, which has a folder _delta_log: "
                    "check the path and `format=`"
                )
            return None
        found, whole = at
        if not whole:
            raise self._refusal(found, "lies in")
        if found.kind != "Delta" or self._options.format not in ("auto", "delta"):
            raise self._refusal(found, "is")
        try:
            return read_delta(self._session, self._path, self._options.label)
        except (PySparkException, Py4JJavaError) as error:
            if isinstance(error, ParseException) or any(word in str(error) for word in _NO_READER):
                raise self._refusal(found, "is") from error
            raise

    def files(self) -> Listing:
        """List the files at the path.

        Raises
        ------
        DataError
            If one of them lies in a table further down.
        """
        listing = list_files(self._session, self._path)
        found = self._finder.above(listing.files)
        if found is not None:
            raise self._refusal(found, "holds files of")
        return listing

    def _refusal(self, found: FoundTable, where: str) -> DataError:
        return refusal(self._session, self._options, found, where)


def read_delta(session: SparkSession, path: str, label: str) -> Table:
    """Read the newest version of the Delta table in a folder, whatever is written meanwhile."""
    # The name of a table holds the whole path.
    path = HadoopTree(session, unmistakable(path)).resolved(unmistakable(path))
    reader = session.read.format("delta")
    # Without Delta's reader, or a table, this fails.
    reader.load(path)
    version = _delta_version(session, f"delta.{quoted(path)}", label)
    return Table(reader.option("versionAsOf", version.version).load(path), version)


def read_named(session: SparkSession, name: str, label: str) -> Table:
    """Read a table or a view of the session's catalogs.

    Of Delta Lake's and Iceberg's tables the newest version is read, whatever is written meanwhile;
    of other ones what there is when it is read.
    """
    frame = session.table(name)
    details = _details(session, name)
    provider, version = details.get("Provider", "").lower(), None
    if provider == "delta":
        version = _delta_version(session, name, label)
    elif provider == "iceberg":
        version = _iceberg_version(session, [name, details.get("Name", name)], label)
    if version is None:
        return Table(frame)
    return Table(session.sql(f"SELECT * FROM {name} VERSION AS OF {version.version}"), version)


def _details(session: SparkSession, name: str) -> Mapping[str, str]:
    """Return what the catalog says of a table; nothing of a temporary view."""
    try:
        rows = session.sql(f"DESCRIBE TABLE EXTENDED {name}").collect()
    except (PySparkException, Py4JJavaError):
        return {}
    titles = [row.col_name for row in rows]
    if _DETAILS not in titles:
        return {}
    return {row.col_name: row.data_type for row in rows[titles.index(_DETAILS) :]}


def _delta_version(session: SparkSession, name: str, label: str) -> TableVersion:
    history = session.sql(f"DESCRIBE HISTORY {name} LIMIT 1")
    (row,) = history.select("version", "timestamp").collect()
    return TableVersion(label, "Delta", str(row.version), _moment(row.timestamp))


def _iceberg_version(session: SparkSession, names: list[str], label: str) -> TableVersion | None:
    """Return the newest snapshot of the main branch; None if there is none yet.

    Which of the names a catalog takes before that of a table of metadata depends on the catalog.
    """
    for last, name in zip((False, True), names, strict=True):
        main = f"SELECT snapshot_id FROM {name}.refs WHERE name = 'main'"
        query = (
            f"SELECT snapshot_id, committed_at FROM {name}.snapshots WHERE snapshot_id IN ({main})"
        )
        try:
            rows = session.sql(query).collect()
        except PySparkException:
            if last:
                # A branch or a snapshot that is named is no newest version.
                return None
            continue
        if not rows:
            return None
        (row,) = rows
        return TableVersion(label, "Iceberg", str(row.snapshot_id), _moment(row.committed_at))
    return None


def _moment(local: datetime) -> str:
    """Write a time of Spark's, which has this machine's zone, in UTC."""
    return local.astimezone(UTC).isoformat(timespec="seconds")
