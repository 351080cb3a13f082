"""Plots of the benchmarks, in the hand of the sweep's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from als_spark.report.drawing import new_figure, save_figure


def draw_shares(rows: list[dict[str, Any]], path: Path) -> None:
    """Placeholder."""
