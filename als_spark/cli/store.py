"""``jobs/store.py``: look at a model store, roll it back, prune it, verify it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from als_spark.cli.characters import check_words
from als_spark.cli.config.settings import LARGEST_COUNT, shown_value
from als_spark.cli.options import OneLineParser
from als_spark.cli.paths import GivenPath, check_name, place_is_usage
from als_spark.cli.program import EXIT_DONE, EXIT_FAILED, run_program, say
from als_spark.errors import DataError, StoreLocked
from als_spark.files.json_files import decode
from als_spark.files.places import local_path
from als_spark.files.writable import check_writable
from als_spark.store.history import new_run_id
from als_spark.store.layout import MANIFEST
from als_spark.store.manifest import Manifest
from als_spark.store.reading import VersionInfo
from als_spark.store.store import ModelStore, open_store

_METRICS = "metrics.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command on a model store.

    Parameters
    ----------
    argv : sequence of str, optional
        Options; those of the process if not given.

    Returns
    -------
    int
        0 done; 1 ``verify`` has found damage, or anything else went wrong; 2 unusable input, such
        as no such store or version; 5 another run holds the lock; 130 stopped by Ctrl-C.
    """
    interrupted = "stopped; the store is as it was, or as asked for"

    def work() -> int:
        check_words(sys.argv[1:] if argv is None else argv)
        return _run(store_parser().parse_args(argv))

    return run_program("store", work, interrupted)


def store_parser() -> OneLineParser:
    """Describe the commands of ``jobs/store.py``."""
    parser = OneLineParser(
        prog="store",
        description="Look at a model store, and manage it.",
        epilog="Exit codes: 0 done, 1 damage found or anything else, 2 unusable input (no such "
        "store or version), 5 another run holds the store's lock.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for work, text in (
        (_list, "the versions, oldest first"),
        (_show, "one version: files, metrics, when it was current"),
        (_current, "the name of the current version"),
        (_rollback, "make an older version current again"),
        (_prune, "remove old versions, and what killed runs have left"),
        (_verify, "compare files with their checksums; exit code 1 if one is damaged"),
    ):
        name = work.__name__.removeprefix("_")
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(work=work)
        command.add_argument(
            "--store", required=True, metavar="DIR", help="folder, or URI of any file system"
        )
        if name in ("show", "verify"):
            command.add_argument(
                "--version",
                metavar="V",
                help="name, or its beginning "
                + ("(default: the current one)" if name == "show" else "(default: all)"),
            )
        if name in ("list", "show", "current"):
            command.add_argument("--json", action="store_true", help="JSON on standard output")
        if name == "rollback":
            command.add_argument(
                "--to", metavar="V", help="version (default: the one before the current one)"
            )
        if name == "prune":
            command.add_argument(
                "--keep", type=_positive, required=True, metavar="N", help="versions that stay"
            )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 10 or not 1 <= int(text) <= LARGEST_COUNT:
        raise argparse.ArgumentTypeError(
            f"{shown_value(text, quoted=True)} is not a whole number above 0 (and at most "
            f"{LARGEST_COUNT})"
        )
    return int(text)


def _run(options: argparse.Namespace) -> int:
    target = GivenPath("--store", "store", options.store)
    check_name(target)
    folder = local_path(options.store)
    if options.command in ("rollback", "prune") and folder is not None and os.path.lexists(folder):
        check_writable(folder, str(target))
    with _opened(options.store) as store:
        if not store.exists():
            raise DataError(f"--store {options.store}: there is no model store: check the path")
        code: int = options.work(store, options)
        return code


@contextmanager
def _opened(path: str) -> Iterator[ModelStore]:
    """Open a store, with Spark only where it lies on another file system."""
    if local_path(path) is not None:
        with place_is_usage("--store", path):
            yield open_store(path)
        return
    from als_spark.cli.spark_job import job_session
    from als_spark.spark.store_files import store_at

    with job_session("store") as session:
        yield store_at(session, path)


def _list(store: ModelStore, options: argparse.Namespace) -> int:
    versions = store.versions()
    if options.json:
        _print_json([_record(info) for info in versions])
        return EXIT_DONE
    if not versions:
        say(f"{store.label} holds no version yet.")
        return EXIT_DONE
    rows = [
        (
            "*" if info.current else "",
            info.name,
            "-" if info.created is None else _short(info.created),
            _size(info.size),
            str(info.published),
            "yes" if info.complete else "NO",
        )
        for info in versions
    ]
    head = ("", "version", "created (UTC)", "size", "times current", "complete")
    say(_table([head, *rows], right={3, 4}))
    say("\n* current")
    return EXIT_DONE


