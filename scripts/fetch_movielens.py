#!/usr/bin/env python3
"""Download a MovieLens data set, check it and unpack it.

    scripts/fetch_movielens.py ml-latest-small

The archive comes from GroupLens, its public home, or from a mirror (`--base-url`). It is checked
against the MD5 that stands beside it (`NAME.zip.md5`) or against `--md5`, and unpacked into
`DIR/NAME`, which appears whole or not at all. A download that breaks stays in `DIR/NAME.zip.part`;
the same command goes on from there.

Exit codes: 0 done, or already there; 1 the download failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import fcntl
import hashlib
import http.client
import io
import itertools
import json
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NoReturn, Protocol, TextIO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

PROGRAM = "fetch_movielens"
ROOT = Path(__file__).resolve().parent.parent
BASE_URL = "https://files.grouplens.org/datasets/movielens"
RECORD_NAME = ".fetched.json"
CHUNK = 1 << 15
LONGEST_WAIT = 30
RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

T = TypeVar("T")


class FetchError(Exception):
    """The data set could not be fetched; the message is one line for the user."""

    exit_code = 1


class UsageError(FetchError):
    """What the user asked for cannot be done as asked."""

    exit_code = 2


class TransientError(FetchError):
    """A failure that may go away when the request is made again."""


class ArchiveError(FetchError):
    """The archive is not what it should be: keeping it is of no use."""


class StatusError(FetchError):
    """The server refused a request for good, with the HTTP status `status`."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(
            f"{url}: the server answered {status} {reason}; likely the address is wrong or this "
            "mirror does not hold the file: check --base-url"
        )
        self.status = status


@dataclass(frozen=True)
class Dataset:
    """A MovieLens data set: its name and the two files every user needs from it."""

    name: str
    ratings: str = "ratings.csv"
    notice: str = "README.txt"

    @property
    def archive(self) -> str:
        """Name of the archive on the server."""
        return f"{self.name}.zip"


DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset("ml-latest-small"),
        Dataset("ml-latest"),
        Dataset("ml-25m"),
        Dataset("ml-32m"),
        Dataset("ml-1m", "ratings.dat", "README"),
        Dataset("ml-100k", "u.data", "README"),
    )
}


@dataclass(frozen=True)
class Options:
    """The resolved command line."""

    dataset: Dataset
    output: Path
    base_url: str
    md5: str | None
    force: bool
    timeout: float
    retries: int

    @property
    def url(self) -> str:
        """Address of the archive."""
        return f"{self.base_url}/{self.dataset.archive}"

    @property
    def target(self) -> Path:
        """The folder that the data set is unpacked into."""
        return self.output / self.dataset.name

    @property
    def part(self) -> Path:
        """The file that holds the archive while it arrives."""
        return self.output / f"{self.dataset.archive}.part"


# --- the command line ---------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and an exception."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` instead of printing the usage and leaving."""
        raise UsageError(f"{message} (--help lists the options)")


def dataset_named(text: str) -> Dataset:
    """Return the data set called `text`, or fail with the names there are."""
    if text in DATASETS:
        return DATASETS[text]
    close = difflib.get_close_matches(text, DATASETS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise argparse.ArgumentTypeError(
        f"unknown data set {text!r}; {hint}choose one of {', '.join(DATASETS)}"
    )


def web_address(text: str) -> str:
    """Return `text` without trailing slashes if it is a plain http(s) address."""
    if re.fullmatch(r"https?://[!-~]+", text) and not re.search(r"[@?#]", text):
        with contextlib.suppress(ValueError):
            parts = urlsplit(text)
            if parts.hostname and parts.port != 0:
                return text.rstrip("/")
    raise argparse.ArgumentTypeError(
        f"{text!r} is not the address of a folder that holds the archives; give one like "
        f"{BASE_URL} (http or https, no user name, no query)"
    )


def md5_digest(text: str) -> str:
    """Return `text` in lower case if it is an MD5 in hexadecimal."""
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an MD5: give its 32 hexadecimal digits, as md5sum prints them"
        )
    return text.lower()


