"""The table of docs/clusters.md is what the code says."""

from __future__ import annotations

from scripts.bench.plan_table import estimates, plan_table
from tests.conftest import ROOT


def test_the_page_has_the_table_of_the_code() -> None:
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    table = plan_table()
    assert table in page, f"put this into docs/clusters.md:\n{table}"


def test_what_the_page_says_of_the_table() -> None:
    small, large, largest = estimates()
    assert small.findings == []
    assert large.plan.exchange == {"user": "broadcast", "item": "shuffle"}
    assert large.seconds["traffic"] > large.seconds["computing"]
    assert not large.findings
    assert any("the driver's" in found.words for found in largest.findings)
    ids = sum(
        size
        for name in ("driver Python", "driver JVM")
        for part, size in largest.memory[name].parts.items()
        if part.startswith("ids of all chunks")
    )
    assert ids > 10 * largest.resources.driver_memory
