"""Options that spark-submit has changed, and the locale that a JVM gets."""

from __future__ import annotations

import locale
import sys
from pathlib import Path

import pytest

from als_spark.cli import characters
from als_spark.errors import ConfigError

ASCII = "ANSI_X3.4-1968"


class TestLocale:
    @pytest.mark.parametrize(
        ("of_locale", "of_names", "available", "given"),
        [
            ("UTF-8", "utf-8", "C.UTF-8", {}),
            (ASCII, "utf-8", "C.UTF-8", {"LC_ALL": "C.UTF-8"}),
            ("ISO-8859-1", "utf-8", "C.UTF-8", {"LC_ALL": "C.UTF-8"}),
            (ASCII, "utf-8", "en_US.UTF-8", {"LC_ALL": "en_US.UTF-8"}),
            (ASCII, "utf-8", "none", {}),
            # Both read names in the same way.
            ("ISO-8859-1", "iso8859-1", "C.UTF-8", {}),
        ],
    )
    def test_of_a_jvm(
        self,
        monkeypatch: pytest.MonkeyPatch,
        of_locale: str,
        of_names: str,
        available: str,
        given: dict[str, str],
    ) -> None:
        monkeypatch.setattr(locale, "getencoding", lambda: of_locale)
        monkeypatch.setattr(sys, "getfilesystemencoding", lambda: of_names)
        monkeypatch.setattr(characters, "_is_there", lambda name: name == available)
        environment: dict[str, str] = {}
        characters.set_utf8_locale(environment)
        assert environment == given

    def test_it_is_looked_for_and_not_kept(self) -> None:
        before = locale.setlocale(locale.LC_CTYPE)
        assert characters._is_there("C")
        assert not characters._is_there("no_NO.such")
        assert locale.setlocale(locale.LC_CTYPE) == before

    def test_names_of_encodings(self) -> None:
        assert all(map(characters.is_utf8, ("UTF-8", "utf8", "utf-8")))
        assert not any(map(characters.is_utf8, (ASCII, "ISO-8859-1", "nonsense")))


class TestWords:
    @pytest.fixture(autouse=True)
    def submitted(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
        monkeypatch.setattr(characters, "encoding_of_jvm", lambda: ASCII)
        monkeypatch.chdir(tmp_path)
        Path("a1.csv").touch()
        Path("wh?t.csv").touch()

    @pytest.mark.parametrize("word", ["mod??les", "us?r", "--store=mod??les", "b?.csv"])
    def test_question_marks_of_a_jvm_that_knows_ascii_alone(self, word: str) -> None:
        with pytest.raises(ConfigError) as info:
            characters.check_words(["--store", "s", word])
        assert str(info.value) == (
            f"{word}: spark-submit has replaced characters that its locale ({ASCII}) does not "
            "have: set LC_ALL=C.UTF-8"
        )

    @pytest.mark.parametrize("word", ["a?.csv", "wh?t.csv", "a1.csv", "modèles"])
    def test_those_that_were_meant(self, word: str) -> None:
        characters.check_words(["--ratings", word])

    def test_of_a_jvm_that_knows_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(characters, "encoding_of_jvm", lambda: "UTF-8")
        characters.check_words(["mod??les"])
        with pytest.raises(ConfigError, match=r"b\?\.csv: has bytes that are not of UTF-8.*rename"):
            characters.check_words(["b\ufffd.csv"])

    def test_without_spark_submit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PYSPARK_GATEWAY_PORT")
        characters.check_words(["mod??les", "b\ufffd"])
