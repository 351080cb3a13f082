"""How the console command starts Spark: Java, memory, and the options of spark-submit."""

from __future__ import annotations

from pathlib import Path

import pytest

from als_spark.cli import launch
from als_spark.errors import ConfigError


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "_JAVA_PLACES", tmp_path / "jvm")
    monkeypatch.setattr(launch, "_MACOS_JAVA_HOME", str(tmp_path / "none"))


def java(home: Path, version: str, *, release: bool = True) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
    program.chmod(0o755)
    if release:
        (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return home


class TestJava:
    @pytest.mark.parametrize("release", [True, False])
    @pytest.mark.parametrize("version", ["17", "17.0.9", "21.0.1", "25-ea"])
    def test_java_home(self, tmp_path, version, release):
        home = java(tmp_path / "a", version, release=release)
        assert launch.find_java({"JAVA_HOME": str(home), "PATH": ""}) == home

    def test_one_that_is_too_old_is_passed_over(self, tmp_path):
        old, new = java(tmp_path / "old", "1.8.0_292"), java(tmp_path / "new", "21.0.1")
        found = launch.find_java({"JAVA_HOME": str(old), "PATH": str(new / "bin")})
        assert found == new

    def test_behind_a_link_on_the_path(self, tmp_path):
        home = java(tmp_path / "a", "17.0.1")
        links = tmp_path / "links"
        links.mkdir()
        (links / "java").symlink_to(home / "bin" / "java")
        assert launch.find_java({"PATH": str(links)}) == home

    def test_where_systems_put_it(self, tmp_path):
        java(tmp_path / "jvm" / "java-11", "11.0.2")
        home = java(tmp_path / "jvm" / "java-17", "17.0.2")
        assert launch.find_java({"PATH": ""}) == home

    def test_none(self, tmp_path):
        old = java(tmp_path / "old", "11.0.2")
        with pytest.raises(ConfigError, match=r"found no Java 17 or newer .*: install one") as info:
            launch.find_java({"JAVA_HOME": str(old), "PATH": str(tmp_path)})
        assert "\n" not in str(info.value)


class TestArguments:
    def test_memory_and_log(self):
        words = launch.submit_arguments({})
        assert words[:2] == ["--driver-memory", f"{launch.third_of_memory()}m"]
        assert words[2] == "--driver-java-options"
        assert words[3].startswith("-Dlog4j2.configurationFile=file:///")
        assert words[3].endswith("/als_spark/conf/log4j2.properties")
        assert words[4:] == ["pyspark-shell"]

    def test_what_the_user_says_wins(self):
        environment = {
            "SPARK_DRIVER_MEMORY": "3g",
            "ALS_SPARK_SUBMIT_ARGS": "--master 'local[2]'",
            "PYSPARK_SUBMIT_ARGS": "--name x pyspark-shell",
        }
        words = launch.submit_arguments(environment)
        assert words[:2] == ["--driver-memory", "3g"]
        assert words[4:] == ["--master", "local[2]", "--name", "x", "pyspark-shell"]

    def test_a_configuration_of_spark(self):
        assert launch.submit_arguments({"SPARK_CONF_DIR": "c"}) == ["pyspark-shell"]
        words = launch.submit_arguments({"ALS_SPARK_SUBMIT_ARGS": "--properties-file f"})
        assert "--driver-memory" not in words

    def test_an_open_quote(self):
        with pytest.raises(ConfigError) as info:
            launch.submit_arguments({"ALS_SPARK_SUBMIT_ARGS": "--conf a.b=SECRET 'x"})
        # Without the text, which may hold keys of any form.
        assert str(info.value) == (
            "ALS_SPARK_SUBMIT_ARGS has an unmatched quote: quote it as in a shell"
        )

    def test_at_least_spark_s_default(self, monkeypatch):
        monkeypatch.setattr("os.sysconf", lambda name: 1)
        assert launch.third_of_memory() == 1024


class TestDeployMode:
    """The process that starts the JVM is the driver."""

    @pytest.mark.parametrize(
        "words",
        [
            ["--deploy-mode", "client"],
            ["--deploy-mode=cluster", "--deploy-mode", "client"],
            ["--conf", "spark.submit.deployMode=client"],
            ["--name", "--deploy-mode=x", "cluster"],
            [],
        ],
    )
    def test_client(self, words):
        launch.check_deploy_mode(words)

    @pytest.mark.parametrize(
        "words",
        [
            ["--deploy-mode", "cluster"],
            ["--master", "yarn", "--deploy-mode=cluster"],
            ["-c", "spark.submit.deployMode=cluster"],
            ["--conf=spark.submit.deployMode=cluster"],
        ],
    )
    def test_cluster(self, words):
        with pytest.raises(ConfigError, match=r"deploy mode cluster, .*: leave it out, or use"):
            launch.check_deploy_mode(words)


class TestMemory:
    """Java is asked for the heap that the user wants; this one takes ``3g`` alone."""

    @pytest.fixture
    def home(self, tmp_path):
        home = java(tmp_path / "a", "17.0.1")
        (home / "bin" / "java").write_text(
            '#!/bin/sh\n[ "$1" = -Xmx3g ] && exit\n'
            'echo "Error occurred"; echo "Too small maximum heap $1" >&2; exit 1\n'
        )
        return home

    @pytest.mark.parametrize(
        "words",
        [
            ["--driver-memory", "3g"],
            ["--driver-memory", "9x", "--driver-memory=3g"],
            ["--driver-memory", "9x", "--conf", "spark.driver.memory=3g"],
            ["--driver-memory", f"{launch.third_of_memory()}m"],
            ["--conf", "spark.executor.memory=9x"],
            ["spark.driver.memory=9x", "--name=--driver-memory"],
            [],
        ],
    )
    def test_taken(self, home, words):
        launch.check_memory(home, words)

    @pytest.mark.parametrize(
        "words",
        [
            ["--driver-memory", "9x"],
            ["--driver-memory", "3g", "--driver-memory=9x"],
            ["--driver-memory", "3g", "-c", "spark.driver.memory=9x"],
            ["--conf=spark.driver.memory=9x"],
        ],
    )
    def test_refused(self, home, words):
        with pytest.raises(ConfigError) as info:
            launch.check_memory(home, words)
        assert str(info.value) == (
            "SPARK_DRIVER_MEMORY or --driver-memory 9x: Java does not take it (Too small maximum "
            "heap -Xmx9x): give it as 4g or 800m, less than the machine has"
        )

    def test_before_spark_is_started(self, home):
        environment = {"JAVA_HOME": str(home), "PATH": "", "SPARK_DRIVER_MEMORY": "9x"}
        with pytest.raises(ConfigError, match="SPARK_DRIVER_MEMORY or --driver-memory 9x"):
            launch.prepare_launch(environment)


class TestPreparing:
    def test_the_environment(self, tmp_path):
        home = java(tmp_path / "a", "17.0.1")
        environment = {"JAVA_HOME": str(home), "PATH": ""}
        launch.prepare_launch(environment)
        assert environment["ALS_SPARK_JAVA_HOME"] == str(home)
        assert environment["JAVA_HOME"].endswith("/als_spark/conf/quiet-java")
        assert environment["PYSPARK_SUBMIT_ARGS"].endswith(" pyspark-shell")

    def test_spark_submit_has_started_it(self):
        environment = {"PYSPARK_GATEWAY_PORT": "1"}
        launch.prepare_launch(environment)
        assert environment == {"PYSPARK_GATEWAY_PORT": "1"}
