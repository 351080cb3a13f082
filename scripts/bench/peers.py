"""The peers of the accuracy benchmark, each in an environment of its own below ``.venv-peers``.

Their packages would not all go into one environment. They are installed when they are first asked
for; a peer that cannot be installed is told of and left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts.bench.common import ROOT

FIT = Path(__file__).with_name("peer_fit.py")
ENVIRONMENTS = ROOT / ".venv-peers"
SURPRISE = ("scikit-surprise==1.1.5", "pandas<3")


class Peer(NamedTuple):
    """A method of another library.

    ``fit`` is its function in peer_fit.py, ``packages`` what its environment has; none: that of
    this project. The settings of ``points`` are chosen from by an inner part of the training
    ratings.
    """

    fit: str
    packages: tuple[str, ...]
    points: list[dict[str, Any]]


def grid(**choices: list[Any]) -> list[dict[str, Any]]:
    """Return every combination of settings."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


PEERS = {
    "Surprise SVD": Peer(
        "surprise",
        SURPRISE,
        grid(
            algorithm=["SVD"],
            n_factors=[50, 100],
            n_epochs=[20, 50],
            reg_all=[0.02, 0.05, 0.1],
        ),
    ),
    "Surprise SVD++": Peer(
        "surprise",
        SURPRISE,
        grid(algorithm=["SVDpp"], n_factors=[20], n_epochs=[20], reg_all=[0.02, 0.05, 0.1]),
    ),
    "Surprise KNNBaseline": Peer(
        "surprise",
        SURPRISE,
        grid(
            algorithm=["KNNBaseline"],
            k=[40],
            sim_options=[
                {"name": "pearson_baseline", "user_based": user_based}
                for user_based in (True, False)
            ],
        ),
    ),
    "MLlib ALS": Peer("mllib", (), grid(rank=[8, 16], regParam=[0.1, 0.15, 0.2])),
    "LensKit BiasedMF": Peer(
        "lenskit",
        ("lenskit==2025.8.1",),
        grid(embedding_size=[8, 16, 50], regularization=[0.1, 0.2, 0.4], epochs=[20]),
    ),
    "myFM": Peer("myfm", ("myfm==0.4.0",), [{"rank": 16, "implicit": False, "n_iter": 200}]),
    "myFM, features": Peer(
        "myfm", ("myfm==0.4.0",), [{"rank": 16, "implicit": True, "n_iter": 200}]
    ),
}


def interpreter_of(peer: Peer) -> Path | None:
    """Return the Python that has the peer, after installing it; None if that cannot be done."""
    if not peer.packages:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer.fit
    python, stamp = folder / "bin" / "python", folder / "installed.json"
    if stamp.is_file() and json.loads(stamp.read_text()) == list(peer.packages):
        return python
    print(f"installing {', '.join(peer.packages)} into {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *peer.packages]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        print("\n".join(done.stderr.strip().splitlines()[-3:]), file=sys.stderr)
        return None
    stamp.write_text(json.dumps(list(peer.packages)))
    return python


def fit_peer(
    peer: Peer, python: Path, train: tuple[Any, ...], test: tuple[Any, ...], inner: Any, n: Any
) -> tuple[Any, dict[str, Any]]:
    """Train a peer: predictions of the test pairs, and its settings and seconds.

    ``train`` and ``test`` are users, items and values; ``inner`` tells which training ratings the
    settings are chosen by; ``n`` are the numbers of users and items.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        named = zip(("users", "items", "values"), train, strict=True)
        held = zip(("test_users", "test_items", "test_values"), test, strict=True)
        np.savez(
            folder / "problem.npz", inner=inner, sizes=np.array(n), **dict(named), **dict(held)
        )
        (folder / "points.json").write_text(json.dumps(peer.points))
        command = [str(python), str(FIT), peer.fit, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_plain())
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return np.load(folder / "predicted.npy"), json.loads((folder / "found.json").read_text())


def _plain() -> dict[str, str]:
    """Return the environment without this project's path, which theirs do not need."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
