"""What the benchmarks share: the machine they ran on, and how they write what they found."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

ROOT = Path(__file__).resolve().parent.parent.parent
MOVIELENS = ROOT.parent / "shared" / "data" / "ml-latest-small" / "ratings.csv"


def machine() -> dict[str, Any]:
    """Describe the machine and its BLAS: a figure means nothing without them."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    blas = [
        {key: library.get(key) for key in ("internal_api", "version", "num_threads")}
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas,
    }


def write_result(folder: Path, question: str, result: dict[str, Any]) -> Path:
    """Write ``QUESTION.json`` with the machine beside the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{question}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    print(f"written: {path}", file=sys.stderr)
    return path
