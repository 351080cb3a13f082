"""Which folders are tables of Delta Lake, Iceberg or Hudi, by what lies in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from als_spark.files.local import LocalTree
from als_spark.spark.read.table_folders import folders_above, kind_of


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("_delta_log/00000000000000000000.json", "Delta"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("metadata/v3.metadata.json", "Iceberg"),
        ("metadata/00001-5f0c.metadata.json", "Iceberg"),
        ("metadata/00001-5f0c.metadata.json.gz", "Iceberg"),
        ("metadata/00001-5f0c.gz.metadata.json", "Iceberg"),
        ("metadata/version-hint.text", "Iceberg"),
        # Anybody's folder may have that name.
        ("metadata/readme.json", None),
        ("data/part.parquet", None),
        ("metadata", None),
    ],
)
def test_a_table_is_told_by_its_log(tmp_path: Path, file: str, kind: str | None) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert kind_of(LocalTree(), str(tmp_path)) == kind
    # A file is no folder of a table.
    assert kind_of(LocalTree(), str(path)) is None


def test_where_nothing_answers_no_table_is_found(tmp_path: Path) -> None:
    assert kind_of(LocalTree(), str(tmp_path / "nowhere")) is None
    assert kind_of(None, "s3a://bucket/folder") is None


def test_a_place_is_looked_for_above_by_each_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "real" / "day=1").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "day=1")
    found = list(folders_above(tmp_path / "link"))
    assert found[:2] == [str(tmp_path / "link"), str(tmp_path)]
    assert {str(tmp_path / "real"), "/"} <= set(found)
    assert list(folders_above("s3a://bucket/a/b=1/")) == [
        *("s3a://bucket/a/b=1", "s3a://bucket/a", "s3a://bucket/"),
    ]
    assert list(folders_above("s3a://bucket")) == ["s3a://bucket/"]
    assert list(folders_above("hdfs:/a")) == ["hdfs:/a", "hdfs:/"]
