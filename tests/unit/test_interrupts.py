"""Ctrl-C and SIGTERM: what they raise, when they are not heard, and what is said of them."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from als_spark.cli.program import (
    Interrupted,
    interrupts_raise,
    interrupts_wait,
    run_program,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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


def test_signals_belong_to_the_main_thread():
    done = []

    def elsewhere():
        with interrupts_wait(), interrupts_raise() as came:
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
