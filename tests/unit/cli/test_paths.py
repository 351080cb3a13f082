"""What lies in what, of paths that no file system is asked about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from als_spark.cli.paths import (
    GivenPath,
    check_name,
    parents_of,
    refuse_foreign_home,
    refuse_lost_results,
)
from als_spark.errors import ConfigError
from als_spark.model.files import MODEL_FORMAT
from als_spark.store.layout import STORE_FORMAT


class TestForeignHome:
    def test_parents(self, tmp_path: Path) -> None:
        found = parents_of("hdfs://host:9/a/b/../c")
        assert found == ["hdfs://host:9/a", "hdfs://host:9"]
        assert parents_of(tmp_path / "a") == [str(parent) for parent in (tmp_path / "a").parents]

    @pytest.mark.parametrize("target", ["s3a://box/models/a/b", "s3://box/models/a"])
    @pytest.mark.parametrize(
        ("name", "format_", "what"),
        [("model.json", MODEL_FORMAT, "model"), ("store.json", STORE_FORMAT, "model store")],
    )
    def test_of_another_file_system(self, target: str, name: str, format_: str, what: str) -> None:
        files = {f"s3a://box/models/{name}": json.dumps({"format": format_}).encode()}
        files["s3a://box/models/a/model.json"] = b"[" * 100_000
        files["s3a://box/model.json"] = b'{"format": "of somebody else"}'

        def read(path: str) -> bytes:
            try:
                return files[path]
            except KeyError:
                raise FileNotFoundError(path) from None

        given = GivenPath("--store", "target store", target)
        with pytest.raises(ConfigError) as info:
            refuse_foreign_home(given, parents_of(target), read)
        assert str(info.value) == (
            f"--store {target}: lies in the {what} s3a://box/models: give a folder outside of it"
        )
        refuse_foreign_home(given, parents_of("s3a://box/other/a"), read)


class TestDriverOnTheCluster:
    @pytest.mark.parametrize("role", ["output", "target store"])
    @pytest.mark.parametrize("text", ["results", "/results/sweep"])
    def test_its_own_disk_is_refused(self, role: str, text: str) -> None:
        given = [GivenPath("--ratings", "input", "ratings"), GivenPath("--to", role, text)]  # type: ignore[arg-type]
        with pytest.raises(ConfigError) as info:
            refuse_lost_results(given, "cluster")
        assert str(info.value).startswith(f"--to {text}: the driver runs on the cluster (--deploy-")
        refuse_lost_results(given, "client")

    @pytest.mark.parametrize("text", ["hdfs:///a", "s3a://box/a", "file:///shared/a"])
    def test_what_outlives_it(self, text: str) -> None:
        refuse_lost_results([GivenPath("--output", "output", text)], "cluster")


class TestNames:
    @pytest.mark.parametrize("role", ["output", "target store", "store", "model"])
    def test_what_a_colon_means(self, role: str) -> None:
        with pytest.raises(ConfigError, match=r"unless it follows a /: write \./a:b"):
            check_name(GivenPath("--x", role, "a:b"))  # type: ignore[arg-type]

    @pytest.mark.parametrize("text", ["a:b", "a*", "[x", "é", "a?b"])
    def test_of_an_input_spark_decides(self, text: str) -> None:
        check_name(GivenPath("--ratings", "input", text))

    @pytest.mark.parametrize("text", ["a b", "a[1]", "{x}*?", "s3a://box/a:b", "file:/a", "/a:b"])
    def test_folders_are_taken_for_what_they_say(self, text: str) -> None:
        check_name(GivenPath("--output", "output", text))

    def test_what_is_no_text(self) -> None:
        with pytest.raises(ConfigError, match="--output: a path has no zero byte"):
            check_name(GivenPath("--output", "output", "a\0b"))
        with pytest.raises(
            ConfigError, match=r"--output a\\udcff: has the byte 0xff that is not of"
        ):
            check_name(GivenPath("--output", "output", "a\udcff"))
