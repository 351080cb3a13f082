"""The peers of the accuracy benchmark: how settings are chosen, and what is kept from them."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from scripts.bench import peer_fit, peers
from scripts.bench.peers import PEERS, Peer, interpreter_of


def test_settings_are_those_best_on_the_inner_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, int, Any]] = []

    def fit(point: dict[str, float], train: Any, test: Any, sizes: tuple[int, int]) -> Any:
        assert sizes == (4, 3)
        seen.append((point["level"], train.values.size, test.values))
        return np.full(test.users.size, point["level"])

    rng = np.random.default_rng(0)
    inner = np.arange(12) % 4 == 0
    np.savez(
        tmp_path / "problem.npz",
        users=rng.integers(4, size=12),
        items=rng.integers(3, size=12),
        # The inner part is of another level than the rest.
        values=np.where(inner, 4.0, 2.0),
        test_users=np.array([0, 1]),
        test_items=np.array([2, 0]),
        test_values=np.array([2.0, 2.0]),
        inner=inner,
        sizes=np.array([4, 3]),
    )
    (tmp_path / "points.json").write_text(json.dumps([{"level": 2.0}, {"level": 4.0}]))
    monkeypatch.setitem(peer_fit.FITS, "levels", fit)
    peer_fit.main("levels", tmp_path)
    assert [(level, size) for level, size, _ in seen] == [(2.0, 9), (4.0, 9), (4.0, 12)]
    assert (seen[-1][2] == 0).all()
    assert np.load(tmp_path / "predicted.npy").tolist() == [4.0, 4.0]
    assert json.loads((tmp_path / "found.json").read_text())["point"] == {"level": 4.0}


def test_every_peer_has_a_function_and_settings() -> None:
    assert {peer.fit for peer in PEERS.values()} == set(peer_fit.FITS)
    assert all(peer.points for peer in PEERS.values())


def test_a_peer_that_cannot_be_installed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(peers.venv, "create", lambda folder, **_: folder.mkdir())
    answers = [CompletedProcess([], 1, "", "ERROR: no such version\n"), CompletedProcess([], 0)]
    monkeypatch.setattr(peers.subprocess, "run", lambda *_, **__: answers.pop(0))
    peer = Peer("nobody", ("nobody==1",), [{}])
    assert interpreter_of(peer) is None
    assert "ERROR: no such version" in capsys.readouterr().err
    (tmp_path / "nobody").rmdir()
    python = tmp_path / "nobody" / "bin" / "python"
    assert interpreter_of(peer) == python
    assert answers == []
    # Once is enough.
    assert interpreter_of(peer) == python
