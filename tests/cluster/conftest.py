"""Local mode, which the clusters are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

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
