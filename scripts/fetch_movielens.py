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
import hashlib
import os
import re
import shlex
import shutil
import ssl
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

PROGRAM = "fetch_movielens"
ROOT = Path(__file__).resolve().parent.parent
BASE_URL = "https://files.grouplens.org/datasets/movielens"
ADDRESS = r"(?a)https?://([\w.-]+|\[[\da-fA-F:]+\])(:\d+)?(/[\w./~%+,=-]*)?"
BAD_ADDRESS = (
    "{!r} is not the address of a folder that holds the archives; give one like "
    f"{BASE_URL} (http or https, no user name, no query)"
)
RECORD_NAME = ".fetched.md5"  # in the unpacked folder: the MD5 of the archive it comes from
CHUNK = 1 << 15
LONGEST_WAIT = 30
RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

# The two files of each data set that every user needs: the ratings, and the terms of use.
DATASETS: Mapping[str, tuple[str, str]] = {
    "ml-latest-small": ("ratings.csv", "README.txt"),
    "ml-latest": ("ratings.csv", "README.txt"),
    "ml-25m": ("ratings.csv", "README.txt"),
    "ml-32m": ("ratings.csv", "README.txt"),
    "ml-1m": ("ratings.dat", "README"),
    "ml-100k": ("u.data", "README"),
}

T = TypeVar("T")
Options = argparse.Namespace


