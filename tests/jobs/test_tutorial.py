"""The tutorial notebook runs, from an empty folder, and tells what it promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
EXECUTE = Path(sys.executable).parent / "jupyter-execute"
Cells = list[dict[str, Any]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """Its cells of code after a run in a kernel of this interpreter; a cell that fails ends it."""
    folder = tmp_path_factory.mktemp("tutorial")
    copied = folder / NOTEBOOK.name
    copied.write_bytes(NOTEBOOK.read_bytes())
    subprocess.run(
        [EXECUTE, "--inplace", "--timeout=300", copied.name],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return cells_of(copied)


def cells_of(notebook: Path) -> Cells:
    """Its cells of code."""
    cells: Cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def told(cells: Cells) -> str:
    """Whatever the cells print or show as text."""
    outputs = [output for cell in cells for output in cell["outputs"]]
    texts = (o.get("text") or o.get("data", {}).get("text/plain", []) for o in outputs)
    return "".join(line for text in texts for line in [*text, "\n"])


def number_after(words: str, cells: Cells) -> float:
    found = re.search(rf"{words} (\d+\.\d+)", told(cells))
    assert found is not None, told(cells)
    return float(found[1])


def test_it_predicts_and_recommends_what_was_planted(executed: Cells) -> None:
    # The noise is 0.4, half stars and the ends of the scale add to it.
    assert 0.4 < number_after("test RMSE:", executed) < 0.7
    # Ten of the films by chance are a third of one.
    assert number_after("found on average:", executed) > 5
    assert "(True, " in told(executed)


def test_the_pages_show_such_a_run(executed: Cells) -> None:
    shown = cells_of(NOTEBOOK)
    assert [cell["execution_count"] for cell in shown] == [*range(1, len(shown) + 1)]
    kinds, shown_kinds = (
        [{*output.get("data", {})} for cell in cells for output in cell["outputs"]]
        for cells in (executed, shown)
    )
    assert sum("image/png" in kind for kind in shown_kinds) == 3
    assert sum("image/png" in kind for kind in kinds) == 3
    assert number_after("test RMSE:", shown) == pytest.approx(
        number_after("test RMSE:", executed), abs=0.02
    )
