"""What every job does around its work: messages and exit codes."""

from __future__ import annotations

import ast
import errno
import io
import logging
import sys

import pytest

from als_spark.cli.interrupts import Interrupted
from als_spark.cli.program import configure_logging, run_program, say
from als_spark.errors import ConfigError, LockLost, StoreLocked
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Interrupted(), "nothing written"),
        (KeyboardInterrupt(), "nothing written"),
        (Interrupted("stopped; version 7 was published"), "stopped; version 7 was published"),
    ],
)
def test_an_interrupt_may_say_what_has_become_of_the_run(capsys, error, said):
    def work() -> int:
        raise error

    assert run_program("retrain", work, "nothing written") == 130
    assert capsys.readouterr().err == f"retrain: {said}\n"


SECRETS = "s3a://KEY:SECRET@box/a?X-Amz-Signature=SECRET --conf fs.s3a.secret.key=SECRET"


class TestSecrets:
    @pytest.mark.parametrize(
        "error",
        [
            ConfigError(SECRETS),
            StoreLocked(SECRETS),
            LockLost(SECRETS),
            Interrupted(SECRETS),
            ValueError(SECRETS),
            OSError(5, "Input/output error", SECRETS),
        ],
    )
    def test_messages_and_tracebacks(self, capsys, error):
        def work() -> int:
            raise error

        assert run_program("train", work, "") != 0
        said = capsys.readouterr().err
        assert "***@box/a?X-Amz-Signature=***" in said
        assert "SECRET" not in said.replace("SECRETS", "")

    def test_results(self, capsys):
        say(SECRETS)
        assert "SECRET" not in capsys.readouterr().out

    def test_the_log(self, capsys, monkeypatch):
        root = logging.getLogger()
        monkeypatch.setattr(root, "handlers", [])
        configure_logging()
        logging.getLogger("als_spark.x").info("read %s", SECRETS)
        try:
            raise ValueError(SECRETS)
        except ValueError:
            logging.getLogger("als_spark.x").exception("not read")
        said = capsys.readouterr().err
        assert "read s3a://***@box" in said
        assert "SECRET" not in said.replace("SECRETS", "")

    def test_jobs_print_nothing_else(self):
        """All that a job prints goes through the two functions of the program."""
        for path in (ROOT / "als_spark" / "cli").rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if is_print(node)]
            assert path.name == "program.py" or calls == [], path


def is_print(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    )


def test_a_full_disk_is_one_line_and_unusable_input(capsys):
    def work() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/out/results.json")

    assert run_program("sweep", work, "") == 2
    assert capsys.readouterr().err == (
        "sweep: /out/results.json: No space left on device: free some space, and run it again\n"
    )


def test_what_the_terminal_cannot_show_is_escaped(monkeypatch):
    out, err = (io.TextIOWrapper(io.BytesIO(), "ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    def work() -> int:
        say("λ = 1, ν = 2, \udce9")
        raise ConfigError("λ")

    assert run_program("sweep", work, "") == 2
    for stream, bytes_ in ((out, rb"\u03bb = 1, \u03bd = 2, \udce9"), (err, rb"sweep: \u03bb")):
        stream.flush()
        assert stream.buffer.getvalue() == bytes_ + b"\n"
