"""Addresses as Hadoop takes them, and names that Java cannot read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from als_spark.files.places import (
    colon_hint,
    local_path,
    places_of,
    same_bytes,
    split_address,
    table_name,
    undecodable,
)

ODD = os.fsdecode(b"b\xe9.csv")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a/b", ("", "", "a/b")),
        ("/a?b#c", ("", "", "/a?b#c")),
        ("file:///a?b#c d", ("file", "", "/a?b#c d")),
        ("FILE:/a", ("file", "", "/a")),
        ("s3a://box/a:b", ("s3a", "box", "/a:b")),
        ("s3a://K:S@box", ("s3a", "K:S@box", "")),
        ("//[x/y", ("", "", "//[x/y")),
        ("s3a://[x", ("s3a", "[x", "")),
        ("a:b", ("a", "", "b")),
        ("a\nb:c", ("", "", "a\nb:c")),
        ("file:/a\nb", ("file", "", "/a\nb")),
    ],
)
def test_an_address_is_split_as_hadoop_does(text: str, parts: tuple[str, str, str]) -> None:
    assert tuple(split_address(text)) == parts


class TestLocalPath:
    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("models?x=1#y", "models?x=1#y"),
            ("file:///m/a?b#c", "/m/a?b#c"),
            ("file:/m/a%20b", "/m/a b"),
            ("//[x/y", "//[x/y"),
            ("a[1]{b}*", "a[1]{b}*"),
        ],
    )
    def test_every_character_is_of_the_name(self, text: str, path: str) -> None:
        assert local_path(text) == Path(path)

    @pytest.mark.parametrize("text", ["hdfs://h/a", "s3a://[x", "models:v1", "hdfs:/a"])
    def test_of_another_file_system(self, text: str) -> None:
        assert local_path(text) is None

    def test_a_colon(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        says = "what stands before a colon is taken for a file system, unless it follows a /: "
        assert colon_hint("models:v1") == f"{says}write ./models:v1"
        assert colon_hint("hdfs:/a") is None
        assert colon_hint("s3a://b/a:c") is None
        assert colon_hint("./models:v1") is None
        Path("models:v1").mkdir()
        assert colon_hint("models:v1") is None
        assert local_path("models:v1") == Path("models:v1")
        assert places_of("models:v1") == [Path("models:v1")]


def test_tables_in_the_place_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table:there").touch()
    wanted = {
        "table:a.b": "a.b",
        "table:`a b`.c": "`a b`.c",
        "table:": "",
        "table:there": None,
        "table": None,
        "./table:a": None,
        "": None,
    }
    assert {text: table_name(text) for text in wanted} == wanted


class TestNamesThatJavaCannotRead:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "in" / "deep").mkdir(parents=True)
        (tmp_path / "in" / "a.csv").touch()
        return tmp_path / "in"

    @pytest.mark.parametrize("place", ["", "deep"])
    @pytest.mark.parametrize(
        ("name", "encoding", "seen"),
        [
            (ODD, "UTF-8", False),
            (ODD, "ANSI_X3.4-1968", False),
            ("é.csv", "UTF-8", True),
            ("é.csv", "ANSI_X3.4-1968", False),
            # Two characters to such a Java, which finds the file none the less.
            ("é.csv", "ISO-8859-1", True),
            (f".{ODD}", "UTF-8", True),
            (f"_{ODD}", "UTF-8", True),
        ],
    )
    def test_in_a_folder(
        self, folder: Path, place: str, name: str, encoding: str, seen: bool
    ) -> None:
        file = folder / place / name
        file.touch()
        expected = None if seen else file
        assert undecodable(str(folder), encoding) == expected
        assert undecodable(f"file://{folder}", encoding) == expected
        assert undecodable(f"{folder}/{{x,{place or '*'}}}", encoding) == expected
        assert undecodable(f"{folder}/a.csv", encoding) is None

    def test_a_path_that_is_given(self, folder: Path) -> None:
        # It goes to Java as text, and comes out as other bytes.
        (folder / "é").mkdir()
        assert undecodable(f"{folder}/é", "ISO-8859-1") == folder / "é"
        assert undecodable(f"{folder}/é", "UTF-8") is None

    def test_what_is_not_of_this_machine(self) -> None:
        assert undecodable("hdfs://host/é", "ANSI_X3.4-1968") is None

    def test_same_bytes(self) -> None:
        assert same_bytes("abc", "ANSI_X3.4-1968")
        assert same_bytes("é", "UTF-8")
        assert not same_bytes("é", "ISO-8859-1")
        assert not same_bytes("λ", "ISO-8859-1")
        assert not same_bytes(ODD, "UTF-8")