class FetchError(Exception):
    """The data set could not be fetched; the message is one line for the user."""

    def __init__(self, message: str, *, exit_code: int = 1, status: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.status = status  # of the server's answer, if it refused


class TransientError(FetchError):
    """A failure that may go away when the request is made again."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with the message alone, without the usage."""
        self.exit(2, f"{PROGRAM}: error: {message} (--help lists the options)\n")


def matching(pattern: str, problem: str, convert: Callable[[str], T]) -> Callable[[str], T]:
    """Return an argument type: text that matches all of `pattern`, converted; else `problem`."""

    def parse(text: str) -> T:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(problem.format(text))
        return convert(text)

    return parse


def parse_options(argv: Sequence[str] | None) -> Options:
    """Parse the command line; `SystemExit` if an argument is missing, unknown or out of range."""
    what = "Download a MovieLens data set, check it and unpack it into DIR/NAME."
    parser = Parser(prog=PROGRAM, description=what, allow_abbrev=False)
    add, names = parser.add_argument, ", ".join(DATASETS)
    dataset = matching("|".join(DATASETS), f"unknown data set {{!r}}; choose one of {names}", str)
    add("dataset", metavar="NAME", type=dataset, help=names)
    text = "folder to unpack into (default: data/ at the root of the project)"
    add("--output", metavar="DIR", type=Path, default=ROOT / "data", help=text)
    text = "folder that holds NAME.zip and NAME.zip.md5, for a mirror (default: %(default)s)"
    address = matching(ADDRESS, BAD_ADDRESS, str)
    add("--base-url", metavar="URL", type=address, default=BASE_URL, help=text)
    text = "MD5 the archive must have; NAME.zip.md5 is then not asked for"
    problem = "{!r} is not an MD5: give its 32 hexadecimal digits, as md5sum prints them"
    md5 = matching("[0-9a-fA-F]{32}", problem, str.lower)
    add("--md5", metavar="HEX", type=md5, help=text)
    text = "fetch again; once the new files are checked they replace DIR/NAME and all that is in it"
    add("--force", action="store_true", help=text)
    text = "give a connection up after this long without a byte (default: %(default)s)"
    problem = "{!r} is not a number of seconds above 0"
    above_0 = matching(r"(?=.*[1-9])[0-9]{0,6}(\.[0-9]+)?", problem, float)
    add("--timeout", metavar="SECONDS", type=above_0, default=30.0, help=text)
    text = "how often a failed request is made again (default: %(default)s)"
    count = matching("[0-9]{1,6}", "{!r} is not a whole number, 0 or more", int)
    add("--retries", metavar="N", type=count, default=5, help=text)
    options = parser.parse_args(argv)
    options.archive = f"{options.dataset}.zip"  # its name on the server
    options.url = f"{options.base_url.rstrip('/')}/{options.archive}"
    options.target = options.output / options.dataset  # the folder that it is unpacked into
    options.part = options.output / f"{options.archive}.part"  # holds it while it arrives
    options.validator = options.output / f"{options.archive}.part.validator"  # for If-Range
    return options


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


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is no such file."""
    return path.stat().st_size if path.is_file() else 0


def text_of(path: Path) -> str:
    """Return what a small file says, nothing if there is no such file."""
    return path.read_text(encoding="latin-1") if path.is_file() else ""


def with_bar(file: BinaryIO, **bar: Any) -> contextlib.AbstractContextManager[BinaryIO]:
    """Wrap `file` so that writing to it moves a bar, where standard error is a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:  # This script may come before the environment: no bar then.
        return contextlib.nullcontext(file)
    look = {"bytes": False, "unit": "B", "unit_scale": True, "disable": None}
    return tqdm.wrapattr(file, "write", **look, **bar)


def open_url(url: str, timeout: float, **headers: str) -> HTTPResponse:
    """Send a GET request; `FetchError` if it is refused, `TransientError` if that may pass."""
    request = Request(url, headers={"User-Agent": f"als_spark {PROGRAM}", **headers})
    try:
        return urlopen(request, timeout=timeout)
    except HTTPError as error:
        with error:
            if error.code in RETRYABLE_STATUS:
                raise TransientError(f"{url}: the server answered {error.code}") from None
            raise FetchError(
                f"{url}: the server answered {error.code} {error.reason}; likely the address is "
                "wrong or this mirror does not hold the file: check --base-url",
                status=error.code,
            ) from None
    except (OSError, HTTPException) as error:
        raise network_error(url, error) from error


def network_error(url: str, error: Exception) -> FetchError:
    """Turn a failure below HTTP into an error of ours: passing, unless about a certificate."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return FetchError(
            f"{url}: the server's certificate is not accepted ({one_line(cause)}); likely a proxy "
            "that rewrites traffic, or old root certificates: set SSL_CERT_FILE or use a mirror"
        )
    return TransientError(f"{url}: {one_line(cause) or type(cause).__name__}")


def read_chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    """Yield the body of `response` piece by piece; `TransientError` if the connection fails."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise network_error(url, error) from error


def with_retries(action: Callable[[Options], T], options: Options) -> T:
    """Call `action` until it succeeds, waiting 1, 2, 4, ... seconds after passing failures."""
    attempt = 0
    while True:
        try:
            return action(options)
        except TransientError as error:
            if attempt == options.retries:
                raise FetchError(
                    f"{error} (tries: {attempt + 1}); likely the network or the server: run the "
                    "same command again, it goes on from what has arrived, or raise --retries or "
                    "--timeout, or name a mirror with --base-url"
                ) from error
            wait = min(2**attempt, LONGEST_WAIT)
            say(f"{error}; trying again in {wait} s ({attempt + 1} of {options.retries})")
            time.sleep(wait)
            attempt += 1


def parse_md5(text: str, archive: str) -> str | None:
    """Find the MD5 of `archive` in lines like `MD5 (NAME.zip) = hex` or `hex  NAME.zip`."""
    md5, name = "[0-9a-f]{32}", rf"(?:.*/)?{re.escape(archive)}"
    line = rf"\s*(?:MD5 ?\({name}\) ?= ?(?P<bsd>{md5})|(?P<gnu>{md5}) [ *]{name})\s*"
    for candidate in text.splitlines():
        if match := re.fullmatch(line, candidate, re.IGNORECASE):
            return str(match["bsd"] or match["gnu"]).lower()
    return None


def fetch_md5(options: Options) -> str:
    """Fetch the MD5 beside the archive; `FetchError` if there is none, or something else."""
    url = f"{options.url}.md5"
    try:
        with open_url(url, options.timeout) as response:
            content = next(read_chunks(response, url), b"")
    except FetchError as error:
        if error.status is None:
            raise
        raise FetchError(
            f"no checksum at {url} (the server answered {error.status}); likely a wrong --base-url "
            "or a mirror without checksums: check the address, or pin one with --md5 HEX"
        ) from None
    text = content.decode("utf-8", errors="replace")
    found = parse_md5(text, options.archive)
    if found is None:
        raise FetchError(
            f"{url} holds no MD5 of {options.archive}, it begins with {text[:60]!r}; likely a "
            "log-in page or another file in its place: check --base-url, or pin one with --md5 HEX"
        )
    return found


def obtain(options: Options) -> str:
    """Bring the archive into the part file and return its MD5; a wrong one costs one restart."""
    for last in (False, True):
        expected = options.md5 or with_retries(fetch_md5, options)
        with_retries(download, options)
        with options.part.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if (found := digest.hexdigest()) == expected:
            return found
        discard(options)
        if not last:
            say(f"{options.archive}: MD5 {found}, expected {expected}; starting again")
    pinned = ", or a --md5 of another version" if options.md5 else ""
    raise FetchError(
        f"checksum of {options.url} is wrong twice: MD5 {found}, expected {expected}; likely a "
        f"damaged copy on the server or a proxy that answers in its place{pinned}: try later, or "
        "name a mirror with --base-url"
    )


def download(options: Options) -> None:
    """Fetch what the part file lacks, or everything if the server does not go on from there."""
    part, kept, validator = options.part, size_of(options.part), text_of(options.validator)
    ranged = {"Range": f"bytes={kept}-", "If-Range": validator} if kept and validator else {}
    try:
        response = open_url(options.url, options.timeout, **ranged)
    except FetchError as error:
        if not ranged or error.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # Nothing comes after the last byte. Were that not the whole archive, the MD5 would tell.
        say(f"{shown(part)}: all {megabytes(kept)} are here already")
        return
    with response:
        if ranged and response.status == HTTPStatus.PARTIAL_CONTENT:
            say(f"{shown(part)}: going on after {megabytes(kept)}")
        else:
            say(
                f"{shown(part)}: the server does not go on at byte {kept} (the archive has "
                "changed, or it serves no ranges); starting again"
                if ranged
                else f"downloading {options.url}"
            )
            discard(options)
            # What If-Range may carry (RFC 9110, 13.1.5): never a weak entity tag.
            etag, modified = (response.headers.get(key, "") for key in ("ETag", "Last-Modified"))
            found = modified if etag.startswith("W/") else etag or modified
            options.validator.write_text(one_line(found), encoding="latin-1")
            kept = 0
        length = response.headers.get("Content-Length", "")
        total = kept + int(length) if length.isdecimal() else None
        with (
            part.open("ab") as file,
            with_bar(file, desc=options.archive, total=total, initial=kept) as counted,
        ):
            for chunk in read_chunks(response, options.url):
                counted.write(chunk)
    if total is not None and (size := size_of(part)) < total:
        raise TransientError(f"{options.url}: the connection ended after {size} of {total} bytes")


def discard(options: Options) -> None:
    """Remove the part file and the note that goes with it."""
    options.part.unlink(missing_ok=True)
    options.validator.unlink(missing_ok=True)


def install(options: Options, md5: str) -> None:
    """Unpack the part file beside the target folder and move the result into place."""
    scratch = options.output / f".{options.dataset}.unpack"
    shutil.rmtree(scratch, ignore_errors=True)  # from a run that was killed
    try:
        unpack(options, scratch / "new")
        folder = scratch / "new" / options.dataset
        (folder / RECORD_NAME).write_text(f"{md5}  {options.archive}\n", encoding="latin-1")
        move_into_place(folder, options.target, aside=scratch / "old")
    except FetchError:
        discard(options)  # The archive is not what it should be: keeping it is of no use.
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    discard(options)


def unpack(options: Options, folder: Path) -> None:
    """Unpack the archive into `folder`; `FetchError` if it is not what it should be."""
    try:
        with zipfile.ZipFile(options.part) as source:
            for name in source.namelist():
                pieces = name.removesuffix("/").split("/")
                if "\\" in name or ":" in pieces[0] or not {"", ".", ".."}.isdisjoint(pieces):
                    raise FetchError(
                        f"{options.archive} holds the unsafe path {name!r}, nothing was unpacked; "
                        "likely the archive was tampered with: name another --base-url"
                    )
            size = sum(member.file_size for member in source.infolist())
            say(f"unpacking {options.archive} ({megabytes(size)})")
            source.extractall(folder)
    # RuntimeError: encrypted, or a compression that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise FetchError(
            f"{options.archive} has the right checksum but cannot be unpacked ({one_line(error)}); "
            "likely the copy on the server is no plain zip file: name another --base-url"
        ) from error
    for name in DATASETS[options.dataset]:
        if not size_of(folder / options.dataset / name):
            raise FetchError(
                f"{options.archive} holds no {options.dataset}/{name}, or an empty one; likely it "
                "is another archive under that name: name another --base-url"
            )


