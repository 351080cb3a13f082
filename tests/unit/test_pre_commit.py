"""The hooks before a commit: they download nothing, and find what they are for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

CONFIG = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
HOOKS: dict[str, dict[str, Any]] = {
    hook["id"]: hook for repository in CONFIG["repos"] for hook in repository["hooks"]
}


def test_every_hook_is_local_and_needs_no_installation() -> None:
    assert {repository["repo"] for repository in CONFIG["repos"]} == {"local"}
    assert {hook["language"] for hook in HOOKS.values()} == {"system", "pygrep"}


@pytest.mark.parametrize("name", ["ruff-check", "ruff-format", "mypy"])
def test_the_tools_are_those_of_the_environment(name: str) -> None:
    program = Path(HOOKS[name]["entry"].split()[0])
    assert program.parent == Path(".venv/bin")
    assert (Path(sys.prefix) / "bin" / program.name).is_file()


@pytest.mark.parametrize(
    ("name", "fault", "fine"),
    [
        ("trailing-whitespace", "a \n", "a b\n"),
        ("trailing-whitespace", "a\t\n", "\n"),
        ("end-of-file", "a\nb", "a\nb\n"),
        ("merge-conflict", "<<<<<<< HEAD\n", "a << b\n"),
        ("merge-conflict", "a\n>>>>>>> other\n", "=======\n"),
        ("private-key", "-----BEGIN RSA PRIVATE " + "KEY-----\n", "a private key\n"),
    ],
)
def test_a_pattern_finds_its_fault(name: str, fault: str, fine: str) -> None:
    # As pre-commit does: line by line, or the whole file with --multiline.
    whole = "--multiline" in HOOKS[name].get("args", [])
    pattern = re.compile(HOOKS[name]["entry"], re.MULTILINE | re.DOTALL if whole else 0)

    def finds(text: str) -> bool:
        return any(pattern.search(part) for part in ([text] if whole else text.splitlines()))

    assert finds(fault)
    assert not finds(fine)


@pytest.mark.parametrize("name", ["shell-syntax", "large-file"])
def test_a_command_finds_its_fault_in_any_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "fine file.sh").write_text("echo fine\n")
    (tmp_path / "bad file.sh").write_text("if true; then\n" + "# more\n" * 100_000)
    for files, code in ((["fine file.sh"], 0), (["bad file.sh", "fine file.sh"], 1)):
        # The rest of the line is read as pre-commit reads it, with shell quotes.
        command = ["sh", "-c", f'{HOOKS[name]["entry"]} "$@"', "hook", *files]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert (result.returncode != 0) == bool(code), result.stderr
