"""What every job does around its work: messages and exit codes."""

from __future__ import annotations

import pytest

from als_spark.cli.interrupts import Interrupted
from als_spark.cli.program import run_program


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