def move_into_place(folder: Path, target: Path, aside: Path) -> None:
    """Rename `folder` to `target`; what is there goes to `aside`, and back if that fails."""
    if os.path.lexists(target):
        target.rename(aside)
    try:
        folder.rename(target)
    except BaseException:
        if os.path.lexists(aside):
            aside.rename(target)
        raise


def already_there(options: Options) -> bool:
    """Tell whether there is nothing to fetch; `FetchError` if something is in the way."""
    target = options.target
    if target.exists() and not target.is_dir():
        message = f"{shown(target)} is a file, not a folder: move it away or name another --output"
        raise FetchError(message, exit_code=2)
    if not target.exists() or options.force:
        return False
    flaws = [
        f"has no {name}, or an empty one"
        for name in DATASETS[options.dataset]
        if not size_of(target / name)
    ]
    md5 = parse_md5(text_of(target / RECORD_NAME), options.archive)
    if options.md5 and md5 and md5 != options.md5:
        flaws.append(f"comes from an archive with MD5 {md5}, not {options.md5}")
    if flaws:
        message = f"{shown(target)} exists but {flaws[0]}: move it away, or replace it with --force"
        raise FetchError(message, exit_code=2)
    say(f"{shown(target)} is already there; nothing to do, --force fetches it again")
    return True


