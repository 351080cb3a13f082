"""Ctrl-C and SIGTERM: what they raise, when they are not heard, and what is said of them."""

from __future__ import annotations

import cProfile
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from als_spark.cli import program
from als_spark.cli.program import (
    Interrupted,
    interrupts_noted,
    interrupts_raise,
    interrupts_wait,
    run_program,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Finalised:
    """Sends a signal where what it raises is lost."""

    def __del__(self):
        kill_self()()


@pytest.mark.parametrize("number", SIGNALS)
def test_nothing_is_heard_while_a_record_is_being_ended(number):
    before = [signal.getsignal(n) for n in SIGNALS]
    with interrupts_raise() as came:
        with interrupts_wait():
            os.kill(os.getpid(), number)
        assert not came()
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), number)
        assert came()
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_noted_is_raised_when_there_is_somebody_to_hear_it(number):
    with interrupts_noted() as raise_noted:
        raise_noted()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted):
            raise_noted()
        # Inside, as always.
        with interrupts_raise(), pytest.raises(Interrupted):
            os.kill(os.getpid(), number)


def call_spark(*steps):
    """Take some steps, all of the standard library, in what looks like a call of PySpark."""
    namespace = {"__name__": "py4j.clientserver"}
    exec("def call(*steps):\n    for step in steps:\n        step()", namespace)
    namespace["call"](*steps)


def kill_self(number=signal.SIGTERM):
    return partial(os.kill, os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_call_of_spark_ends_before_an_interrupt_is_raised(number):
    done = []

    def work():
        call_spark(kill_self(number), partial(time.sleep, 0.05), partial(done.append, "answered"))
        done.append("and gone on")

    with interrupts_raise() as came, pytest.raises(Interrupted):
        # Called by PySpark itself, as an estimator is.
        call_spark(work)
    assert came()
    assert done == ["answered"]


def test_a_job_can_be_profiled():
    profile = cProfile.Profile()
    with profile:
        with interrupts_raise():
            Path()
        assert sys.getprofile() is profile
    assert profile.getstats()


def test_a_long_call_of_spark_is_broken_off(monkeypatch):
    monkeypatch.setattr(program, "_PATIENCE", 0.1)
    begun = time.monotonic()
    with interrupts_raise(), pytest.raises(Interrupted):
        call_spark(kill_self(), partial(time.sleep, 10))
    assert 0.1 <= time.monotonic() - begun < 5


@pytest.mark.parametrize("heard", [interrupts_wait, nullcontext])
def test_what_is_lost_in_a_finaliser_does_not_outlive_the_block(monkeypatch, heard):
    monkeypatch.setattr(program, "_PAUSE", 0.5)
    before = signal.getsignal(signal.SIGALRM)
    with interrupts_raise() as came:
        Finalised()
        with heard():
            time.sleep(0.6 * (heard is interrupts_wait))
    assert came()
    # Without a handler it would be the end of the process.
    assert signal.getsignal(signal.SIGALRM) == before
    time.sleep(0.6)


def test_an_interrupt_that_is_lost_in_a_finaliser_comes_again():
    def sleep():
        Finalised()
        time.sleep(10)

    before = sys.unraisablehook
    with interrupts_raise() as came, pytest.raises(Interrupted):
        sleep()
    assert came()
    assert sys.unraisablehook == before


def test_what_else_goes_wrong_in_a_finaliser_is_told_as_always(monkeypatch):
    class Finalised:
        def __del__(self):
            raise ValueError("forgotten")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(str(lost.exc_value)))
    with interrupts_raise():
        Finalised()
    assert told == ["forgotten"]


def test_signals_belong_to_the_main_thread():
    done = []

    def elsewhere():
        with interrupts_wait(), interrupts_noted(), interrupts_raise() as came:
            done.append(came())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [False]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Interrupted(), "nothing written"),
        (KeyboardInterrupt(), "nothing written"),
        (Interrupted("stopped; version 7 was published"), "stopped; version 7 was published"),
    ],
)
def test_an_interrupt_may_say_what_has_become_of_the_run(capsys, error, said):
    def work() -> int:
        raise error

    assert run_program("retrain", work, "nothing written") == 130
    assert capsys.readouterr().err == f"retrain: {said}\n"
