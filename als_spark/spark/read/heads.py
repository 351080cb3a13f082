"""The files of a source, and a look at the beginning of each before Spark reads them.

The beginnings of files of this machine are read as they are. Those of compressed files, and of
other file systems, come through Hadoop's client, which takes them apart as Spark will.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from pyspark.sql import DataFrame, DataFrameReader, SparkSession

from als_spark.errors import DataError
from als_spark.files.places import local_path, split_address, undecodable
from als_spark.spark.hadoop import HadoopTree
from als_spark.spark.read.passed_over import COMPRESSIONS, refuse_passed_over
from als_spark.spark.session import encoding_of_names
from als_spark.types import Format

T = TypeVar("T")

HEAD_BYTES = 2**16
"""Bytes of the beginning of a file that are looked at."""
AT_A_TIME = 16
"""Files of another file system that are opened at a time."""
PATTERN = re.compile(r"[*?\[\]{}\\]")
"""What makes a pattern of a path, to Hadoop."""
_LITERALLY = {"__globPaths__": "false"}
"""Takes paths for what they say."""
_COLONS = {
    # The usual client of this machine puts a checksum file beside each, whose name it cannot make.
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}
_COMPRESSED = re.compile(rf"{COMPRESSIONS}$")

_MAGIC = (
    (b"\x1f\x8b", "compressed by gzip", "let its name end in .gz"),
    (b"BZh", "compressed by bzip2", "let its name end in .bz2"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "let its name end in .zst"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it, or compress it by gzip"),
    (b"PK\x03\x04", "a zip archive, or a workbook", "unpack it, or save its table as csv"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a", "a rar archive", "unpack it"),
    (b"\x1f\x9d", "compressed by compress", "unpack it, or compress it by gzip"),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "unpack it, or compress it by gzip"),
    (b"\xd0\xcf\x11\xe0", "a workbook", "save its table as csv"),
    (b"PAR1", "Parquet", "leave `format=` out"),
    (b"ORC", "ORC", "give csv, JSON or Parquet, or a Spark table with `table=`"),
    (b"Obj\x01", "Avro", "give csv, JSON or Parquet, or a Spark table with `table=`"),
    (b"SQLite format 3", "a database", "export its table as csv"),
    (b"\x89HDF", "HDF5", "export its table as csv"),
    (b"\x93NUMPY", "a NumPy array", "save it as csv"),
)
"""What files that Spark cannot read begin with, what they are, and the remedy."""
_WIDE = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a source, as Spark finds them.

    ``files`` are addresses in which characters are escaped as in any URI, in rising order.
    ``partitions`` are the columns whose values are in the names of folders (``user=7``), and
    ``options`` what a reader has to be told.
    """

    path: str
    files: tuple[str, ...]
    partitions: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)

    def load(
        self, reader: DataFrameReader, kind: str, files: Sequence[str] | None = None
    ) -> DataFrame:
        """Read the source, or some of its files."""
        reader = reader.format(kind).options(**self.options)
        if files is None:
            return reader.load(self.path)
        if self.partitions:
            reader = reader.option("basePath", self._base())
        return reader.options(**_LITERALLY).load([unquote(file) for file in files])

    def _base(self) -> str:
        """Return the folder that those of the partitions are in."""
        folders = [re.split(r"/[^/=]+=[^/]*/", unquote(file))[0] for file in self.files]
        return os.path.commonpath([folder.removeprefix("file:") for folder in folders])


def list_files(session: SparkSession, path: str) -> Listing:
    """List the files of a source; a name that is there wins over what it would mean to Hadoop.

    Raises
    ------
    DataError
        If there is a file that Spark would pass over without a word: by where it lies, by its name,
        or for Java cannot read this.
    """
    encoding = encoding_of_names()
    hidden = undecodable(path, encoding)
    if hidden is not None:
        name = os.fsencode(hidden).decode("utf-8", "backslashreplace")
        remedy = "rename it" if encoding == "UTF-8" else "set LC_ALL=C.UTF-8, or rename it"
        raise DataError(
            f"{name}: Spark cannot see this file, whose name is not of {encoding}, the encoding "
            f"of its locale: {remedy}"
        )
    options: dict[str, str] = {}
    path = unmistakable(path)
    if PATTERN.search(path) and _exists(session, path):
        options |= _LITERALLY
    # This also finds out, without a job, whether the path is there.
    frame = session.read.options(**options).text(path)
    files = tuple(sorted(frame.inputFiles()))
    if options or not PATTERN.search(path):
        refuse_passed_over(session, path, files, frame.columns[1:])
    if any(":" in unquote(split_address(file).path) for file in files if file.startswith("file:")):
        options |= _COLONS
    return Listing(path, files, tuple(frame.columns[1:]), options)


def unmistakable(path: str) -> str:
    """Return a path of this machine so that nothing before a colon is taken for a file system."""
    if ":" in path and split_address(path).authority == "" and os.path.lexists(path):
        return os.path.abspath(path)
    return path