def _show(store: ModelStore, options: argparse.Namespace) -> int:
    # Opened rather than read: what is shown is what was published.
    with store.open(options.version) as folder:
        name = folder.name
        manifest = Manifest.decoded((folder / MANIFEST).read_bytes())
        metrics = None
        if (folder / _METRICS).is_file():
            try:
                metrics = decode((folder / _METRICS).read_bytes())
            except ValueError as error:
                raise DataError(
                    f"{store.label}: {_METRICS} of version {name} cannot be read ({error}): roll "
                    "back to another version"
                ) from error
    current = store.current()
    pointers = [pointer for pointer in store.pointers() if pointer.version == name]
    if options.json:
        files = {
            file: {"size": size, "sha256": sha} for file, (size, sha) in manifest.files.items()
        }
        _print_json(
            {
                "version": name,
                "created": manifest.created,
                "current": name == current,
                "size": manifest.size,
                "files": files,
                "metrics": metrics,
                "pointers": [asdict(pointer) for pointer in pointers],
            }
        )
        return EXIT_DONE
    say(f"version  {name}{' (current)' if name == current else ''}")
    say(f"created  {_short(manifest.created)} UTC\n")
    rows = [(file, _size(size), sha[:12]) for file, (size, sha) in manifest.files.items()]
    say(_table([("file", "size", "SHA-256"), *rows], right={1}))
    if metrics is not None:
        say(f"\n{_METRICS}:\n{json.dumps(metrics, indent=2, ensure_ascii=False)}")
    switches = [(str(p.number), p.action, _short(p.published), p.run or "-") for p in pointers]
    say("\n" + _table([("pointer", "action", "time (UTC)", "run"), *switches], right={0}))
    return EXIT_DONE


def _current(store: ModelStore, options: argparse.Namespace) -> int:
    name = store.current()
    if options.json:
        _print_json({"version": name, "pointer": store.pointer_number()})
        return EXIT_DONE
    if name is None:
        raise DataError(f"{store.label} holds no model yet: publish one first")
    say(name)
    return EXIT_DONE


def _rollback(store: ModelStore, options: argparse.Namespace) -> int:
    run = new_run_id()
    try:
        with store.lock(run) as lock:
            version = store.rollback(options.to, run=run, check=lock.check)
            _note(store, run, version, lock.check)
    except StoreLocked:
        # For hours perhaps: a bad model is not to stay as long.
        version = store.rollback(options.to, run=run)
        say("A run is at work: it will find the store switched, and publish nothing.")
        # The run at work, or the next one, adds the line.
        _note(store, run, version)
    say(f"{version} is now the current version of {store.label}.")
    return EXIT_DONE


def _note(
    store: ModelStore, run: str, version: str, check: Callable[[], None] | None = None
) -> None:
    """Put a roll-back on record, with the lock's ``check`` in the history; warn where that fails.

    It is done.
    """
    try:
        pointers = store.pointers()
        before = [p.version for p, after in pairwise(pointers) if after.run == run]
        store.history.note_rollback(run, before[-1] if before else None, version)
        if check is not None:
            check()
            store.history.gather_finished()
    except Exception as error:  # noqa: BLE001 - the model in use matters more than its history
        reason = " ".join(str(error).split()) or type(error).__name__
        say(f"warning: the roll-back is not in the history of {store.label} ({reason})")


def _prune(store: ModelStore, options: argparse.Namespace) -> int:
    with store.lock(new_run_id()) as lock:
        leftovers = store.recover()
        removed = store.prune(options.keep, check=lock.check)
    for path in leftovers:
        say(f"removed  {path} (left by a run that was killed)")
    for name in removed:
        say(f"removed  {name}")
    say(f"{len(removed)} versions pruned, {len(store.versions())} stay.")
    return EXIT_DONE


def _verify(store: ModelStore, options: argparse.Namespace) -> int:
    problems = store.verify(options.version)
    if not problems:
        what = "All versions are" if options.version is None else "The version is"
        say(f"{what} as published.")
        return EXIT_DONE
    say(_table([("version", "problem"), *((p.version, str(p)) for p in problems)]))
    return EXIT_FAILED


def _record(info: VersionInfo) -> dict[str, Any]:
    return {
        "version": info.name,
        "created": info.created,
        "size": info.size,
        "current": info.current,
        "published": info.published,
        "complete": info.complete,
    }


def _print_json(value: Any) -> None:
    say(json.dumps(value, indent=2, ensure_ascii=False))


def _table(rows: Sequence[Sequence[str]], right: frozenset[int] | set[int] = frozenset()) -> str:
    """Set rows out in columns, with a rule below the first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def _short(time: str) -> str:
    return time[:19].replace("T", " ")


def _size(size: int | None) -> str:
    if size is None:
        return "-"
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} B"
