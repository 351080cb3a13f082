"""Download a MovieLens data set, check it and unpack it; scripts/fetch_movielens.py starts this.

The archive comes from GroupLens, its public home, or from a mirror (`--base-url`). It is checked
against the MD5 that stands beside it (`NAME.zip.md5`) or against `--md5`, and unpacked into
`DIR/NAME`, which appears whole or not at all. A download that breaks stays in `DIR/.NAME.fetch`;
the same command goes on from there. A folder with anything in it that this program did not write
is never replaced.

Exit codes: 0 done, or already there; 2 wrong usage, or the network, the server or the disk refuses
(one line); 130 interrupted; 1 anything else.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pooch
import requests
from tqdm import tqdm

PROGRAM = "fetch_movielens"
ROOT = Path(__file__).resolve().parents[2]
BASE_URL = "https://files.grouplens.org/datasets/movielens"
ADDRESS = r"(?a)https?://([\w.-]+|\[[\da-fA-F:]+\])(:\d+)?(/[\w./~%+,=-]*)?"
RECORD = ".fetched.json"  # in the unpacked folder: the MD5 of the archive, and what was unpacked
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # answers that another try may change

# The two files of each data set that every user needs: the ratings, and the terms of use.
CSV, DAT, TAB = ("ratings.csv", "README.txt"), ("ratings.dat", "README"), ("u.data", "README")
DATASETS = {"ml-latest-small": CSV, "ml-latest": CSV, "ml-25m": CSV, "ml-32m": CSV}
DATASETS |= {"ml-1m": DAT, "ml-100k": TAB}


Options = argparse.Namespace


class FetchError(Exception):
    """The data set could not be fetched; the message is one line for the user."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with the message alone, without the usage."""
        self.exit(2, f"{PROGRAM}: error: {message} (--help lists the options)\n")


def matching(pattern: str, wanted: str, convert: Callable[[str], Any] = str) -> Any:
    """Return an argument type: text that matches all of `pattern`, converted."""

    def parse(text: str) -> Any:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return convert(text)

    return parse


def parse_options(argv: list[str] | None) -> Options:
    """Parse the command line; `SystemExit` if an argument is missing, unknown or out of range."""
    what = "Download a MovieLens data set, check it and unpack it into DIR/NAME."
    parser = Parser(prog=PROGRAM, description=what, allow_abbrev=False)
    add, names = parser.add_argument, ", ".join(DATASETS)
    kind = matching("|".join(DATASETS), f"a data set; choose one of {names}")
    add("dataset", metavar="NAME", type=kind, help=names)
    text = "folder to unpack into (default: data/ at the root of the project)"
    add("--output", metavar="DIR", type=Path, default=ROOT / "data", help=text)
    text = "folder that holds NAME.zip and NAME.zip.md5, for a mirror (default: %(default)s)"
    like = f"give one like {BASE_URL} (http or https, no user name, no query)"
    kind = matching(ADDRESS, f"the address of a folder that holds the archives; {like}")
    add("--base-url", metavar="URL", type=kind, default=BASE_URL, help=text)
    text = "MD5 the archive must have; NAME.zip.md5 is then not asked for"
    digits = "an MD5: give its 32 hexadecimal digits, as md5sum prints them"
    add("--md5", metavar="HEX", type=matching("[0-9a-fA-F]{32}", digits, str.lower), help=text)
    text = "fetch again, and replace DIR/NAME unless it holds anything of somebody else"
    add("--force", action="store_true", help=text)
    text = "give a connection up after this long without a byte (default: %(default)s)"
    kind = matching(r"(?=.*[1-9])[0-9]{0,6}(\.[0-9]+)?", "a number of seconds above 0", float)
    add("--timeout", metavar="SECONDS", type=kind, default=30.0, help=text)
    text = "how often a failed download is tried again (default: %(default)s)"
    kind = matching("[0-9]{1,6}", "a whole number, 0 or more", int)
    add("--retries", metavar="N", type=kind, default=5, help=text)
    options = parser.parse_args(argv)
    options.output = Path(os.path.abspath(options.output))
    options.archive = f"{options.dataset}.zip"  # its name on the server
    options.target = options.output / options.dataset
    options.scratch = options.output / f".{options.dataset}.fetch"
    options.unpacked, options.old = options.scratch / "unpacked", options.scratch / "old"
    return options


