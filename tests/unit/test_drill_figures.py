"""What drills have besides what they try out: the file of their figures, the order of kills."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from als_spark.errors import ConfigError
from tests.drills import fortnight, kills
from tests.drills.driver import SHARES, dealt
from tests.drills.figures import check_figures, write_figures


def test_figures_are_written_over_figures_only(tmp_path):
    path = tmp_path / "new" / "figures.json"
    for n in (1, 2):
        write_figures(path, {"problems": [], "n": n})
        assert json.loads(path.read_text())["n"] == n
    check_figures(None)


@pytest.mark.parametrize("content", ["user,item,rating\n", "{}", "[]", ""])
@pytest.mark.parametrize("drill", [fortnight, kills])
def test_a_file_of_somebody_else_is_refused_at_once(tmp_path, capsys, drill, content):
    path = tmp_path / "ratings.csv"
    path.write_text(content)
    assert drill.main(["--output", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is there already and holds no figures of a drill: give a new file" in line
    assert path.read_text() == content
    with pytest.raises(ConfigError):
        write_figures(path, {"problems": []})


@pytest.mark.parametrize("seed", range(5))
def test_kills_of_the_driver_are_dealt_by_shares(seed):
    whole = dealt(SHARES, 20, seed)
    assert Counter(whole) == SHARES
    assert whole == dealt(SHARES, 20, seed)
    # A few kills hit each of them.
    assert set(dealt(SHARES, 3, seed)) == set(SHARES)
    assert len({tuple(dealt(SHARES, 20, other)) for other in range(5)}) == 5
