"""Ctrl-C and SIGTERM for the drills, which do not call Spark themselves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from als_spark.cli.interrupts import Interrupted


@contextmanager
def signals_raise() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM raise at once."""

    def raise_it(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, raise_it) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
