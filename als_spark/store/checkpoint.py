"""The folder of a checkpoint, on any file system: what a killed training has kept.

::

    checkpoint.json     what the training is of: job, version, configuration, ratings, placement
    states-00000007/    the running models after an iteration; the last two are kept
    point-00003/        a finished point

Each folder has arrays in Parquet and, written last and in one step, :data:`RECORD`: JSON with the
size and the SHA-256 of each. A folder without it was not finished, and is deleted; one whose files
are not as it says is damaged, and refused.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from als_spark.errors import ConfigError, DataError
from als_spark.files.json_files import decode, encode, shortened
from als_spark.store.arrays import read_array, write_array
from als_spark.store.files import SCRATCH, Files
from als_spark.store.manifest import sha256_of
from als_spark.train.backend import as_array
from als_spark.train.checkpoint import (
    Finished,
    Interval,
    finished_of,
    measures_record,
    state_of,
    state_record,
)
from als_spark.train.state import LoopState
from als_spark.types import FloatArray

FORMAT = "als_spark.checkpoint/1"
IDENTITY = "checkpoint.json"
RECORD = "state.json"
_STATES, _POINT = "states-", "point-"
_KEPT = 2
_UNLIKE = {
    "job": "the job",
    "version": "the version of als_spark",
    "config": "the configuration",
    "data": "the ratings",
}


class CheckpointFolder:
    """A :class:`als_spark.train.checkpoint.Checkpoint` in a folder.

    Parameters
    ----------
    files : Files
        Of the folder, which need not be there.
    label : str
        What messages call it.
    every : Interval
        How often states are kept.
    anew : str
        What to do to begin anew, for messages.
    clock : callable
        Returns monotonic seconds.
    """

    def __init__(
        self,
        files: Files,
        label: str,
        every: Interval,
        anew: str = "give `restart=` to begin anew, or another folder",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._label = label
        self._every = every
        self._anew = anew
        self._clock = clock
        self._lock = threading.Lock()
        self._done: set[int] = set()
        self._known: dict[str, Any] = {}
        self._number = 0
        self._last = (0, clock())

    def __repr__(self) -> str:
        """Say where it is."""
        return f"<CheckpointFolder {self._label}>"

    def check(self, identity: Mapping[str, Any], *, restart: bool = False) -> None:
        """Look at the folder before any work is done.

        Parameters
        ----------
        identity : mapping
            Job, version and configuration, as JSON has them.
        restart : bool
            Whether to delete what it holds.

        Raises
        ------
        ConfigError
            If it holds something else than a checkpoint, or the checkpoint of another training.
        DataError
            If it is damaged.
        """
        strangers = [name for name in self._files.names("") if not _is_ours(name)]
        if strangers:
            raise ConfigError(
                f"{self._label}: the folder holds {shortened(repr(strangers[0]))}, which is of no "
                "checkpoint: give an empty or a new folder"
            )
        if restart:
            self.remove()
            return
        try:
            known = decode(self._files.read(IDENTITY))
        except FileNotFoundError:
            # Nothing was kept before it.
            self.remove()
            return
        except (OSError, ValueError) as error:
            raise DataError(f"{self._label}/{IDENTITY}: damaged ({error}): {self._anew}") from error
        if known.get("format") != FORMAT:
            raise DataError(f"{self._label}/{IDENTITY}: not of the format {FORMAT}: {self._anew}")
        self._refuse_other(known, _as_json(identity))
        self._known = known

    def begin(
        self, identity: Mapping[str, Any], data: Mapping[str, Any], plan: Mapping[str, Any]
    ) -> list[str]:
        """Take up what is there, once the ratings are known; return what to tell people.

        ``data`` and ``plan`` say what the ratings are, and how they are placed and partitioned.

        Raises
        ------
        ConfigError
            If the ratings are others, or placed otherwise.
        """
        whole = _as_json({"format": FORMAT, **identity, "data": data, "plan": plan})
        if not self._known:
            self._files.replace(IDENTITY, encode(whole))
            self._last = (0, self._clock())
            return []
        self._refuse_other(self._known, {"data": whole["data"]})
        before, now = self._known.get("plan"), whole["plan"]
        if not isinstance(before, dict) or before.get("placement") != now.get("placement"):
            was = before.get("placement") if isinstance(before, dict) else before
            raise ConfigError(
                f'{self._label}: the ratings are placed otherwise than before: `placement="{was}"` '
                f"was chosen: give it, or {self._anew}"
            )
        self._sweep_up()
        self._done = set(self._points())
        self._number = max(self._numbers(), default=0)
        words = (
            "the ratings are partitioned otherwise than before the interruption: the results agree "
            "to rounding, not bit for bit"
        )
        return [] if before == now else [words]

    @property
    def n_finished(self) -> int:
        """Points that are finished."""
        return len(self._done)

    def finished(self) -> Iterator[Finished]:
        """Give the points that earlier processes have finished, one at a time."""
        for point in self._points():
            folder = _point_folder(point)
            record = self._record(folder)
            (state,) = self._states(folder, record)
            with self._damage_named(f"{folder}/{RECORD}"):
                found = finished_of(state, record["measures"])
            yield found

    def running(self) -> list[LoopState]:
        """Return the states that were kept last, without those of finished points."""
        numbers = self._numbers()
        if not numbers:
            return []
        folder = _states_folder(numbers[-1])
        states = self._states(folder, self._record(folder), without=self._done)
        self._last = (max((state.iterations for state in states), default=0), self._clock())
        return states

    def is_due(self, states: Sequence[LoopState]) -> bool:
        """Tell whether it is time to keep the states of models after an iteration."""
        done = max((state.iterations for state in states if not state.stopped), default=None)
        if done is None:
            return False
        return self._every.is_over(done - self._last[0], self._clock() - self._last[1])

    def keep_states(self, states: Sequence[LoopState]) -> None:
        """Keep the states of all models that are not finished, if it is time."""
        if not self.is_due(states):
            return
        iteration = max(state.iterations for state in states if not state.stopped)
        with self._lock:
            self._number += 1
            left = [state for state in states if state.spec.point not in self._done]
            self._write(_states_folder(self._number), left, {})
            self._last = (iteration, self._clock())
            for number in self._numbers()[:-_KEPT]:
                self._remove(_states_folder(number))

    def keep_finished(self, finished: Finished) -> None:
        """Keep a finished point."""
        point = finished.trained.spec.point
        with self._lock:
            if point not in self._done:
                more = {"measures": measures_record(finished)}
                self._write(_point_folder(point), [finished.trained], more)
                self._done.add(point)

    def remove(self) -> None:
        """Delete everything that a checkpoint has written, and the folder if it is empty then.

        What it is of goes last, so that a process that is killed here leaves a checkpoint.
        """
        for name in self._files.names(""):
            if _is_ours(name) and name != IDENTITY:
                self._remove(name)
        self._files.remove(IDENTITY)
        with suppress(OSError):
            self._files.remove("")
        self._done, self._known, self._number = set(), {}, 0

    def _refuse_other(self, known: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        for name, now in identity.items():
            before: Any = known.get(name)
            old: Any
            new: Any
            if before == now:
                continue
            if isinstance(before, dict) and isinstance(now, dict):
                keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
                old, new = ({key: part.get(key) for key in keys[:1]} for part in (before, now))
            else:
                old, new = before, now
            raise ConfigError(
                f"{self._label}: is of another training: {_UNLIKE.get(name, name)} had "
                f"{shortened(_text(old))}, and has {shortened(_text(new))}: {self._anew}"
            )

    def _points(self) -> list[int]:
        return self._with_record(_POINT)

    def _numbers(self) -> list[int]:
        return self._with_record(_STATES)

    def _with_record(self, prefix: str) -> list[int]:
        return sorted(
            int(name.removeprefix(prefix))
            for name in self._files.names("")
            if name.startswith(prefix) and _is_ours(name) and self._files.exists(f"{name}/{RECORD}")
        )

    def _sweep_up(self) -> None:
        """Delete what a killed process has not finished."""
        for name in self._files.names(""):
            if name == SCRATCH or (name != IDENTITY and not self._files.exists(f"{name}/{RECORD}")):
                self._remove(name)

    def _remove(self, folder: str) -> None:
        names = list(self._files.sizes(folder))
        # The record first: without it nobody takes the rest for whole.
        self._files.remove_ours(folder, sorted(names, key=lambda name: name != RECORD))

    def _write(self, folder: str, states: Sequence[LoopState], more: Mapping[str, Any]) -> None:
        self._remove(folder)
        files: dict[str, Any] = {}
        records = []
        for state in states:
            names = {}
            for name, held in state.held_arrays().items():
                # One at a time, wherever they are.
                file = f"{state.spec.point:05d}-{name}.parquet"
                files[file] = self._put(folder, file, as_array(held))
                names[name] = file
            records.append({"state": state_record(state), "arrays": names})
        body = {"format": FORMAT, "models": records, "files": files, **more}
        self._files.replace(f"{folder}/{RECORD}", encode({**body, "sha256": _digest(body)}))

    def _put(self, folder: str, name: str, array: FloatArray) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="als_spark-") as place:
            path = Path(place) / name
            write_array(path, array)
            entry = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            self._files.upload(Path(place), folder)
        return entry

    def _record(self, folder: str) -> dict[str, Any]:
        with self._damage_named(f"{folder}/{RECORD}"):
            record = decode(self._files.read(f"{folder}/{RECORD}"))
            if record.pop("sha256", None) != _digest(record):
                raise ValueError("its content is not what was written")
            if record["format"] != FORMAT:
                raise ValueError(f"not of the format {FORMAT}")
        return record

    def _states(
        self, folder: str, record: Mapping[str, Any], without: set[int] | None = None
    ) -> list[LoopState]:
        states = []
        for model in record["models"]:
            if model["state"]["point"] in (without or ()):
                continue
            arrays = {
                name: self._get(folder, file, record["files"][file])
                for name, file in model["arrays"].items()
            }
            states.append(state_of(model["state"], arrays))
        return states

    def _get(self, folder: str, name: str, entry: Mapping[str, Any]) -> FloatArray:
        where = f"{folder}/{name}"
        with self._damage_named(where), tempfile.TemporaryDirectory(prefix="als_spark-") as place:
            path = self._files.local(where)
            if path is None:
                # One at a time, wherever they are.
                path = Path(place) / name
                self._files.fetch(where, path)
            if path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
                raise ValueError("its content is not what was written")
            return read_array(path)

    def _damage_named(self, where: str) -> _Damage:
        return _Damage(f"{self._label}/{where}", self._anew)


class _Damage:
    """Says which file is damaged."""

    def __init__(self, where: str, anew: str) -> None:
        self._where = where
        self._anew = anew

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{self._where}: is missing: {self._anew}") from error
        if isinstance(error, KeyError | TypeError | ValueError | pa.ArrowException):
            raise DataError(f"{self._where}: damaged ({error}): {self._anew}") from error


def _states_folder(number: int) -> str:
    return f"{_STATES}{number:08d}"


def _point_folder(point: int) -> str:
    return f"{_POINT}{point:05d}"


def _is_ours(name: str) -> bool:
    if name in (IDENTITY, SCRATCH):
        return True
    return any(
        name.startswith(prefix) and name.removeprefix(prefix).isdecimal()
        for prefix in (_STATES, _POINT)
    )


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(value))
    return found


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).strip("{}")
