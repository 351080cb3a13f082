"""What a cluster has: stated, or read from the settings of a session."""

from __future__ import annotations

from dataclasses import replace

import pytest

from als_spark.errors import ConfigError
from als_spark.spark.estimate.resources import (
    GBIT,
    IDLE,
    Resources,
    counted,
    memory_words,
    of_settings,
    stated,
    time_seconds,
)

GB = 1 << 30
LOCAL = Resources(1, 2, 3 * GB, 3 * GB, local=True)
ELASTIC = {"spark.dynamicAllocation.enabled": "true"}


def test_stated():
    assert stated("executors=10,cores=8,memory=16g") == Resources(10, 8, 16 * GB, 16 * GB)
    given = "executors=2, cores=4,memory=16g,driver=8g,overhead=6g,worker=512m,network=2.5"
    expected = Resources(2, 4, 16 * GB, 8 * GB, 6 * GB, GB // 2, network=2.5 * GBIT)
    assert stated(given) == expected
    assert stated(f"{given},machine=64g") == replace(expected, machine=64 * GB)
    assert stated("executors=10,cores=8,memory=16g").all_cores == 80


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("executors=10,cores=8", "memory is missing: use executors="),
        ("executors=10,cores=8,memory=lots", "memory=lots: use a size such as 16g"),
        ("executors=10,cores=8,memory=0g", "memory=0g: use a size such as 16g"),
        ("executors=2.5,cores=8,memory=1g", "executors=2.5: use a whole number from 1"),
        ("executors=0,cores=8,memory=1g", "executors=0: use a whole number from 1"),
        ("executors=nan,cores=8,memory=1g", "executors=nan: use a whole number from 1"),
        ("executors=1,cores=8,memory=1g,network=-1", "network=-1: use a number above 0"),
        ("machines=3", "machines=3 is none of executors, cores, memory, driver"),
        ("executors", "executors is none of"),
        ("executors=1,executors=2", "executors=2 is there twice"),
        ("", "'' is none of executors"),
    ],
)
def test_unusable_clusters(text, words):
    with pytest.raises(ConfigError, match=words) as info:
        stated(text)
    assert str(info.value).startswith(f"`cluster={text}`: ")


def test_counted():
    assert counted("users=1e6,items=100_000,ratings=1e8") == (10**6, 10**5, 10**8)
    assert counted("ratings=5,items=1,users=5") == (5, 1, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("users=5,items=5", "ratings is missing: use users=1e6,items=1e5,ratings=1e8"),
        ("users=5,items=5,ratings=1.5", "ratings=1.5: use a whole number from 1 to 1e"),
        ("users=5,items=5,ratings=inf", "ratings=inf: use a whole number"),
        ("users=5,items=5,ratings=many", "ratings=many: use a whole number"),
        ("users=5,items=5,rows=7", "rows=7 is none of users, items, ratings"),
        ("users=50,items=5,ratings=49", "49 ratings of 50 users and 5 items: each has at least"),
        ("users=5,items=5,ratings=26", "26 ratings of 5 users and 5 items: .* pair at most one"),
    ],
)
def test_unusable_counts(text, words):
    with pytest.raises(ConfigError, match=words):
        counted(text)


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        # The driver runs the tasks, in its heap, whatever executors are said to have.
        (
            {"spark.master": "local[4]", "spark.executor.memory": "9g"},
            Resources(1, 4, 3 * GB, 3 * GB, local=True),
        ),
        (
            {"spark.master": "local[4]", "spark.executor.pyspark.memory": "512m"},
            Resources(1, 4, 3 * GB, 3 * GB, worker_limit=GB // 2, local=True),
        ),
        # Executors that have come, of as many cores as there are.
        ({"spark.master": "spark://h:7077"}, Resources(2, 2, GB, 3 * GB)),
        ({"spark.master": "local-cluster[2,2,1024]"}, Resources(2, 2, GB, 3 * GB)),
        (
            {
                "spark.master": "yarn",
                "spark.executor.instances": "8",
                "spark.executor.cores": "4",
                "spark.executor.memory": "20g",
            },
            Resources(8, 4, 20 * GB, 3 * GB, overhead=2 * GB),
        ),
        (
            {
                "spark.master": "yarn",
                "spark.executor.memoryOverhead": "3g",
                "spark.executor.pyspark.memory": "2g",
                "spark.executor.cores": "2",
            },
            Resources(2, 2, GB, 3 * GB, overhead=5 * GB, worker_limit=GB),
        ),
        (
            {"spark.master": "k8s://https://h", "spark.executor.memory": "10g"},
            Resources(2, 2, 10 * GB, 3 * GB, overhead=4 * GB),
        ),
        (
            {"spark.master": "k8s://https://h", "spark.executor.memoryOverheadFactor": "0.75"},
            Resources(2, 2, GB, 3 * GB, overhead=768 << 20),
        ),
        ({"spark.master": "yarn"}, Resources(2, 2, GB, 3 * GB, overhead=384 << 20)),
        (
            {"spark.master": "spark://h:7077", **ELASTIC, IDLE: "10min"},
            Resources(2, 2, GB, 3 * GB, idle=600.0),
        ),
        # Spark's own default: never.
        ({"spark.master": "spark://h:7077", **ELASTIC}, Resources(2, 2, GB, 3 * GB)),
        ({"spark.master": "spark://h:7077", IDLE: "10min"}, Resources(2, 2, GB, 3 * GB)),
        # In local mode no executor leaves.
        ({"spark.master": "local[4]", **ELASTIC, IDLE: "1"}, replace(LOCAL, cores=4)),
    ],
)
def test_settings_of_a_session(conf, expected):
    assert of_settings(conf, heap=3 * GB, cores=4, executors=2) == expected


@pytest.mark.parametrize(
    ("size", "words"),
    [(1, "128m"), (GB, "1024m"), (GB + 1, "1152m"), (4 * GB, "4g"), (4 * GB + 1, "5g")],
)
def test_sizes_for_a_setting_are_rounded_up(size, words):
    assert memory_words(size) == words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90", 90), ("90s", 90), (" 2H ", 7200), ("1d", 86400), ("5m", 300), ("5min", 300)),
        *(("1500ms", 1.5), ("", None), ("1.5s", None), ("-1", None), ("infinity", None)),
    ],
)
def test_times_of_a_setting(text, seconds):
    assert time_seconds(text) == seconds
