"""What is not there is said before Spark starts, where this machine can tell."""

from __future__ import annotations

import pytest

from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.missing import paths_are_local, refuse_missing, separate_paths
from als_spark.cli.options import parse
from als_spark.cli.paths import GivenPath
from als_spark.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("a.csv", "b[1].csv", "x:y", "part-1"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for name in ("PYSPARK_GATEWAY_PORT", "SPARK_HOME", "HADOOP_CONF_DIR", "SPARK_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("als_spark.cli.missing._runs", lambda: False)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        *("a.csv", "./a.csv", "*.csv", "b[1].csv", "x:y", "part-{0,1}", "part-[0-9]", "p\\[x"),
        *("hdfs://box/none.csv", "s3a://none", "file:{folder}/a.csv", "file://{folder}/a.csv"),
    ],
)
def test_there_or_not_to_be_told(folder, text):
    refuse_missing([GivenPath("--ratings", "input", text.replace("{folder}", str(folder)))])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("none.csv", "there is no such file or folder"),
        ("none/a.csv", "there is no such file or folder"),
        ("file:/none.csv", "there is no such file or folder"),
        ("*.tsv", "nor one that it matches as a pattern"),
        ("part-{2,3}", "nor one that it matches as a pattern"),
        ("part-[2-9]", "nor one that it matches as a pattern"),
    ],
)
def test_not_there(text, problem):
    with pytest.raises(ConfigError, match=f"--ratings .*: .*{problem}: check the path$"):
        refuse_missing([GivenPath("--ratings", "input", text)])


@pytest.mark.parametrize("role", ["model", "store"])
def test_folders(role):
    with pytest.raises(ConfigError, match="--model none: there is no such folder: check the path"):
        refuse_missing([GivenPath("--model", role, "none")])
    refuse_missing([GivenPath("--output", "output", "none")])
    refuse_missing([GivenPath("--store", "target store", "none")])


@pytest.mark.parametrize(
    ("environment", "local"),
    [
        ({}, True),
        ({"ALS_SPARK_SUBMIT_ARGS": "--master local[2]", "SPARK_HOME": "/x/pyspark"}, True),
        ({"SPARK_HOME": "/opt/spark"}, False),
        ({"HADOOP_CONF_DIR": "/etc/hadoop"}, False),
        ({"SPARK_CONF_DIR": "/etc/spark"}, False),
        ({"ALS_SPARK_SUBMIT_ARGS": "--conf spark.hadoop.fs.defaultFS=hdfs://box"}, False),
        ({"PYSPARK_SUBMIT_ARGS": "--properties-file conf/yarn.conf"}, False),
    ],
)
def test_whose_paths_they_are(environment, local):
    assert paths_are_local(environment) is local


def test_where_only_spark_knows(monkeypatch):
    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/hadoop")
    refuse_missing([GivenPath("--ratings", "input", "none.csv")])
    with pytest.raises(ConfigError):
        refuse_missing([GivenPath("--ratings", "input", "file:/none.csv")])


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (["a.csv,b.csv"], ["a.csv", "b.csv"]),
        (["a.csv,", "b.csv"], ["a.csv", "b.csv"]),
        (["none,part-1,,x"], ["none", "part-1", "x"]),
        (["file:/a,file:/b"], ["file:/a", "file:/b"]),
        (["s3a://x/a,s3a://x/b"], ["s3a://x/a", "s3a://x/b"]),
        # One path, commas and all.
        (["both,of.csv", "a.csv"], ["both,of.csv", "a.csv"]),
        (["both,*.csv"], ["both,*.csv"]),
        (["part-{1,2}"], ["part-{1,2}"]),
        (["part-{1,2},a.csv"], ["part-{1,2}", "a.csv"]),
        (["s3a://x/a,b.csv"], ["s3a://x/a,b.csv"]),
        ([","], [","]),
        (["table:a.b,a.csv", "table:c"], ["table:a.b", "a.csv", "table:c"]),
        (["a.csv,table:a.b"], ["a.csv", "table:a.b"]),
        (["s3a://x/a,table:a.b"], ["s3a://x/a", "table:a.b"]),
    ],
)
def test_commas_between_paths(folder, words, paths):
    (folder / "both,of.csv").touch()
    assert separate_paths(words) == tuple(paths)
    config = parse(RetrainConfig, ["--ratings", "r", "--store", "s", "--increments", *words])
    assert config.increments == tuple(paths)


def test_other_lists_of_text_keep_their_commas(folder):
    config = parse(RetrainConfig, ["--ratings", "r", "--store", "s", "--null-words", "a,b"])
    assert config.null_words == ("a,b",)
