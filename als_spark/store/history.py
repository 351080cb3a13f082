"""Records of the runs: a folder for each, and a line in ``history.jsonl`` for each finished one."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from als_spark.files.json_files import decode, encode
from als_spark.files.trees import is_inner_name
from als_spark.store.files import Files
from als_spark.store.layout import (
    HISTORY,
    RUNS,
    Moment,
    mark_store,
    parse,
    stamp,
    time_text,
    utc_now,
)
from als_spark.store.owner import Life, Owner, life_of, this_process

RUN_RECORD = "run.json"
ATTACHMENTS = "attachments"
"""Key in the record in a run's folder: other files there than :data:`USUAL_ATTACHMENT`."""
USUAL_ATTACHMENT = "report.html"
RUNNING, DIED = "running", "died"
ROLLED_BACK = "rolled_back"
NOTICED = "noticed"
logger = logging.getLogger(__name__)

_DEATH = ("outcome", "sentence", "version", NOTICED)
KEPT_RUNS = 90
"""Newest runs whose folders are kept."""
SILENCE = timedelta(hours=1)
"""Time after which a run of another machine that holds no lock counts as died."""


def new_run_id(now: datetime | None = None) -> str:
    """Return an id for a run: its start in UTC, to the millisecond, and something random.

    Ids sort by the start, also those of runs that start within the same second.
    """
    now = utc_now() if now is None else now
    return f"{stamp(now)}-{now.microsecond // 1000:03}{secrets.token_hex(3)}"


@dataclass(frozen=True)
class _Begun:
    owner: Owner
    started: Moment


_BEGUN = TypeAdapter(_Begun)


