"""The console command ``als-spark COMMAND [options]``, and ``python -m als_spark``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import als_spark

COMMANDS = {
    "inspect": "look at ratings before anything is trained on them",
    "sweep": "train a grid of models (rank x lambda), report their errors, keep the best",
    "train": "train one model, into a model store or a folder",
    "retrain": "the nightly job: check new ratings, train, publish unless it is worse",
    "evaluate": "measure a stored model on ratings",
    "recommend": "write the best items of every user",
    "export": "write a model's vectors for an index of nearest neighbours",
    "store": "list, show, verify, prune a model store, and roll it back",
}
USAGE = "\n".join(
    [
        "usage: als-spark COMMAND [options]",
        "",
        "Alternating least squares matrix factorisation on Apache Spark.",
        "",
        "commands (als-spark COMMAND --help lists the options):",
        *(f"  {name:<11}{text}" for name, text in COMMANDS.items()),
        "",
        "options:",
        "  -h, --help show this help message and exit",
        "  --version  show the version and exit",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; see its module in :mod:`als_spark.cli` for the exit codes.

    Parameters
    ----------
    argv : sequence of str, optional
        Command and options; those of the process if not given.
    """
    command, *options = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    if command == "--version":
        print(f"als-spark {als_spark.__version__}")
        return 0
    if command not in COMMANDS:
        print(
            f"als-spark: {command}: no such command: use one of {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    code: int = import_module(f"als_spark.cli.{command}").main(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
