"""Reading the Markdown pages of the project, for the tests of what they say."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        ROOT / "findings" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
FENCE = re.compile(r"^```[^\n]*\n.*?^```[ ]*$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r"^```\{include\} (\S+)\n.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
NAMED_PATH = re.compile(
    r"(?:als_spark|conf|docs|findings|jobs|scripts|tests|\.ci)/[\w./-]*|[A-Z]+\.md|[\w-]+\.toml"
)
PLACEHOLDER = re.compile(r"\bNAME\b")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    """What stands between backticks; a line break inside is a blank."""
    return [" ".join(words.split()) for words in CODE.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a code host and the built pages have them."""
    included = INCLUDE.findall(page.read_text(encoding="utf-8"))
    found = set().union(*(anchors(page.parent / path) for path in included))
    for heading in re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def broken_links(page: Path) -> Iterator[str]:
    """Tell of every link to a file or a heading of the project that is not there."""
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists():
            yield f"{target}: there is no {path}"
        elif anchor and anchor not in anchors(file):
            yield f"{target}: {file.name} has no heading of that anchor"


def missing_files(page: Path) -> Iterator[str]:
    """Tell of every file of the project that a page names and that is not there."""
    for words in inline_code(page):
        path = words.partition(" ")[0]
        named = NAMED_PATH.fullmatch(path) and not PLACEHOLDER.search(path)
        if named and not (ROOT / path).exists():
            yield path


def table_rows(page: Path) -> Iterator[list[str]]:
    """What stands between backticks in each row of the tables of a page."""
    for row in re.findall(r"^\|.*\|$", prose(page), flags=re.MULTILINE):
        yield CODE.findall(row)


def defined_names(module: Path) -> set[str]:
    """Functions and classes of a module, and methods with the name of their class."""
    names = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            members = (member for member in node.body if isinstance(member, ast.FunctionDef))
            names |= {f"{node.name}.{member.name}" for member in members}
    return names


def names_elsewhere(page: Path) -> Iterator[str]:
    """Tell of every name in a row of a table that none of the row's modules defines."""
    for words in table_rows(page):
        modules = [ROOT / word for word in words if re.fullmatch(r"als_spark/[\w/]+\.py", word)]
        defined = set().union(*(defined_names(module) for module in modules))
        if modules:
            yield from (w for w in words if re.fullmatch(r"[A-Za-z_.]+", w) and w not in defined)


def job_commands(page: Path) -> list[tuple[str, list[str]]]:
    """Every command line of a page that starts a job: the job and its options."""
    lines = "".join(code_blocks(page, "bash")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(re.sub(r"(^|\s)#.*", "", line)) for line in lines]
    return [job for words in commands if (job := _job_of(words)) is not None]


def _job_of(words: list[str]) -> tuple[str, list[str]] | None:
    for k, word in enumerate(words):
        if word == "scripts/sweep.sh":
            return "sweep", words[k + 1 :]
        if word in ("scripts/run.sh", "als-spark"):
            return words[k + 1], words[k + 2 :]
        if word.startswith("jobs/"):
            return Path(word).stem, words[k + 1 :]
    return None