def say(message: str) -> None:
    """Print a line at once; standard error is left to the bar and the error."""
    print(message, flush=True)


def shown(path: Path) -> str:
    """Return `path` relative to the working directory where it lies below it."""
    return str(path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path)


def reason(error: BaseException) -> str:
    """Return what lies at the bottom of an error of requests, such as `Connection refused`."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__


class Download:
    """A downloader for pooch that keeps what has arrived of a file and goes on from there.

    pooch itself deletes what a broken download brought, and tries again whatever the answer was.
    """

    def __init__(self, part: Path, options: Options) -> None:
        self.part, self.options = part, options
        self.tries = self.arrivals = 0

    def __call__(self, url: str, output_file: str, _: object) -> None:
        """Bring `url` into `output_file`; pooch tries again on `RequestException`, `ValueError`."""
        if self.arrivals == 2:  # The checksum was wrong both times.
            raise ValueError
        self.tries += 1
        try:
            self.append(url)
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            final = isinstance(error, requests.exceptions.SSLError | requests.exceptions.InvalidURL)
            # 416: nothing comes after what is here. The checksum tells whether that is all.
            if final or (status and status not in PASSING | {416}):
                raise FetchError(
                    f"{url}: {reason(error)}; likely a wrong address, a mirror without this file, "
                    "or a proxy in between: check --base-url (REQUESTS_CA_BUNDLE for a certificate)"
                ) from error
            if status != 416:
                left = self.options.retries + 1 - self.tries
                say(f"{url}: {reason(error)}" + (f"; trying again ({left} left)" if left else ""))
                raise
        self.arrivals += 1
        self.part.replace(output_file)

    def append(self, url: str) -> None:
        """Add what the part lacks, or bring all of it if the server does not go on from there."""
        look = {"unit": "B", "unit_scale": True, "disable": None}
        with self.part.open("ab") as file, tqdm(desc=Path(url).name, total=1, **look) as bar:
            kept = file.tell()
            say(f"downloading {url}" + (f" after the first {kept} bytes" if kept else ""))

            def begin(response: requests.Response, **_: object) -> None:
                if response.status_code == requests.codes.ok:  # all of it, not the range
                    file.truncate(0)

            pooch.HTTPDownloader(
                progressbar=bar,
                chunk_size=1 << 15,
                timeout=self.options.timeout,
                headers={"Accept-Encoding": "identity"}
                | ({"Range": f"bytes={kept}-"} if kept else {}),
                hooks={"response": begin},
            )(url, file, None)


def retrieve(name: str, md5: str | None, options: Options) -> Path:
    """Download a file into the scratch folder, or find it there; `FetchError` if that fails."""
    registry = {name: md5 and f"md5:{md5}"}
    base_url, retries = options.base_url, options.retries
    source = pooch.create(options.scratch, base_url, registry=registry, retry_if_failed=retries)
    # Named by the MD5: what has arrived of another version of the archive is of no use.
    download = Download(options.scratch / f"{name}.{md5}.part", options)
    try:
        return Path(source.fetch(name, downloader=download))
    except requests.RequestException as error:
        raise FetchError(
            f"{source.get_url(name)}: {reason(error)} (tries: {download.tries}); likely the "
            "network or the server: run the same command again, it goes on from what has arrived, "
            "or raise --retries or --timeout, or name a mirror with --base-url"
        ) from error
    except ValueError as error:
        raise FetchError(
            f"checksum of {source.get_url(name)} is wrong (downloads: {download.arrivals}), not "
            f"MD5 {md5}; likely a damaged copy, a proxy that answers in its place, or an archive "
            "that was replaced: run the same command again, or name another --base-url or --md5"
        ) from error


def find_md5(text: str, archive: str) -> str | None:
    """Find the MD5 of `archive` in lines like `MD5 (NAME.zip) = hex` or `hex  NAME.zip`."""
    md5, name = "([0-9a-f]{32})", rf"(?:\S*/)?{re.escape(archive)}"
    line = rf"^\s*(?:MD5 ?\({name}\) ?= ?{md5}|{md5} [ *]{name})\s*$"
    match = re.search(line, text, re.IGNORECASE | re.MULTILINE)
    return (match[1] or match[2]).lower() if match else None


def fetch_md5(options: Options) -> str:
    """Fetch the MD5 beside the archive; `FetchError` if there is none, or something else."""
    name = f"{options.archive}.md5"
    for left in options.scratch.glob(f"{name}*"):  # by a run that was killed; perhaps outdated
        left.unlink()
    remedy = "check --base-url, or pin the checksum with --md5 HEX"
    try:
        text = retrieve(name, None, options).read_text(encoding="utf-8", errors="replace")
    except FetchError as error:
        raise FetchError(f"no checksum: {error}; or pin it with --md5 HEX") from error
    if found := find_md5(text, options.archive):
        return found
    raise FetchError(f"{name} holds no MD5, it begins with {text[:60]!r}: {remedy}")


def unpack(archive: Path, options: Options) -> Path:
    """Unpack the archive into the scratch folder; `FetchError` if it is not what it should be."""
    shutil.rmtree(options.unpacked, ignore_errors=True)  # from a run that was killed
    try:
        with zipfile.ZipFile(archive) as source:
            for name in source.namelist():
                pieces = name.removesuffix("/").split("/")
                if "\\" in name or ":" in pieces[0] or not {"", ".", ".."}.isdisjoint(pieces):
                    raise FetchError(
                        f"{options.archive} holds the unsafe path {name!r}, nothing was "
                        "unpacked: name another --base-url"
                    )
            say(f"unpacking {options.archive}")
            source.extractall(options.unpacked)
    # RuntimeError: encrypted, or a compression that zipfile does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise FetchError(
            f"{options.archive} has the right checksum but cannot be unpacked "
            f"({reason(error)}): name another --base-url"
        ) from error
    folder: Path = options.unpacked / options.dataset
    if flaw := missing(folder, options):
        raise FetchError(f"{options.archive} {flaw}: name another --base-url")
    return folder


def missing(folder: Path, options: Options) -> str | None:
    """Say which of the two files every user needs is not in `folder`."""
    for name in DATASETS[options.dataset]:
        if not (folder / name).is_file() or not (folder / name).stat().st_size:
            return f"has no {name}, or an empty one"
    return None


def content_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below `folder`, or what is there instead of a file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "special"
        is_plain = path.is_file() and kind == "special"
        found[path.relative_to(folder).as_posix()] = pooch.file_hash(path) if is_plain else kind
    return found


def record_of(folder: Path) -> dict[str, Any]:
    """Return what this program noted in `folder` of what it put there, nothing if it did not."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {"md5": record["md5"], "content": dict(record["content"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"md5": None, "content": {}}


