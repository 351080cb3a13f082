"""The file of a drill's figures: nothing else is written over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from als_spark.cli.program import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from als_spark.errors import ConfigError

KEYS = ("problems",)
"""That the figures of every drill have."""


def check_figures(path: Path | None) -> None:
    """Refuse a file that is there already and holds something else than a drill's figures."""
    if path is None or not path.exists():
        return
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = None
    if not (isinstance(found, dict) and all(key in found for key in KEYS)):
        raise ConfigError(
            f"--output {path}: is there already and holds no figures of a drill: give a new file"
        )


def write_figures(path: Path, result: dict[str, Any]) -> None:
    """Write the figures, over those of an earlier drill too."""
    check_figures(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def exit_code_of(result: dict[str, Any], output: Path | None) -> int:
    """Write the figures of a drill, if asked for; return its exit code."""
    if output is not None:
        write_figures(output, result)
    if result["problems"]:
        return EXIT_FAILED
    return EXIT_INTERRUPTED if result["stopped"] else EXIT_DONE
