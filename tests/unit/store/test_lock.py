"""The store's lock: who gets it, who loses it, and that no two have it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from datetime import timedelta

import psutil
import pytest
from pydantic import TypeAdapter

from als_spark.errors import LockLost, StoreLocked
from als_spark.store import owner as owner_module
from als_spark.store.files import LocalFiles
from als_spark.store.layout import parse
from als_spark.store.lock import LOCK_TTL, StoreLock
from als_spark.store.owner import Life, Owner, life_of, this_process
from tests.store_tools import Clock

OWNER = TypeAdapter(Owner)
ELSEWHERE = Owner("elsewhere", "ann", 77, 5, "another boot", "pid:[1]")


@pytest.fixture
def files(tmp_path):
    return LocalFiles(tmp_path)


@pytest.fixture
def clock():
    return Clock()


def lock_of(files, run, clock, **options):
    return StoreLock(files, "STORE", run, clock=clock, **options)


def lock_files(files):
    return files.names("locks")


def rewrite(files, number=1, **changes):
    """Change a lock file as its owner would."""
    path = f"locks/{number:010}.json"
    files.replace(path, json.dumps({**json.loads(files.read(path)), **changes}).encode())


class TestFromTheFuture:
    """The clock of the machine that took the lock was years ahead."""

    TTL = timedelta(seconds=1.0)

    @pytest.fixture
    def left(self, files, clock):
        """A lock that nobody gives back, owned on another machine."""
        clock.forward(days=3650)
        lock_of(files, "run-1", clock, ttl=self.TTL)._take()
        rewrite(files, owner=asdict(ELSEWHERE))
        clock.forward(days=-3650)

    @pytest.mark.usefixtures("left")
    def test_nobody_renews_it(self, files, clock):
        with lock_of(files, "run-2", clock, ttl=self.TTL) as lock:
            lock.check()

    @pytest.mark.usefixtures("left")
    def test_it_is_renewed(self, files, clock):
        renewing = threading.Timer(0.1, rewrite, [files], {"expires": "2037-01-01T00:00:00+00:00"})
        renewing.start()
        with pytest.raises(StoreLocked, match="run-1"):
            lock_of(files, "run-2", clock, ttl=self.TTL).acquire()
        renewing.join()


class TestHolding:
    def test_what_the_file_says(self, files, clock):
        with lock_of(files, "run-1", clock) as lock:
            lock.check()
            record = json.loads(files.read("locks/0000000001.json"))
            assert record["run"] == lock.run == "run-1"
            assert record["owner"]["pid"] == os.getpid()
            assert record["acquired"] == "2026-11-25T03:40:55.000+00:00"
            assert record["expires"] == "2026-11-25T03:50:55.000+00:00"
            assert record["released"] is None
        assert json.loads(files.read("locks/0000000001.json"))["released"] is not None

    def test_the_other_one_is_told(self, files, clock):
        message = (
            r"^STORE is locked by run run-1 \(\S+@\S*, process \d+\) since 2026-11-25T03:40:55\.000"
            r"\+00:00, until 2026-11-25T03:50:55\.000\+00:00 unless renewed: wait for that run, or "
        )
        second = lock_of(files, "run-2", clock)
        with lock_of(files, "run-1", clock) as lock:
            with pytest.raises(StoreLocked, match=message):
                second.acquire()
            lock.check()
            with pytest.raises(LockLost, match="run-2 no longer holds the lock"):
                second.check()
        with second:
            second.check()
        assert lock_files(files) == ["0000000002.json"]

    def test_released_after_an_error(self, files, clock):
        with pytest.raises(RuntimeError), lock_of(files, "run-1", clock):
            raise RuntimeError
        with lock_of(files, "run-2", clock):
            pass

    def test_a_lock_can_be_taken_again(self, files, clock):
        lock = lock_of(files, "run", clock)
        for _ in range(3):
            with lock:
                lock.check()
            with pytest.raises(LockLost, match="STORE: run run no longer holds the lock"):
                lock.check()
        lock.release()

    def test_renewed_by_its_thread(self, files):
        lock = StoreLock(files, "STORE", "run", ttl=timedelta(seconds=0.6))
        with lock:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                with pytest.raises(StoreLocked):
                    StoreLock(files, "STORE", "other").acquire()
                time.sleep(0.05)
            lock.check()
            assert lock_files(files) == ["0000000001.json"]
        names = [thread.name for thread in threading.enumerate()]
        assert "renew the lock of STORE" not in names

    def test_the_thread_outlives_a_failure(self, files, monkeypatch, caplog):
        calls = []
        real = LocalFiles.replace

        def replace_(self, path, data):
            calls.append(path)
            if len(calls) == 1:
                raise OSError("the server is away")
            real(self, path, data)

        monkeypatch.setattr(LocalFiles, "replace", replace_)
        lock = StoreLock(files, "STORE", "run", ttl=timedelta(seconds=0.6))
        with lock:
            before = json.loads(files.read("locks/0000000001.json"))["expires"]
            end = time.monotonic() + 10
            while len(calls) < 3 and time.monotonic() < end:
                time.sleep(0.02)
            assert json.loads(files.read("locks/0000000001.json"))["expires"] > before
        assert "cannot renew the lock of STORE, trying again: the server is away" in caplog.text


class TestLosing:
    def test_taken_over_by_another(self, files, clock):
        lock = lock_of(files, "slow", clock)
        with lock:
            clock.forward(minutes=11)
            with lock_of(files, "quick", clock) as quick:
                with pytest.raises(LockLost, match="run slow no longer holds the lock"):
                    lock.check()
                lock.release()
                quick.check()
                assert lock_files(files) == ["0000000002.json"]

    def test_expired_but_nobody_came(self, files, clock):
        with lock_of(files, "run", clock) as lock:
            clock.forward(hours=3)
            lock.check()
            assert lock_files(files) == ["0000000002.json"]
            record = json.loads(files.read("locks/0000000002.json"))
            assert record["expires"] == "2026-11-25T06:50:55.000+00:00"
            with pytest.raises(StoreLocked):
                lock_of(files, "other", clock).acquire()
        with lock_of(files, "other", clock):
            pass

    def test_deleted_by_hand(self, files, clock):
        with lock_of(files, "run", clock) as lock:
            shutil.rmtree(files.local("locks"))
            with pytest.raises(LockLost):
                lock.check()
        assert lock_files(files) == []

    @pytest.mark.parametrize("content", [b"", b"[]", b'{"token": "other"}', b"\xff"])
    def test_overwritten_by_hand(self, files, clock, content):
        with lock_of(files, "run", clock) as lock:
            files.replace("locks/0000000001.json", content)
            with pytest.raises(LockLost):
                lock.check()
        assert files.read("locks/0000000001.json") == content

    def test_a_renewal_that_comes_after_the_loss(self, files, clock):
        # Between its look and its writing the old owner slept: it writes the lower number.
        with lock_of(files, "slow", clock) as slow:
            old = files.read("locks/0000000001.json")
            clock.forward(minutes=11)
            with lock_of(files, "quick", clock) as quick:
                files.replace("locks/0000000001.json", old)
                quick.check()
                with pytest.raises(LockLost):
                    slow.check()
                with pytest.raises(StoreLocked, match="run quick"):
                    lock_of(files, "third", clock).acquire()


class TestTakingOver:
    def test_expired(self, files, clock):
        lock_of(files, "run-1", clock).acquire()
        clock.forward(minutes=9, seconds=59)
        with pytest.raises(StoreLocked):
            lock_of(files, "run-2", clock).acquire()
        clock.forward(seconds=1)
        with lock_of(files, "run-2", clock) as lock:
            lock.check()

    @pytest.mark.parametrize("changes", [{}, {"boot": None, "pid_namespace": None}])
    def test_the_process_is_gone(self, files, clock, changes):
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        lock = lock_of(files, "run-1", clock)
        lock.acquire()
        dead = replace(this_process(), pid=child.pid, **changes)
        rewrite(files, owner=asdict(dead))
        with lock_of(files, "run-2", clock):
            pass
        lock.release()

    def test_an_owner_elsewhere_is_waited_for(self, files, clock):
        lock_of(files, "run-1", clock).acquire()
        rewrite(files, owner=asdict(ELSEWHERE))
        with pytest.raises(StoreLocked, match="ann@elsewhere, process 77"):
            lock_of(files, "run-2", clock).acquire()

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[1]", b"{}", b'{"owner": 5}', b'{"owner": {"host": "a"}}', b"\xff\xfe"],
    )
    def test_garbage_counts_by_its_age(self, files, content):
        files.create("locks/0000000007.json", content)
        message = r"STORE/locks/0000000007\.json is unreadable, so somebody may hold .* wait until"
        with pytest.raises(StoreLocked, match=message):
            StoreLock(files, "STORE", "run").acquire()
        old = time.time() - LOCK_TTL.total_seconds() - 1
        os.utime(files.local("locks/0000000007.json"), (old, old))
        with StoreLock(files, "STORE", "run"):
            assert lock_files(files) == ["0000000008.json"]

    @pytest.mark.parametrize("changes", [{"expires": 5}, {"expires": "2026-11-25T03:50:55"}])
    def test_times_that_are_none(self, files, changes):
        StoreLock(files, "STORE", "run-1").acquire()
        rewrite(files, **changes)
        with pytest.raises(StoreLocked, match="is unreadable"):
            StoreLock(files, "STORE", "run-2").acquire()

    def test_files_that_are_no_locks(self, files, clock):
        for name in ("notes.txt", "12.json", "000000000x.json"):
            files.create(f"locks/{name}", b"")
        with lock_of(files, "run", clock) as lock:
            lock.check()

    def test_a_slow_taker_steps_back(self, files, clock, monkeypatch):
        # He saw lock 1 stale; until he creates 2, others have had 2 and 3.
        with lock_of(files, "a", clock):
            pass
        real = LocalFiles.create
        slow = lock_of(files, "slow", clock)
        quick = lock_of(files, "quick", clock)

        def create(self, path, data):
            monkeypatch.setattr(LocalFiles, "create", real)
            with lock_of(files, "b", clock):
                pass
            quick.acquire()
            assert lock_files(files) == ["0000000003.json"]
            return real(self, path, data)

        monkeypatch.setattr(LocalFiles, "create", create)
        with pytest.raises(StoreLocked, match="by run quick"):
            slow.acquire()
        quick.check()
        assert lock_files(files) == ["0000000003.json"]
        quick.release()

    def test_interrupted_while_taking(self, files, clock, monkeypatch):
        real = LocalFiles.create

        def create(self, path, data):
            real(self, path, data)
            raise KeyboardInterrupt

        monkeypatch.setattr(LocalFiles, "create", create)
        with pytest.raises(KeyboardInterrupt):
            lock_of(files, "run-1", clock).acquire()
        monkeypatch.undo()
        with lock_of(files, "run-2", clock):
            pass

    def test_others_are_always_first(self, files, clock, monkeypatch):
        monkeypatch.setattr(LocalFiles, "create", lambda self, path, data: False)
        with pytest.raises(StoreLocked, match="other runs keep taking the lock: try again later"):
            lock_of(files, "run", clock).acquire()

    def test_gone_between_the_look_and_the_reading(self, files, clock, monkeypatch):
        lock_of(files, "run-1", clock).acquire()
        real = LocalFiles.read

        def read(self, path):
            monkeypatch.setattr(LocalFiles, "read", real)
            raise FileNotFoundError(path)

        monkeypatch.setattr(LocalFiles, "read", read)
        with pytest.raises(StoreLocked, match="by run run-1"):
            lock_of(files, "run-2", clock).acquire()

    def test_garbage_gone_before_its_age_is_seen(self, files, clock, monkeypatch):
        files.create("locks/0000000001.json", b"")
        real = LocalFiles.modified

        def modified(self, path):
            monkeypatch.setattr(LocalFiles, "modified", real)
            self.remove(path)
            raise FileNotFoundError(path)

        monkeypatch.setattr(LocalFiles, "modified", modified)
        with lock_of(files, "run", clock):
            pass


ROUNDS = 60


def race(root, gate, results, me):
    """One of the takers: each round all start at the same stale lock."""
    files = LocalFiles(root)
    for round_ in range(ROUNDS):
        gate.wait(timeout=180)
        lock = StoreLock(files, "STORE", f"{me}-{round_}")
        try:
            lock.acquire()
            lock.check()
            results.put((round_, me))
        except StoreLocked:
            pass
        gate.wait(timeout=180)
        # It was won; it becomes stale for the next round, as if its owner had been killed.
        if lock._number:
            path = f"locks/{lock._number:010}.json"
            record = json.loads(files.read(path))
            record["owner"]["started"] = 1
            files.replace(path, json.dumps(record).encode())
            lock._heartbeat.stop()


def test_takers_of_a_stale_lock_race(tmp_path):
    """Exactly one wins, every time."""
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(3), context.Queue()
    takers = [
        context.Process(target=race, args=(tmp_path, gate, results, me), daemon=True)
        for me in range(3)
    ]
    for taker in takers:
        taker.start()
    won = [results.get(timeout=180) for _ in range(ROUNDS)]
    for taker in takers:
        taker.join(timeout=180)
        assert taker.exitcode == 0
    assert results.empty()
    assert sorted(round_ for round_, _ in won) == list(range(ROUNDS))
    assert LocalFiles(tmp_path).names("locks") == [f"{ROUNDS:010}.json"]


class TestOwners:
    def test_this_process_lives(self):
        me = this_process()
        assert life_of(me) is Life.ALIVE
        assert parse(OWNER, json.dumps(asdict(me)).encode()) == me
        assert str(me) == f"{me.user}@{me.host}, process {os.getpid()}"

    def test_a_later_process_of_the_same_number(self):
        me = this_process()
        assert me.started is not None
        assert life_of(replace(me, started=me.started - 1)) is Life.DEAD

    def test_a_killed_process_that_nobody_waited_for(self):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        owner = replace(this_process(), pid=child.pid, started=owner_module._state_of(child.pid)[1])
        try:
            assert life_of(owner) is Life.ALIVE
            os.kill(child.pid, signal.SIGKILL)
            end = time.monotonic() + 10
            while life_of(owner) is not Life.DEAD and time.monotonic() < end:
                time.sleep(0.01)
            assert life_of(owner) is Life.DEAD
        finally:
            child.communicate()
        assert life_of(owner) is Life.DEAD

    @pytest.mark.parametrize(
        "changes",
        [
            {"boot": "another"},
            {"pid_namespace": "pid:[1]"},
            {"boot": None, "host": "elsewhere"},
            {"pid_namespace": None, "host": "elsewhere"},
            {"pid_namespace": None, "boot": "another"},
        ],
    )
    def test_other_machines_and_containers_are_unknown(self, changes):
        # Not even a number that nobody has makes it dead.
        owner = replace(this_process(), pid=2**30, **changes)
        assert life_of(owner) is Life.UNKNOWN

    @pytest.mark.parametrize("pid", [0, -1, 2**30, 2**80])
    def test_numbers_that_no_process_has(self, pid):
        assert life_of(replace(this_process(), pid=pid)) is Life.DEAD

    def test_without_proc_the_name_of_the_host_has_to_do(self, monkeypatch, tmp_path):
        monkeypatch.setattr(owner_module, "PROC", tmp_path)
        monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path))
        me = this_process()
        assert (me.started, me.boot, me.pid_namespace) == (None, None, None)
        assert life_of(me) is Life.ALIVE
        assert life_of(replace(me, started=5)) is Life.ALIVE
        assert life_of(replace(me, pid=2**30)) is Life.DEAD
        assert life_of(replace(me, host="elsewhere")) is Life.UNKNOWN
        assert life_of(ELSEWHERE) is Life.UNKNOWN

    def test_a_process_of_another_user(self, monkeypatch):
        def kill(pid, number):
            raise PermissionError

        monkeypatch.setattr(os, "kill", kill)
        assert life_of(this_process()) is Life.ALIVE

    def test_a_process_that_the_system_hides(self, monkeypatch):
        # /proc mounted with hidepid shows other users' processes to kill() alone.
        def hidden(pid):
            raise psutil.NoSuchProcess(pid)

        me = this_process()
        monkeypatch.setattr(psutil, "Process", hidden)
        assert life_of(me) is Life.ALIVE

    def test_a_clock_that_was_set_makes_nobody_dead(self, monkeypatch):
        me = this_process()
        boot = psutil.boot_time()
        monkeypatch.setattr("psutil._psplatform.boot_time", lambda: boot + 3600)
        assert this_process() == me
        assert life_of(me) is Life.ALIVE

    def test_a_user_without_a_name(self, monkeypatch):
        def getuser():
            raise KeyError("uid not found")

        monkeypatch.setattr("getpass.getuser", getuser)
        assert this_process().user == str(os.getuid())

    @pytest.mark.parametrize("record", [None, [], {}, {"host": "a", "user": "b", "pid": "5"}])
    def test_records_of_nobody(self, record):
        with pytest.raises(
            ValueError, match=r"(Field required|Input should be .*|not a JSON object)$"
        ):
            parse(OWNER, json.dumps(record).encode())

    def test_unusable_details_are_left_out(self):
        record = {"host": "a", "user": "b", "pid": 5, "started": "x", "boot": 3}
        assert parse(OWNER, record) == Owner("a", "b", 5)