def check_replaceable(target: Path) -> None:
    """`FetchError` if the target is or holds anything that this program did not put there."""
    if target.is_symlink():
        raise FetchError(f"{shown(target)} is a link, --force leaves it alone: move it away")
    ours = record_of(target)["content"]
    for name, kind in content_of(target).items():
        if name != RECORD and ours.get(name) != kind:
            raise FetchError(
                f"{shown(target / name)} is not as this program wrote it, --force leaves "
                "the folder alone: move it away or name another --output"
            )


def already_there(options: Options) -> bool:
    """Tell whether there is nothing to fetch; `FetchError` if something is in the way."""
    target = options.target
    if not os.path.lexists(target):
        return False
    if not target.is_dir():
        raise FetchError(f"{shown(target)} is not a folder: move it away or name another --output")
    if options.force:
        check_replaceable(target)
        return False
    flaw, md5 = missing(target, options), record_of(target)["md5"]
    if options.md5 and md5 and md5 != options.md5:
        flaw = f"comes from an archive with MD5 {md5}, not {options.md5}"
    if flaw:
        raise FetchError(f"{shown(target)} exists but {flaw}: move it away, or fetch with --force")
    say(f"{shown(target)} is already there; nothing to do, --force fetches it again")
    return True


def check_scratch(options: Options) -> None:
    """`FetchError` if something of somebody else has the name of the scratch folder."""
    scratch, ours = options.scratch, rf"{options.archive}.*|tmp\w{{8}}|unpacked|old"
    if not scratch.is_symlink() and not scratch.exists():
        return
    plain = scratch.is_dir() and not scratch.is_symlink()
    if not plain or not all(re.fullmatch(ours, path.name) for path in scratch.iterdir()):
        raise FetchError(f"{shown(scratch)} is in the way, and not this program's: move it away")