def seconds(text: str) -> float:
    """Return `text` as a finite number above zero."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def count(text: str) -> int:
    """Return `text` as an integer that is not negative."""
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def parse_options(argv: Sequence[str] | None) -> Options:
    """Parse the command line; `UsageError` if an argument is missing, unknown or out of range."""
    what = "Download a MovieLens data set, check it and unpack it into DIR/NAME."
    parser = Parser(prog=PROGRAM, description=what, allow_abbrev=False)
    add = parser.add_argument
    add("dataset", metavar="NAME", type=dataset_named, help=", ".join(DATASETS))
    text = "folder to unpack into (default: data/ at the root of the project)"
    add("--output", metavar="DIR", type=Path, default=ROOT / "data", help=text)
    text = "folder that holds NAME.zip and NAME.zip.md5, for a mirror (default: %(default)s)"
    add("--base-url", metavar="URL", type=web_address, default=BASE_URL, help=text)
    text = "MD5 the archive must have; NAME.zip.md5 is then not asked for"
    add("--md5", metavar="HEX", type=md5_digest, help=text)
    text = "fetch again; once the new files are checked they replace DIR/NAME and all that is in it"
    add("--force", action="store_true", help=text)
    text = "give a connection up after this long without a byte (default: %(default)s)"
    add("--timeout", metavar="SECONDS", type=seconds, default=30.0, help=text)
    text = "how often a failed request is made again (default: %(default)s)"
    add("--retries", metavar="N", type=count, default=5, help=text)
    return Options(**vars(parser.parse_args(argv)))


# --- what the user sees -------------------------------------------------------------------------


def say(message: str) -> None:
    """Print a line at once; standard error is left to the bar and the error."""
    print(message, flush=True)


def one_line(value: object) -> str:
    """Return `value` as text without line breaks."""
    return " ".join(str(value).split())


def shown(path: Path) -> str:
    """Return `path` relative to the working directory where it lies below it."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(Path.cwd()) if Path.cwd() in absolute.parents else absolute)


def megabytes(size: int) -> str:
    """Return a size in bytes for a person."""
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.1f} kB"


class Progress(Protocol):
    """What a download reports to."""

    def update(self, n: int, /) -> object:
        """Count `n` more bytes."""

    def close(self) -> None:
        """Finish the display."""