class RunHistory:
    """The records of the runs of a store; only :meth:`gather` needs the lock.

    Attributes
    ----------
    n_damaged : int
        Lines of ``history.jsonl`` that were left out when it was last read.
    """

    def __init__(
        self, files: Files, label: str, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._files = files
        self._label = label
        self._clock = clock
        self.n_damaged = 0

    def start_run(self, run: str, record: Mapping[str, Any]) -> None:
        """Note that a run has begun: what is known, with run, status, start and owner."""
        mark_store(self._files, self._label, self._clock())
        full = {
            "run": run,
            "status": RUNNING,
            "started": time_text(self._clock()),
            "owner": asdict(this_process()),
            **record,
        }
        self._files.replace(_path(run), encode(full))

    def note_run(self, run: str, record: Mapping[str, Any]) -> None:
        """Note how far a run has come; other keys stay as they were."""
        known = self.read_run(run) or {"run": run, "status": RUNNING}
        self._files.replace(_path(run), encode({**known, **record}))

    def finish_run(
        self,
        run: str,
        status: str,
        record: Mapping[str, Any],
        attachments: Mapping[str, bytes | Path] | None = None,
    ) -> None:
        """Note how a run has ended; :meth:`gather` adds its line to the history.

        Parameters
        ----------
        run : str
        status : str
            Any word but "running".
        record : mapping
            Other keys stay as they were.
        attachments : mapping of str to bytes or Path, optional
            More files for the run's folder, such as ``report.html``, by name.
        """
        mark_store(self._files, self._label, self._clock())
        for name, content in (attachments or {}).items():
            data = content.read_bytes() if isinstance(content, Path) else content
            self._files.replace(f"{RUNS}/{run}/{name}", data)
        known = self.read_run(run) or {"run": run}
        if known.get("status") == DIED:
            # Given up too soon by the gatherer of another machine.
            known = {name: value for name, value in known.items() if name not in _DEATH}
        full = {**known, **record, "status": status, "finished": time_text(self._clock())}
        if more := sorted(set(attachments or ()) - {USUAL_ATTACHMENT}):
            full[ATTACHMENTS] = more
        # Last: a run that is finished has all its files.
        self._files.replace(_path(run), encode(full))

    def note_rollback(self, run: str, before: str | None, after: str) -> None:
        """Note that somebody has made an older version current again.

        The record names no ``version``: that is one which its run has published.
        """
        record = {
            "job": "store",
            "started": time_text(self._clock()),
            "outcome": ROLLED_BACK,
            "sentence": f"rolled back to {after}" + (f" from {before}" if before else ""),
            "previous_version": before,
            "rolled_back_to": after,
        }
        self.finish_run(run, ROLLED_BACK, record)

    def gather_finished(self) -> list[str]:
        """Add the lines of finished runs to ``history.jsonl``; hold the lock.

        Runs that are not finished are left to :meth:`gather` of the next training, which tells of
        those that died.
        """
        return self.gather(running=self._files.names(RUNS))

    def read_run(self, run: str) -> dict[str, Any] | None:
        """Return the record of a run; None if there is none, or it cannot be read."""
        try:
            return decode(self._files.read(_path(run)))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            # The second is a file of somebody's in the folder of the runs.
            return None

    def gather(
        self,
        *,
        running: Collection[str] = (),
        published: Mapping[str, str] | None = None,
        keep: int = KEPT_RUNS,
    ) -> list[str]:
        """Bring ``history.jsonl`` up to date with the folders of the runs; hold the lock.

        A run that is recorded as running but is not gets the status "died": its process is gone, or
        belongs to another machine and has been silent for :data:`SILENCE`. Its record says in which
        phase that was, and what it had published. Broken lines are dropped.

        Parameters
        ----------
        running : collection of str
            Ids of the runs that do run: the caller's, which holds the lock.
        published : mapping of str to str, optional
            Versions that runs have published, by the runs' ids.
        keep : int
            Newest runs whose folders stay. Their lines stay for ever.

        Returns
        -------
        list of str
            Ids of the runs whose line is new or has changed.
        """
        before = {str(record["run"]): record for record in self.read_history()}
        after = dict(before)
        folders = sorted(self._files.names(RUNS))
        unfinished = set()
        for run in folders:
            if run in before and before[run].get("status") != DIED:
                continue
            record = self.read_run(run)
            if record is None:
                # Killed before its first record was written, or damaged.
                continue
            if record.get("status") == RUNNING:
                if run in running or not self._is_over(record):
                    unfinished.add(run)
                    continue
                death = _death_of(record, (published or {}).get(run))
                record = {**record, **death, NOTICED: time_text(self._clock())}
                self._files.replace(_path(run), encode(record))
            after[run] = {k: v for k, v in record.items() if k != ATTACHMENTS} | {"run": run}
        changed = sorted(run for run, record in after.items() if before.get(run) != record)
        if changed:
            order = _in_order(list(before), sorted(after.keys() - before), self._clock())
            lines = [json.dumps(after[run], ensure_ascii=False) for run in order]
            self._files.replace(HISTORY, "".join(f"{line}\n" for line in lines).encode())
        for run in folders[: max(len(folders) - keep, 0)]:
            if run not in running and run not in unfinished:
                self._remove_run(run)
        return changed

    def _remove_run(self, run: str) -> None:
        """Remove what a run has written into its folder; what else is there stays."""
        record = self.read_run(run)
        if record is None or record.get("run") != run:
            return
        folder = f"{RUNS}/{run}"
        more = record.get(ATTACHMENTS)
        names = [USUAL_ATTACHMENT, *(more if isinstance(more, list) else ())]
        # The record last: without it no run would know the folder as the store's.
        ours = [*filter(is_inner_name, names), RUN_RECORD]
        if kept := self._files.strangers(folder, ours):
            logger.warning(
                "%s/%s is not the store's: the folder of the run is not removed", folder, kept[0]
            )
            return
        self._files.remove_ours(folder, ours)

    def read_history(self) -> list[dict[str, Any]]:
        """Return the records of the finished runs, oldest first; broken lines are skipped."""
        try:
            lines = self._files.read(HISTORY).splitlines()
        except FileNotFoundError:
            return []
        records: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            try:
                record = decode(line)
                if not isinstance(record.get("run"), str):
                    raise ValueError("it names no run")
            except ValueError as error:
                logger.warning(
                    "%s/%s: line %d is left out: %s", self._label, HISTORY, number, error
                )
                continue
            records.append(record)
        self.n_damaged = len(lines) - len(records)
        return records

    def _is_over(self, record: Mapping[str, Any]) -> bool:
        try:
            begun = parse(_BEGUN, record)
        except ValueError:
            return True
        life = life_of(begun.owner)
        if life is Life.UNKNOWN:
            return begun.started + SILENCE <= self._clock()
        return life is Life.DEAD


def _in_order(known: list[str], new: list[str], now: datetime) -> list[str]:
    """Put new ids, which sort by their start, among those that are on record already.

    Ids from the future were given by a wrong clock: a run of now is newer.
    """
    order, latest = list(known), f"{stamp(now)}~"
    for run in new:
        place = len(order)
        while place and run < order[place - 1] <= latest:
            place -= 1
        order.insert(place, run)
    return order


def _death_of(record: Mapping[str, Any], version: str | None) -> dict[str, Any]:
    """Say of a run what it can no longer say itself."""
    when = f"while {record['phase']}" if record.get("phase") else "before it began to work"
    sentence = f"died {when}: it was killed, or its machine was lost"
    death = {"status": DIED, "outcome": DIED, "sentence": sentence}
    if version is not None:
        death["sentence"] += f"; before that, it published {version}"
        death["version"] = version
    return death


def _path(run: str) -> str:
    return f"{RUNS}/{run}/{RUN_RECORD}"