def kept(options: Options) -> int:
    """Return how many bytes of the archive the scratch folder holds."""
    parts = options.scratch.glob(f"{options.archive}.{'?' * 32}.part")
    files = [options.scratch / options.archive, *parts]
    return sum(path.stat().st_size for path in files if path.is_file())


def recover(options: Options) -> None:
    """Complete the swap of a run that ended within it: the old folder back, or gone."""
    if options.old.is_dir() and os.path.lexists(options.target):
        shutil.rmtree(options.scratch)
    elif options.old.is_dir():
        options.old.rename(options.target)


def move_into_place(folder: Path, options: Options) -> None:
    """Rename `folder` to the target; what is there goes aside, for `recover`."""
    if os.path.lexists(options.target):
        check_replaceable(options.target)  # Again: the download took its time.
        options.target.rename(options.old)
    folder.rename(options.target)


def install(options: Options) -> None:
    """Fetch, check and unpack the data set, and move it into place."""
    md5 = options.md5 or fetch_md5(options)
    archive = retrieve(options.archive, md5, options)
    try:
        folder = unpack(archive, options)
    except FetchError:
        archive.unlink()  # It is not what it should be: keeping it is of no use.
        raise
    record = {"md5": md5, "content": content_of(folder)}
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    move_into_place(folder, options)
    shutil.rmtree(options.scratch)


def fetch(options: Options) -> None:
    """Install the data set unless it is there; only a download to go on from stays beside it."""
    check_scratch(options)
    recover(options)
    if already_there(options):
        return
    options.scratch.mkdir(exist_ok=True)
    try:
        install(options)
    finally:
        recover(options)
        if options.scratch.exists() and not kept(options):
            shutil.rmtree(options.scratch)


def fetch_alone(options: Options) -> None:
    """`fetch` while no other process fetches into the same folder; wait for one that does."""
    options.output.mkdir(parents=True, exist_ok=True)
    lock = os.open(options.output, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetch(options)
    finally:
        os.close(lock)


def report(options: Options) -> None:
    """Print where the files are and what to run next."""
    ratings, notice = (shown(options.target / name) for name in DATASETS[options.dataset])
    sweep, results = shown(ROOT / "scripts/sweep.sh"), shown(ROOT / "results" / options.dataset)
    say(f"ratings: {ratings}")
    say(f"licence: {notice} (terms of use, citation)")
    say(f"next:    {shlex.join([sweep, '--ratings', ratings, '--output', results])}")


def fail(message: str, code: int = 2) -> int:
    """Print the one line of an error and return its exit code."""
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def main(argv: list[str] | None = None) -> int:
    """Run the program on a command line, `sys.argv` by default, and return its exit code."""
    options = parse_options(argv)
    pooch.get_logger().setLevel("WARNING")  # Download says more.
    try:
        fetch_alone(options)
    except KeyboardInterrupt:
        left = (
            f"{shown(options.scratch)} keeps {kept(options)} bytes, the same command goes on there"
        )
        return fail(f"interrupted; {left if kept(options) else 'nothing has arrived yet'}", 130)
    except FetchError as error:
        return fail(f"error: {error}")
    except OSError as error:
        return fail(
            f"error: {shown(Path(error.filename or options.output))} cannot be used "
            f"({error.strerror or error}); likely the disk is full, part of the path is a file, or "
            "you may not write there: free some space or name another --output, and run this again"
        )
    report(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