class PlainProgress:
    """A line for each tenth that arrives (each 10 MB if `total` is unknown): logs and pipes."""

    def __init__(self, label: str, total: int | None, initial: int) -> None:
        self._label = label
        self._of = f" of {megabytes(total)}" if total else ""
        self._step = max(total // 10, 1) if total else 10_000_000
        self._done = initial

    def update(self, n: int, /) -> None:
        """Count `n` more bytes and print a line if they complete a step."""
        before, self._done = self._done, self._done + n
        if before // self._step < self._done // self._step:
            say(f"{self._label}: {megabytes(self._done)}{self._of}")

    def close(self) -> None:
        """Do nothing: every line is finished."""


def make_progress(label: str, total: int | None, initial: int, stream: TextIO) -> Progress:
    """Return a bar on `stream` if that is a terminal, else plain lines.

    The script may run before the environment that holds tqdm is set up: plain lines then too.
    """
    with contextlib.suppress(ImportError):
        if stream.isatty():
            from tqdm import tqdm

            bar: Progress = tqdm(
                desc=label, total=total, initial=initial, unit="B", unit_scale=True, file=stream
            )
            return bar
    return PlainProgress(label, total, initial)


# --- requests -----------------------------------------------------------------------------------


def open_url(
    url: str, timeout: float, headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    """Send a GET request.

    Raises
    ------
    StatusError
        The server refuses, and would again.
    TransientError
        The network or the server fails in a way that may pass.
    FetchError
        The server's certificate is not accepted.
    """
    request = Request(url, headers={"User-Agent": f"als_spark {PROGRAM}", **(headers or {})})
    try:
        response: http.client.HTTPResponse = urlopen(request, timeout=timeout)
    except HTTPError as error:
        with error:
            if error.code in RETRYABLE_STATUS:
                raise TransientError(f"{url}: the server answered {error.code}") from None
            raise StatusError(url, error.code, error.reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise network_error(url, error) from error
    return response


def network_error(url: str, error: Exception) -> FetchError:
    """Turn a failure below HTTP into an error of ours: passing, unless about a certificate."""
    cause = error.reason if isinstance(error, URLError) else error
    # ssl is not imported by name: a Python built without it still fetches over http.
    if type(cause).__name__ == "SSLCertVerificationError":
        return FetchError(
            f"{url}: the server's certificate is not accepted ({one_line(cause)}); likely a proxy "
            "that rewrites traffic, or old root certificates: set SSL_CERT_FILE or use a mirror"
        )
    return TransientError(f"{url}: {one_line(cause) or type(cause).__name__}")


def read_chunks(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    """Yield the body of `response` piece by piece; `TransientError` if the connection fails."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise network_error(url, error) from error


def with_retries(action: Callable[[], T], retries: int) -> T:
    """Call `action` until it succeeds, waiting 1, 2, 4, ... seconds after passing failures.

    Raises
    ------
    FetchError
        It failed `retries + 1` times, or in a way that will not pass.
    """
    for attempt in range(retries):
        try:
            return action()
        except TransientError as error:
            wait = min(2**attempt, LONGEST_WAIT)
            say(f"{error}; trying again in {wait} s ({attempt + 1} of {retries})")
            time.sleep(wait)
    try:
        return action()
    except TransientError as error:
        raise FetchError(
            f"{error} (tries: {retries + 1}); likely the network or the server: run the same "
            "command again, it goes on from what has arrived, or raise --retries or --timeout, "
            "or name a mirror with --base-url"
        ) from error


# --- the checksum -------------------------------------------------------------------------------


def parse_md5(text: str, archive: str) -> str | None:
    """Find the MD5 of `archive` in a checksum file.

    Parameters
    ----------
    text : str
        Lines such as ``MD5 (ml-25m.zip) = hex`` (BSD) or ``hex  ml-25m.zip`` (GNU).
    archive : str
        Name of the file that is looked for.

    Returns
    -------
    str or None
        32 hexadecimal digits in lower case; None if no line names the file.
    """
    bsd = re.compile(r"MD5 ?\((?P<name>.+)\) ?= ?(?P<md5>[0-9a-f]{32})", re.IGNORECASE)
    gnu = re.compile(r"(?P<md5>[0-9a-f]{32}) [ *](?P<name>.+)", re.IGNORECASE)
    for line in text.splitlines():
        match = bsd.fullmatch(line.strip()) or gnu.fullmatch(line.strip())
        if match and match["name"].rsplit("/", 1)[-1] == archive:
            return match["md5"].lower()
    return None


def fetch_md5(options: Options) -> str:
    """Fetch the MD5 beside the archive; `FetchError` if there is none, or something else."""
    url = f"{options.url}.md5"
    try:
        with open_url(url, options.timeout) as response:
            content = b"".join(itertools.islice(read_chunks(response, url), 2))
    except StatusError as error:
        raise FetchError(
            f"no checksum at {url} (the server answered {error.status}); likely a wrong --base-url "
            "or a mirror without checksums: check the address, or pin one with --md5 HEX"
        ) from None
    text = content.decode("utf-8", errors="replace")
    found = parse_md5(text, options.dataset.archive)
    if found is None:
        raise FetchError(
            f"{url} holds no MD5 of {options.dataset.archive}, it begins with {text[:60]!r}; "
            "likely a log-in page or another file in its place: check --base-url, or pin one with "
            "--md5 HEX"
        )
    return found


# --- the part file ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """Which version of the archive a part file comes from.

    Attributes
    ----------
    etag, last_modified : str or None
        The response's validators, kept as sent.
    size : int or None
        Bytes of the whole archive.
    """

    etag: str | None
    last_modified: str | None
    size: int | None

    @classmethod
    def of(cls, response: http.client.HTTPResponse) -> Origin:
        """Read the headers of a response that carries the whole archive."""
        headers = response.headers
        length = headers.get("Content-Length", "")
        size = int(length) if re.fullmatch(r"[0-9]+", length) else None
        return cls(headers.get("ETag"), headers.get("Last-Modified"), size)

    @classmethod
    def load(cls, note: Path) -> Origin:
        """Read the note beside a part file; nothing is known if it cannot be trusted."""
        try:
            origin = cls(**json.loads(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return UNKNOWN
        texts = all(isinstance(text, str | None) for text in (origin.etag, origin.last_modified))
        return origin if texts and isinstance(origin.size, int | None) else UNKNOWN

    @property
    def validator(self) -> str | None:
        """What If-Range may carry (RFC 9110, 13.1.5): never a weak entity tag."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


UNKNOWN = Origin(None, None, None)


class PartFile:
    """An archive that is arriving, and the note of which version of it that is.

    Everything goes through one open file: it also carries the lock that keeps a second run out.

    Parameters
    ----------
    path : Path
        Where the file stands; its note stands beside.
    handle : io.BufferedRandom
        The same file, open for reading and appending.
    """

    def __init__(self, path: Path, handle: io.BufferedRandom) -> None:
        self.path = path
        self.handle = handle
        self.origin = Origin.load(note_of(path))

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.handle.seek(0, os.SEEK_END)

    @property
    def missing(self) -> int | None:
        """Bytes still to come (negative: too many are here); None if that is not known."""
        return None if self.origin.size is None else self.origin.size - self.size

    def begin(self, origin: Origin) -> None:
        """Empty the file and note which version is about to arrive."""
        self.discard()
        note_of(self.path).write_text(json.dumps(asdict(origin)), encoding="utf-8")
        self.origin = origin

    def discard(self) -> None:
        """Empty the file and forget where it came from."""
        self.handle.seek(0)
        self.handle.truncate()
        note_of(self.path).unlink(missing_ok=True)
        self.origin = UNKNOWN

    def md5(self) -> str:
        """Return the MD5 of what has arrived."""
        self.handle.seek(0)
        digest = hashlib.file_digest(self.handle, lambda: hashlib.md5(usedforsecurity=False))
        return digest.hexdigest()


def note_of(part: Path) -> Path:
    """Return the path of the note beside a part file."""
    return part.with_name(f"{part.name}.json")


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[PartFile]:
    """Open and lock the part file at `path`; if it is empty at the end, remove it.

    Raises
    ------
    UsageError
        The file cannot be opened, or another run is writing it.
    """
    try:
        handle = path.open("a+b")
    except OSError as error:
        raise UsageError(unusable(path.parent, error)) from error
    with handle:
        lock(handle, path)
        part = PartFile(path, handle)
        try:
            yield part
        finally:
            if part.size == 0:
                part.discard()
                path.unlink(missing_ok=True)


def lock(handle: io.BufferedRandom, path: Path) -> None:
    """Keep other runs away from `handle` until it is closed; `UsageError` if one holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"{shown(path)} is being written by another {PROGRAM}: wait until that one is done, or "
            "name another --output"
        ) from None
    except OSError:
        pass  # Some network file systems have no locks; the checksum still holds.


# --- the download -------------------------------------------------------------------------------


def obtain(options: Options, part: PartFile) -> str:
    """Bring the whole archive into `part`, check it and return its MD5.

    Raises
    ------
    FetchError
        The archive cannot be had, or its checksum is wrong even when fetched from the start.
    """
    for last in (False, True):
        expected = options.md5 or with_retries(lambda: fetch_md5(options), options.retries)
        with_retries(lambda: download(options, part), options.retries)
        found = part.md5()
        if found == expected:
            return found
        part.discard()
        if not last:
            say(f"{options.dataset.archive}: MD5 {found}, expected {expected}; starting again")
    pinned = ", or a --md5 of another version" if options.md5 else ""
    raise FetchError(
        f"checksum of {options.url} is wrong twice: MD5 {found}, expected {expected}; likely a "
        f"damaged copy on the server or a proxy that answers in its place{pinned}: try later, or "
        "name a mirror with --base-url"
    )


def download(options: Options, part: PartFile) -> None:
    """Fetch what `part` still lacks.

    Raises
    ------
    TransientError
        The body ended early, or the connection failed; `part` keeps what arrived.
    FetchError
        The server refuses, or the disk has no room.
    """
    if part.missing == 0:
        say(f"{shown(part.path)}: all {megabytes(part.size)} are here already")
        return
    with open_archive(options, part) as response:
        require_space(options.output, part.missing or 0, options.dataset.archive)
        receive(response, options, part)
    if part.missing:
        raise TransientError(
            f"{options.url}: the connection ended after {part.size} of {part.origin.size} bytes"
        )


def open_archive(options: Options, part: PartFile) -> http.client.HTTPResponse:
    """Ask for the rest of the archive, or for all of it; `part` is ready for the body after."""
    response = ask_rest(options, part)
    if response is None:
        response = open_url(options.url, options.timeout)
        part.begin(Origin.of(response))
        say(f"downloading {options.url}")
    return response


def ask_rest(options: Options, part: PartFile) -> http.client.HTTPResponse | None:
    """Ask for what `part` lacks, provided that the archive has not changed.

    Returns
    -------
    http.client.HTTPResponse or None
        The rest, or the whole archive (`part` is empty then). None if `part` holds nothing to go
        on from, or the answer is of no use.
    """
    offset, validator = part.size, part.origin.validator
    if offset == 0 or validator is None or (part.missing or 0) < 0:
        return None
    headers = {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        response = open_url(options.url, options.timeout, headers)
    except StatusError as error:
        if error.status != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        say(f"{shown(part.path)}: the server has nothing after byte {offset}; starting again")
        return None
    if response.status == http.client.PARTIAL_CONTENT and continues(response, part):
        say(f"{shown(part.path)}: going on after {megabytes(offset)}")
        return response
    say(
        f"{shown(part.path)}: the server does not go on at byte {offset} (the archive has changed, "
        "or it serves no ranges); starting again"
    )
    if response.status == http.client.OK:
        part.begin(Origin.of(response))
        return response
    response.close()
    return None


def continues(response: http.client.HTTPResponse, part: PartFile) -> bool:
    """Tell whether a partial response is the rest of what `part` holds."""
    match = re.fullmatch(
        r"bytes (?P<start>[0-9]+)-[0-9]+/(?P<total>[0-9]+|\*)",
        response.headers.get("Content-Range", "").strip(),
    )
    if match is None or int(match["start"]) != part.size:
        return False
    if match["total"] != "*" and part.origin.size not in (None, int(match["total"])):
        return False
    return bool(response.headers.get("ETag", part.origin.etag) == part.origin.etag)


def receive(response: http.client.HTTPResponse, options: Options, part: PartFile) -> None:
    """Append the body of `response` to `part`, showing progress."""
    progress = make_progress(options.dataset.archive, part.origin.size, part.size, sys.stderr)
    try:
        for chunk in read_chunks(response, options.url):
            part.handle.write(chunk)
            progress.update(len(chunk))
    finally:
        progress.close()


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise `FetchError` if `folder` has fewer than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(
            f"{shown(folder)} has {megabytes(free)} free, {what} needs {megabytes(needed)} more: "
            "free some space or name another --output"
        )


# --- unpacking ----------------------------------------------------------------------------------


def install(options: Options, part: PartFile, md5: str) -> None:
    """Unpack `part` beside the target folder and move it into place.

    Raises
    ------
    ArchiveError
        The archive is damaged, unsafe or lacks the ratings; `part` is emptied.
    FetchError
        The disk has no room.
    """
    prefix = f".{options.dataset.name}.unpack-"
    for left in options.output.glob(f"{prefix}*"):  # from a run that was killed: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=options.output, ignore_cleanup_errors=True
    ) as scratch:
        folder = Path(scratch, "new")
        folder.mkdir()
        try:
            sizes = unpack(part.handle, options, folder)
        except ArchiveError:
            part.discard()
            raise
        record = json.dumps({"url": options.url, "md5": md5, "files": sizes}, indent=2)
        write_synced(folder / RECORD_NAME, io.BytesIO(record.encode()))
        for parent, _, _ in os.walk(folder):
            sync_folder(parent)
        move_into_place(folder, options.target, aside=Path(scratch, "old"))
        sync_folder(options.output)
    part.discard()


def unpack(archive: io.BufferedRandom, options: Options, folder: Path) -> dict[str, int]:
    """Unpack what `archive` holds below the data set's name into `folder`.

    Returns
    -------
    dict of str to int
        The size in bytes of every file, by its path relative to `folder`.

    Raises
    ------
    ArchiveError
        The archive is damaged, has an unsafe member, or lacks the ratings or the notice.
    FetchError
        The disk has no room.
    """
    dataset = options.dataset
    try:
        with zipfile.ZipFile(archive) as source:
            members = wanted_members(source.infolist(), dataset)
            sizes = {path: info.file_size for path, info in members.items()}
            require_space(options.output, sum(sizes.values()), f"unpacking {dataset.archive}")
            say(f"unpacking {dataset.archive} ({megabytes(sum(sizes.values()))})")
            for path, info in members.items():
                with source.open(info) as content:
                    write_synced(folder / path, content)
    # RuntimeError: encrypted, or a compression that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ArchiveError(
            f"{dataset.archive} has the right checksum but cannot be unpacked ({one_line(error)}); "
            "likely the copy on the server is no plain zip file: name another --base-url"
        ) from error
    return sizes


def wanted_members(
    members: Sequence[zipfile.ZipInfo], dataset: Dataset
) -> dict[str, zipfile.ZipInfo]:
    """Map the paths of the data set's files, relative to its folder, to the archive's members.

    Raises
    ------
    ArchiveError
        A member would land outside the folder, or a file that every user needs is missing.
    """
    wanted = {}
    for info in members:
        check_member(info.filename, dataset)
        top, _, path = info.filename.partition("/")
        if top == dataset.name and path and not info.is_dir():
            wanted[path] = info
    for path in (dataset.ratings, dataset.notice):
        if path not in wanted or wanted[path].file_size == 0:
            raise ArchiveError(
                f"{dataset.archive} holds no {dataset.name}/{path}, or an empty one; likely it is "
                "another archive under that name: name another --base-url"
            )
    return wanted


def check_member(name: str, dataset: Dataset) -> None:
    """Raise `ArchiveError` unless `name` is a plain relative path."""
    pieces = name.removesuffix("/").split("/")
    if "\\" in name or ":" in pieces[0] or any(piece in ("", ".", "..") for piece in pieces):
        raise ArchiveError(
            f"{dataset.archive} holds the unsafe path {name!r}, nothing was unpacked; likely the "
            "archive was tampered with: name another --base-url"
        )


def write_synced(path: Path, content: IO[bytes]) -> None:
    """Write `content` to `path` and force it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: str | Path) -> None:
    """Force the entries of a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_into_place(folder: Path, target: Path, aside: Path) -> None:
    """Rename `folder` to `target`; what is there goes to `aside`, and back if that fails."""
    replaces = os.path.lexists(target)
    if replaces:
        target.rename(aside)
    try:
        folder.rename(target)
    except BaseException:
        if replaces:
            aside.rename(target)
        raise


# --- what is there already ----------------------------------------------------------------------


def already_there(options: Options) -> bool:
    """Tell whether the data set is there, complete, and not to be fetched again.

    Raises
    ------
    UsageError
        Something is in the way that must not be replaced unasked.
    """
    target = options.target
    if not target.exists():
        return False
    if not target.is_dir():
        raise UsageError(
            f"{shown(target)} is a file, not a folder: move it away or name another --output"
        )
    if options.force:
        return False
    record = load_record(target / RECORD_NAME)
    flaw = find_flaw(options, record)
    if flaw is not None:
        raise UsageError(
            f"{shown(target)} exists but {flaw}: move it away, or replace it with --force"
        )
    checked = "complete" if record else "ratings and notice found, unpacked by something else"
    say(f"{shown(target)} is already there ({checked}); nothing to do, --force fetches it again")
    return True


def find_flaw(options: Options, record: Mapping[str, object]) -> str | None:
    """Return what is wrong with the folder that is there; None if it will do."""
    if options.md5 and record and record["md5"] != options.md5:
        return f"comes from an archive with MD5 {record['md5']}, not {options.md5}"
    for needed in (options.dataset.ratings, options.dataset.notice):
        if not size_of(options.target / needed):
            return f"has no {needed}, or an empty one"
    files = record.get("files")
    for name, size in files.items() if isinstance(files, dict) else ():
        found = size_of(options.target / name)
        if found != size:
            return f"its {name} is {'gone' if found is None else f'{found} bytes, not {size}'}"
    return None


def size_of(path: Path) -> int | None:
    """Return the size of a file in bytes, None if there is no such file."""
    return path.stat().st_size if path.is_file() else None


def load_record(path: Path) -> Mapping[str, object]:
    """Read what `install` noted in the folder; empty if there is no such note."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "md5" in record else {}


def unusable(folder: Path, error: OSError) -> str:
    """Return the message for an output folder that cannot be used."""
    return (
        f"--output {shown(folder)} cannot be used ({error.strerror or error}); likely part of the "
        "path is a file, or you may not write there: name a folder you can write to"
    )


# --- the program --------------------------------------------------------------------------------


def fetch(options: Options) -> None:
    """Fetch, check and unpack the data set unless it is there already."""
    try:
        if already_there(options):
            return
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(unusable(options.output, error)) from error
    with open_part(options.part) as part:
        install(options, part, obtain(options, part))


def report(options: Options) -> None:
    """Print where the files are and what to run next."""
    ratings = shown(options.target / options.dataset.ratings)
    results = shown(ROOT / "results" / options.dataset.name)
    sweep = shown(ROOT / "scripts" / "sweep.sh")
    say(f"ratings: {ratings}")
    say(f"licence: {shown(options.target / options.dataset.notice)} (terms of use, citation)")
    say(f"next:    {shlex.join([sweep, '--ratings', ratings, '--output', results])}")


def fail(message: str, code: int) -> int:
    """Print the one line of an error and return its exit code."""
    print(f"{PROGRAM}: error: {one_line(message)}", file=sys.stderr, flush=True)
    return code


def interrupted(part: Path) -> int:
    """Say what an interruption leaves behind and return its exit code."""
    kept, origin = size_of(part), Origin.load(note_of(part))
    if kept and (origin.validator or origin.size == kept):
        state = f"{shown(part)} keeps {megabytes(kept)}, the same command goes on from there"
    else:
        state = "nothing is left to go on from, the same command starts anew"
    print(f"{PROGRAM}: interrupted; {state}", file=sys.stderr, flush=True)
    return 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line without the program's name; `sys.argv` by default.

    Returns
    -------
    int
        0 done, or already there; 1 the download failed; 2 wrong usage; 130 interrupted.
    """
    try:
        options = parse_options(argv)
    except UsageError as error:
        return fail(str(error), error.exit_code)
    try:
        fetch(options)
    except KeyboardInterrupt:
        return interrupted(options.part)
    except FetchError as error:
        return fail(str(error), error.exit_code)
    except OSError as error:
        return fail(
            f"{shown(Path(error.filename or options.output))} cannot be written "
            f"({error.strerror or error}); likely the disk is full or failing: free some space or "
            "name another --output, the same command goes on from what has arrived",
            FetchError.exit_code,
        )
    report(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
