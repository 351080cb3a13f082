"""Who hears of a fit; no Spark."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from als_spark import ALS, IterationRecord
from als_spark.ml.progress import watched


def record(point: int, iteration: int = 1) -> IterationRecord:
    return IterationRecord(point, 3, 0.1, iteration, 12.5, 1.0, 0.1)


def notebook(monkeypatch: pytest.MonkeyPatch, **config: Any) -> None:
    shell = SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


class TestCallbacks:
    def test_each_hears_of_its_model(self) -> None:
        heard: list[tuple[str, int]] = []
        models = {
            4: ALS(callback=lambda r: heard.append(("a", r.point))),
            6: ALS(),
            9: ALS(callback=lambda r: heard.append(("b", r.point))),
        }
        with watched(models) as on_iteration:
            assert on_iteration is not None
            for point in (9, 6, 4, 9):
                on_iteration(record(point))
        assert heard == [("b", 9), ("a", 4), ("b", 9)]

    def test_nobody_is_called_after_one_has_raised(self) -> None:
        heard: list[int] = []

        def stop(found: IterationRecord) -> None:
            heard.append(found.iteration)
            raise LookupError("enough")

        with watched({0: ALS(callback=stop)}) as on_iteration:
            assert on_iteration is not None
            with pytest.raises(LookupError, match="enough"):
                on_iteration(record(0, 1))
            on_iteration(record(0, 2))
        assert heard == [1]


class TestBar:
    @pytest.mark.parametrize(
        ("progress", "config", "shown"),
        [
            (None, None, False),
            (None, {"TerminalIPythonApp": {}}, False),
            (None, {"IPKernelApp": {}}, True),
            (False, {"IPKernelApp": {}}, False),
            (True, None, True),
        ],
    )
    def test_where_it_is_shown(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        progress: bool | None,
        config: dict[str, Any] | None,
        shown: bool,
    ) -> None:
        import tqdm.auto  # noqa: F401 - a bar of text, since no notebook is here yet

        if config is None:
            monkeypatch.delitem(sys.modules, "IPython", raising=False)
        else:
            notebook(monkeypatch, **config)
        with watched({0: ALS(maxIter=3, progress=progress), 1: ALS(progress=False)}) as heard:
            assert (heard is not None) == shown
            if heard is not None:
                for iteration in (1, 2):
                    heard(record(0, iteration))
                    heard(record(1, iteration))
        text = capsys.readouterr().err
        assert ("ALS: " in text) == shown
        if shown:
            assert "| 0/3 [" in text
            # Done before the cap.
            assert "| 2/2 [" in text
            # What nobody has asked for is wiped out at the end.
            assert (text.rpartition("\r")[0].rpartition("\r")[2].strip() == "") == (not progress)
            assert "rank 3, objective 12.5" in text

    def test_a_fit_that_fails_leaves_it_where_it_is(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail() -> None:
            with watched({0: ALS(maxIter=3, progress=True)}) as on_iteration:
                assert on_iteration is not None
                on_iteration(record(0))
                raise LookupError

        with pytest.raises(LookupError):
            fail()
        assert "| 1/3 [" in capsys.readouterr().err.rpartition("\r")[2]
