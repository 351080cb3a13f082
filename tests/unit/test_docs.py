"""What README and the pages of docs/ say: links, files, command lines, options, public names."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

import als_spark
from als_spark.cli.config.export import ExportConfig
from als_spark.cli.config.inspect import InspectConfig
from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.config.settings import JobConfig
from als_spark.cli.config.stored import EvaluateConfig, RecommendConfig
from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.config.train import TrainConfig
from als_spark.cli.options import job_parser
from als_spark.cli.options import parse as parse_options
from als_spark.cli.store import store_parser
from als_spark.errors import ConfigError
from tests.conftest import ROOT
from tests.pages_of_docs import (
    PAGES,
    broken_links,
    code_blocks,
    defined_names,
    inline_code,
    job_commands,
    missing_files,
    name_of,
    names_elsewhere,
    table_rows,
)

JOBS: dict[str, type[JobConfig]] = {
    "inspect": InspectConfig,
    "sweep": SweepConfig,
    "train": TrainConfig,
    "retrain": RetrainConfig,
    "evaluate": EvaluateConfig,
    "recommend": RecommendConfig,
    "export": ExportConfig,
}
DOCS = ROOT / "docs"
CHANGES = ROOT / "CHANGELOG.md"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OTHERS_OPTIONS = {
    *("--quick", "--data", "--sooner", "--heap", "--items", "--sizes", "--peers", "--doublings"),
    # So far of scripts/bench.sh and scripts/drill.sh.
    "--all-files",  # of pre-commit
    *("--manager", "--hosts", "--driver"),  # of scripts/cluster.sh and scripts/package.sh
    "--spark",  # of scripts/test.sh
    *("--deploy-mode", "--files", "--conf"),  # of spark-submit
}
every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def parse(job: str, options: list[str]) -> object:
    if job == "store":
        return store_parser().parse_args(options)
    return parse_options(JOBS[job], options)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return set(OPTION.findall(parser.format_help()))


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@every_page
def test_every_file_that_is_named_is_there(page: Path) -> None:
    assert list(missing_files(page)) == []


def test_broken_links_and_missing_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The `store`, once more\n\n```\n# no heading\n```\n")
    (tmp_path / "shell.md").write_text("```{include} other.md\n:relative-docs: docs/\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n[a](other.md) [b](other.md#the-store-once-more) [c](#top) [d](https://x.org/y)\n"
        "[e](shell.md#the-store-once-more) ![f](none.png) [g](other.md#no-heading) [h](#bottom)\n"
        "`scripts/none.sh JOB` `scripts/run.sh JOB` `als_spark/none.py`\n"
        "`findings/NAME.sh` `NONE.md`\n"
        "```\n[i](none.md) `scripts/also_none.sh`\n```\n"
    )
    assert [fault.partition(":")[0] for fault in broken_links(page)] == [
        *("none.png", "other.md#no-heading", "#bottom"),
    ]
    assert list(missing_files(page)) == ["scripts/none.sh", "als_spark/none.py", "NONE.md"]


def test_functions_and_seams_are_in_the_modules_that_the_tables_name() -> None:
    assert sum(len(words) > 1 for words in table_rows(DOCS / "architecture.md")) > 40
    assert list(names_elsewhere(DOCS / "architecture.md")) == []


def test_a_name_in_another_module_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "| `Objective`, `Objective.weights` | `als_spark/solve/objective.py` | |\n"
        "| `Objective`, `Plan.none` | `als_spark/spark/planner.py`, `als_spark/errors.py` | |\n"
        "| `nothing` | no module | |\n"
    )
    assert list(names_elsewhere(page)) == ["Objective", "Plan.none"]


def test_the_changes_name_modules_of_today() -> None:
    moves = re.findall(r"^\| (`als_spark\..*) \| (.*) \|$", CHANGES.read_text(), re.MULTILINE)
    assert len(moves) > 30
    for was, now in moves:
        for module in re.findall(r"`(als_spark[\w.]*)`", now):
            spec = find_spec(module)
            assert spec is not None, module
            if spec.submodule_search_locations is not None:
                # A folder stands for the modules of the same names in it.
                names = [name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", was)]
                assert all(find_spec(f"{module}.{name}") for name in names), was


@pytest.mark.parametrize("page", [page for page in PAGES if job_commands(page)], ids=name_of)
def test_every_command_line_is_accepted(page: Path) -> None:
    for job, options in job_commands(page):
        parse(job, options)


def test_command_lines_show_every_job_and_every_cluster() -> None:
    shown = Counter((name_of(page), job) for page in PAGES for job, _ in job_commands(page))
    assert shown["README.md", "sweep"] == 2
    # And of the clusters for trials; a plan; and both exchanges with dynamic allocation.
    assert shown["docs/clusters.md", "sweep"] == 3 + 3 + 1 + 2
    nightly = {"store", *JOBS} - {"sweep", "inspect"}
    assert all(shown["docs/nightly.md", job] for job in nightly)


def test_a_wrong_command_line_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nscripts/setup.sh\nals-spark train \\\n  --stor models # a slip\n```\n"
    )
    ((job, options),) = job_commands(page)
    assert (job, options) == ("train", ["--stor", "models"])
    with pytest.raises(ConfigError, match="--stor"):
        parse(job, options)


@every_page
def test_every_option_that_is_named_exists(page: Path) -> None:
    commands = next(
        action for action in store_parser()._actions if isinstance(action.choices, dict)
    )
    known = set(OTHERS_OPTIONS)
    for parser in (*(job_parser(job) for job in JOBS.values()), *commands.choices.values()):
        known |= options_of(parser)
    named = {option for words in inline_code(page) for option in OPTION.findall(words)}
    assert named - known == set()


def test_the_page_of_the_sweep_has_all_its_options() -> None:
    named = {word for words in inline_code(DOCS / "sweep.md") for word in OPTION.findall(words)}
    missing = options_of(job_parser(SweepConfig)) - named
    assert {option for option in missing if not option.startswith("--no-")} == set()


def test_the_api_pages_have_every_public_name_once() -> None:
    described = {
        page.name: re.findall(
            r"^\.\. auto(?:class|exception|function):: (\w+)$",
            "".join(code_blocks(page, r"\{eval-rst\}")),
            flags=re.MULTILINE,
        )
        for page in (DOCS / "api").glob("*.md")
    }
    names = [name for page in described.values() for name in page]
    assert sorted(names) == sorted(set(als_spark.__all__) - {"__version__"})
    # The table of the index tells where each is.
    rows = re.findall(
        r"^\| \[[^]]+\]\((\w+\.md)\) \| (.*) \|$", (DOCS / "api/index.md").read_text(), re.MULTILINE
    )
    assert {page: re.findall(r"`(\w+)`", row) for page, row in rows} == {
        page: names for page, names in described.items() if names
    }


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_contract_names_tests_that_are_there() -> None:
    tests = ROOT / "tests" / "spark" / "ml"
    defined = set().union(*(defined_names(module) for module in tests.glob("test_*.py")))
    rows = [words for words in table_rows(DOCS / "migration.md") if words]
    named = {word for words in rows for word in words if "test_" in word}
    assert len(named) > 20
    assert named - defined == set()