def names_hint(path: str) -> str:
    """Say what the characters of a path mean to Hadoop, if they mean something."""
    hints = []
    if PATTERN.search(path):
        hints.append("* ? [ ] { } and \\ make a pattern of it, unless a file has that very name")
    if ":" in split_address(path).path or re.match(r"[\w.+-]+:(?!/)", path):
        hints.append("what stands before a colon is taken for a file system, unless it follows a /")
    return "".join(f"; {hint}" for hint in hints)


def _exists(session: SparkSession, path: str) -> bool:
    try:
        return HadoopTree(session, path).exists(path)
    except OSError:
        return False


def read_heads(session: SparkSession, files: Sequence[str]) -> list[bytes]:
    """Read the first bytes of each file, unpacked where its name says that it is compressed.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    return each_file(session, files, _local_head, lambda tree, path: tree.head(path, HEAD_BYTES))


def each_file(
    session: SparkSession,
    files: Sequence[str],
    local: Callable[[Path], T],
    remote: Callable[[HadoopTree, str], T],
) -> list[T]:
    """Do something to each file: those of this machine by ``local``, unless it is compressed."""
    trees: dict[tuple[str, str], HadoopTree] = {}

    def work(file: str) -> T:
        path = local_of(file)
        try:
            if path is not None:
                return local(path)
            return remote(trees[split_address(file)[:2]], unquote(file))
        except OSError as error:
            why = error.strerror or re.sub(r"^(\w+\.)+\w+: ", "", str(error))
            raise OSError(f"{shown(file)} ({why})") from error

    for file in files:
        if local_of(file) is None and split_address(file)[:2] not in trees:
            trees[split_address(file)[:2]] = HadoopTree(session, unquote(file))
    if not trees:
        return [work(file) for file in files]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(work, files))


def local_of(file: str) -> Path | None:
    """Return the path of a file that this process can read as it is."""
    path = local_path(file)
    return path if path is not None and not is_compressed(file) and path.is_file() else None


def _local_head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES)


def refuse_unreadable(head: bytes, file: str, encoding: str) -> None:
    """Refuse a file that is no text, or not UTF-16 where it should be, or the reverse.

    By its first bytes; ``encoding`` is a name that Python has.

    Raises
    ------
    DataError
        With what the file is, and the remedy.
    """
    label = shown(file)
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic):
            raise DataError(f"{label}: is {what}, which cannot be read as it is: {remedy}")
    if head[257:262] == b"ustar":
        raise DataError(f"{label}: is a tar archive: unpack it")
    # In UTF-16 half of a line break is zero; in text of another encoding nothing is.
    zeros = b"\0" in head
    wide = (_WIDE.get(head[:2]) or _wide_without_mark(head)) if zeros else None
    if encoding.startswith("utf-16"):
        unmarked = encoding == "utf-16" and wide is None
        if head and (not zeros or unmarked or wide not in (None, encoding)):
            other = wide or ("utf-16-le or utf-16-be" if zeros else "utf-8")
            raise DataError(
                f'{label}: is not of `encoding="{encoding}"`: give that which it is of, such as '
                f"{other}"
            )
    elif wide is not None:
        raise DataError(f'{label}: is of encoding {wide}: give `encoding="{wide}"`')
    elif zeros:
        raise DataError(f"{label}: is no text file: give csv, JSON or Parquet")


def _wide_without_mark(head: bytes) -> str | None:
    """Tell UTF-16 by where its zeros are."""
    for name, zeros, others in (
        ("utf-16-le", head[1::2], head[::2]),
        ("utf-16-be", head[::2], head[1::2]),
    ):
        if zeros.count(0) > 0.4 * len(zeros) and others.count(0) == 0:
            return name
    return None


def likely_encoding(head: bytes) -> str | None:
    """Guess the encoding of text that is not UTF-8; None of text that is."""
    try:
        # What is cut off at the end is at most three bytes.
        head[:-3].decode("utf-8") if len(head) == HEAD_BYTES else head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head) - 3 or len(head) < HEAD_BYTES:
            return "windows-1252"
    return None


def shown(file: str) -> str:
    """Write an address as its owner would: a path of this machine as a path."""
    path = local_path(file)
    return unquote(file) if path is None else str(path)


def format_by_name(name: str) -> Format:
    """Tell the format of a file by its name; ``auto`` where that does not tell."""
    stem = without_compression(name)
    if stem.endswith((".parquet", ".pq")):
        return "parquet"
    if stem.endswith((".json", ".jsonl", ".ndjson")):
        return "json"
    return "auto"


def is_compressed(name: str) -> bool:
    """Tell by the name of a file whether Spark unpacks it."""
    return without_compression(name) != name.lower()


def without_compression(name: str) -> str:
    """Take the ending of a compression off the name of a file; in lower case."""
    return _COMPRESSED.sub("", name.lower())


@contextmanager
def settings(session: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """Set what a session is told, for the duration of the block."""
    before = {key: session.conf.get(key, None) for key in values}
    try:
        for key, value in values.items():
            session.conf.set(key, value)
        yield
    finally:
        for key, old in before.items():
            if old is None:
                session.conf.unset(key)
            else:
                session.conf.set(key, old)
