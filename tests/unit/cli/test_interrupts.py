"""Ctrl-C and SIGTERM: the flag that they set, who reads it, and what a second one does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from als_spark.cli import interrupts
from als_spark.cli.interrupts import (
    Interrupted,
    signals_ignored,
    stop_on_signals,
)
from als_spark.report.progress import ProgressReporter
from als_spark.train.records import IterationRecord
from tests.drills.interrupts import signals_raise

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(interrupts, "PATIENCE", 0.1)


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_where_the_flag_is_read_and_nowhere_else(number):
    with stop_on_signals() as stop:
        stop.check()
        assert not stop.requested
        send(number)
        assert stop.requested
        with pytest.raises(Interrupted):
            stop.check()
        # What a stopped run still has to do is not stopped again.
        stop.check()


def test_a_thread_of_the_job_that_reads_the_flag_leaves_it_for_the_main_one():
    with stop_on_signals() as stop:
        send()
        thread = threading.Thread(target=stop.check)
        thread.start()
        thread.join()
        with pytest.raises(Interrupted):
            stop.check()


def test_a_flag_that_is_acknowledged_stops_nothing():
    with stop_on_signals() as stop:
        send()
        stop.acknowledge()
        stop.check()
        assert stop.requested


def test_a_second_ctrl_c_raises_on_the_spot(monkeypatch):
    monkeypatch.setattr(interrupts, "SAME_KEYSTROKE", 0.0)
    with stop_on_signals() as stop:
        send(signal.SIGINT)
        stop.acknowledge()
        with pytest.raises(Interrupted):
            send(signal.SIGINT)


@pytest.mark.parametrize("second", SIGNALS)
def test_a_signal_that_two_parents_pass_on_is_one(second):
    with stop_on_signals() as stop:
        send(signal.SIGINT)
        send(second)
        assert stop.requested


def test_a_second_sigterm_changes_nothing(monkeypatch):
    monkeypatch.setattr(interrupts, "SAME_KEYSTROKE", 0.0)
    with stop_on_signals():
        send()
        send()


@pytest.mark.usefixtures("patience")
def test_a_long_call_of_spark_is_cancelled_until_it_ends():
    cancelled = threading.Semaphore(0)
    with stop_on_signals() as stop:
        stop.attach(cancelled.release)
        began = time.monotonic()
        send()
        # A call that launches job after job.
        assert cancelled.acquire(timeout=10)
        assert time.monotonic() - began >= 0.1
        assert cancelled.acquire(timeout=10)
        with pytest.raises(Interrupted):
            stop.check()
    time.sleep(0.2)
    while cancelled.acquire(blocking=False):
        pass
    time.sleep(0.2)
    assert not cancelled.acquire(blocking=False)


@pytest.mark.usefixtures("patience")
def test_a_call_that_ends_in_time_is_not_cancelled():
    cancelled = []
    with stop_on_signals() as stop:
        stop.attach(lambda: cancelled.append(True))
        send()
        with pytest.raises(Interrupted):
            stop.check()
        time.sleep(0.3)
    assert cancelled == []


@pytest.mark.usefixtures("patience")
def test_a_jvm_that_is_gone_cannot_be_asked_to_cancel():
    asked = []

    def cancel():
        asked.append(True)
        raise ConnectionError("Answer from Java side is empty")

    with stop_on_signals() as stop:
        stop.attach(cancel)
        send()
        assert wait_for(lambda: len(asked) > 1)


def test_a_spark_that_takes_ctrl_c_for_itself_gives_it_back():
    with stop_on_signals() as stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.attach(lambda: None)
        send(signal.SIGINT)
        assert stop.requested


def test_a_block_inside_another_shares_its_flag():
    with stop_on_signals() as outer:
        send()
        with stop_on_signals() as inner, pytest.raises(Interrupted):
            inner.check()
        assert inner is outer


@pytest.mark.parametrize("number", SIGNALS)
def test_nothing_is_heard_while_a_record_is_being_ended(number):
    with stop_on_signals() as stop:
        with signals_ignored():
            send(number)
        assert not stop.requested


@pytest.mark.parametrize("number", SIGNALS)
def test_programs_without_spark_are_stopped_at_once(number):
    with signals_raise(), pytest.raises(Interrupted):
        send(number)


def test_signals_belong_to_the_main_thread():
    done = []

    def elsewhere():
        with signals_ignored(), stop_on_signals() as stop:
            stop.attach(lambda: None)
            stop.check()
            done.append(stop.requested)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [False]


def test_the_job_is_neither_profiled_nor_traced():
    with stop_on_signals():
        send()
        assert sys.getprofile() is None
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


class TestWhereTheFlagIsRead:
    def test_at_the_begin_of_a_phase(self):
        done = []
        with stop_on_signals() as stop, ProgressReporter(1) as progress:
            progress.checkpoint = stop.check
            with progress.phase("packing"):
                send()
                done.append("packed")
            with pytest.raises(Interrupted), progress.phase("training"):
                done.append("trained")
            # The results of what was finished are written.
            with progress.phase("writing results"):
                done.append("written")
        assert done == ["packed", "written"]
        assert list(progress.phase_seconds) == ["packing", "writing results"]

    def test_with_each_iteration(self):
        record = IterationRecord(0, 2, 0.5, 1, 3.0, 1.0, 0.1)
        with stop_on_signals() as stop, ProgressReporter(1) as progress:
            progress.checkpoint = stop.check
            progress.on_iteration(record)
            send()
            with pytest.raises(Interrupted):
                progress.on_iteration(record)
