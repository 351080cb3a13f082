"""Local mode, which the clusters are compared with, and the session of tests on remote files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.cluster.documented import in_local_mode
from tests.spark.session import make_session


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of docs/clusters.md write in local mode."""
    folder = tmp_path_factory.mktemp("local")
    session = make_session()
    try:
        in_local_mode(folder)
    finally:
        session.stop()
    return folder


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    session = make_session()
    yield session
    session.stop()