def fetch(options: Options) -> None:
    """Fetch, check and unpack the data set unless it is there already."""
    try:
        if already_there(options):
            return
        options.output.mkdir(parents=True, exist_ok=True)
        options.part.touch()
    except OSError as error:
        raise FetchError(
            f"--output {shown(options.output)} cannot be used ({error.strerror}); likely part of "
            "the path is a file, or you may not write there: name a folder you can write to",
            exit_code=2,
        ) from error
    try:
        install(options, obtain(options))
    finally:
        if size_of(options.part) == 0:
            discard(options)


def report(options: Options) -> None:
    """Print where the files are and what to run next."""
    ratings, notice = (shown(options.target / name) for name in DATASETS[options.dataset])
    sweep, results = shown(ROOT / "scripts/sweep.sh"), shown(ROOT / "results" / options.dataset)
    say(f"ratings: {ratings}")
    say(f"licence: {notice} (terms of use, citation)")
    say(f"next:    {shlex.join([sweep, '--ratings', ratings, '--output', results])}")


def fail(message: str, code: int) -> int:
    """Print the one line of an error and return its exit code."""
    print(f"{PROGRAM}: {one_line(message)}", file=sys.stderr, flush=True)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program on a command line, `sys.argv` by default, and return its exit code."""
    options = parse_options(argv)
    try:
        fetch(options)
    except KeyboardInterrupt:
        kept = f"{shown(options.part)} keeps {megabytes(size_of(options.part))}"
        state = "nothing is left to go on from, the same command starts anew"
        if size_of(options.part) and text_of(options.validator):
            state = f"{kept}, the same command goes on from there"
        return fail(f"interrupted; {state}", 130)
    except FetchError as error:
        return fail(f"error: {error}", error.exit_code)
    except OSError as error:
        return fail(
            f"error: {shown(Path(error.filename or options.output))} cannot be written "
            f"({error.strerror or error}); likely the disk is full or failing: free some space or "
            "name another --output, the same command goes on from what has arrived",
            1,
        )
    report(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
