"""The tables of docs/reading.md, from what the package has and the tests try.

``python -m tests.spark.read.page`` writes them.
"""

from __future__ import annotations

from als_spark.spark.read.names import USUAL_NAMES
from tests.conftest import ROOT
from tests.spark.read.test_rough_files import CASES, REFUSED

PAGE = ROOT / "docs/reading.md"
NAMES, TRIED = "<!-- names -->\n", "<!-- cases -->\n"


def names_table() -> str:
    rows = [
        f"| {role} | {' → '.join(', '.join(rank) for rank in ranks)} |\n"
        for role, ranks in USUAL_NAMES.items()
    ]
    return "".join(["| role | names |\n|---|---|\n", *rows])


def cases_table() -> str:
    rows = [
        f"| {name} | {len(case.ratings):,} | {len(case.bad):,} |\n" for name, case in CASES.items()
    ]
    head = "| file | usable | unusable |\n|---|---|---|\n"
    refused = "".join(f"- {name}\n" for name in REFUSED)
    return f"{head}{''.join(rows)}\nRefused in one line:\n\n{refused}"


def with_tables(text: str) -> str:
    """The page with its tables as they should be."""
    start = text.index(NAMES) + len(NAMES)
    end = text.index("\n\n", start)
    text = text[:start] + names_table() + text[end + 1 :]
    return text[: text.index(TRIED) + len(TRIED)] + cases_table()


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
