"""The one Spark session of the jobs' tests: ``main(argv)`` uses it and leaves it running.

And their pictures: those that nobody looks at are not drawn.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from matplotlib.figure import Figure
from pyspark.sql import SparkSession

from tests.spark.session import QUICK_START, make_session

for key, value in QUICK_START.items():
    os.environ.setdefault(key, value)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A session of two local cores."""
    session = make_session()
    yield session
    session.stop()


SAVEFIG = Figure.savefig
ONE_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def save_one_pixel(_: Figure, file: BinaryIO, **__: object) -> None:
    file.write(ONE_PIXEL)


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Figures are made as always but not drawn, which is a third of the time of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_one_pixel)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the tests that look at pictures."""
    monkeypatch.setattr(Figure, "savefig", SAVEFIG)
