"""What PySpark needs to start its JVM from Python.

Read from the environment (see ``scripts/run.sh``): ``ALS_SPARK_SUBMIT_ARGS``,
``SPARK_DRIVER_MEMORY``, ``SPARK_CONF_DIR``, ``JAVA_HOME``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from importlib.resources import files
from pathlib import Path

from als_spark.cli.characters import set_utf8_locale
from als_spark.errors import ConfigError

JAVA_FLOOR = 17
_JAVA_PLACES = Path("/usr/lib/jvm")
_MACOS_JAVA_HOME = "/usr/libexec/java_home"
_CONF = Path(str(files("als_spark") / "conf"))


def prepare_launch(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what PySpark reads when it starts its JVM; under spark-submit there is one already.

    Raises
    ------
    ConfigError
        If there is no Java that Spark runs on, ``ALS_SPARK_SUBMIT_ARGS`` cannot be read or asks for
        a driver on the cluster, or Java does not take the memory that was asked for.
    """
    if "PYSPARK_GATEWAY_PORT" in environment:
        return
    java = find_java(environment)
    arguments = submit_arguments(environment)
    check_deploy_mode(arguments)
    check_memory(java, arguments)
    set_utf8_locale(environment)
    environment["PYSPARK_SUBMIT_ARGS"] = shlex.join(arguments)
    environment["JAVA_HOME"] = str(java)
    quiet = _CONF / "quiet-java"
    if os.access(quiet / "bin" / "java", os.X_OK):
        environment["ALS_SPARK_JAVA_HOME"] = str(java)
        environment["JAVA_HOME"] = str(quiet)


def submit_arguments(environment: Mapping[str, str]) -> list[str]:
    """Return the options of spark-submit: ours, and then the user's, which win."""
    theirs = [
        *_split(environment, "ALS_SPARK_SUBMIT_ARGS", ""),
        *_split(environment, "PYSPARK_SUBMIT_ARGS", "pyspark-shell"),
    ]
    if "SPARK_CONF_DIR" in environment:
        # Whoever configures Spark has said how much memory, and how Spark shall log.
        return theirs
    ours = []
    if not any(word.startswith("--properties-file") for word in theirs):
        memory = environment.get("SPARK_DRIVER_MEMORY") or f"{third_of_memory()}m"
        ours += ["--driver-memory", memory]
    log = _CONF / "log4j2.properties"
    if log.is_file():
        ours += ["--driver-java-options", f"-Dlog4j2.configurationFile={log.as_uri()}"]
    return ours + theirs


def check_deploy_mode(arguments: Sequence[str]) -> None:
    """Refuse a driver that is to run elsewhere: this process is the driver.

    Raises
    ------
    ConfigError
    """
    modes = [
        _setting(b, w, "--deploy-mode", "spark.submit.deployMode") for b, w in _pairs(arguments)
    ]
    if next(filter(None, reversed(modes)), "client") == "cluster":
        raise ConfigError(
            "ALS_SPARK_SUBMIT_ARGS asks for the deploy mode cluster, but this process is the "
            "driver: leave it out, or use the spark-submit command that scripts/package.sh prints"
        )


def check_memory(java: Path, arguments: Sequence[str]) -> None:
    """Ask Java for the heap of the driver, where the user has said how much.

    Raises
    ------
    ConfigError
        If it refuses.
    """
    heaps = [_setting(b, w, "--driver-memory", "spark.driver.memory") for b, w in _pairs(arguments)]
    found = [heap for heap in heaps if heap is not None]
    if not found or found[-1] == f"{third_of_memory()}m":
        return
    words = [str(java / "bin" / "java"), f"-Xmx{found[-1]}", "-version"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        # What is wrong with Java itself, its start will tell.
        return
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        reason = next((line for line in lines if "heap" in line), "")
        raise ConfigError(
            f"SPARK_DRIVER_MEMORY or --driver-memory {found[-1]}: Java does not take it "
            f"({reason}): give it as 4g or 800m, less than the machine has"
        )


def _pairs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return each option with the one before it."""
    return list(zip(["", *arguments], arguments, strict=False))


def _setting(before: str, word: str, option: str, conf: str) -> str | None:
    """Return what a word of spark-submit's options, after another one, sets a setting to."""
    if before == option:
        return word
    setting = word if before in ("--conf", "-c") else word.removeprefix("--conf=")
    name, equals, value = setting.partition("=")
    meant = name == option or (name == conf and (before in ("--conf", "-c") or setting != word))
    return value if equals and meant else None


def third_of_memory() -> int:
    """Return a third of the machine's memory in MiB, which leaves room for Python's workers.

    At least Spark's own default.
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        total = 0
    return max(total // 2**20 // 3, 1024)


def find_java(environment: Mapping[str, str]) -> Path:
    """Return the home of a Java that is new enough: ``JAVA_HOME``, on ``PATH``, or installed.

    Raises
    ------
    ConfigError
        If there is none.
    """
    for home in _java_homes(environment):
        if _java_major(home) >= JAVA_FLOOR:
            return home
    raise ConfigError(
        f"found no Java {JAVA_FLOOR} or newer (JAVA_HOME, PATH): install one (Debian, Ubuntu: "
        "apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17) or set JAVA_HOME"
    )


def _java_homes(environment: Mapping[str, str]) -> Iterator[Path]:
    if environment.get("JAVA_HOME"):
        yield Path(environment["JAVA_HOME"])
    java = shutil.which("java", path=environment.get("PATH", os.defpath))
    if java is not None:
        yield Path(java).resolve().parents[1]
    told = _output(_MACOS_JAVA_HOME, "-v", f"{JAVA_FLOOR}+").strip()
    if told:
        yield Path(told)
    if _JAVA_PLACES.is_dir():
        yield from sorted(_JAVA_PLACES.iterdir())


def _java_major(home: Path) -> int:
    """Return the version of the Java of a home (8 of 1.8 too); 0 if there is none."""
    java, release = home / "bin" / "java", home / "release"
    if not os.access(java, os.X_OK):
        return 0
    try:
        # Reading it spares the start of a JVM.
        text = release.read_text("utf-8", "replace")
    except OSError:
        text = ""
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, re.MULTILINE)
    found = found or re.search(r' version "(?:1\.)?(\d+)', _output(str(java), "-version"))
    return int(found[1]) if found else 0


def _output(*command: str) -> str:
    """Return all that a program writes; nothing if it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""


def _split(environment: Mapping[str, str], name: str, usual: str) -> list[str]:
    """Split options as a shell does."""
    text = environment.get(name) or usual
    try:
        return shlex.split(text)
    except ValueError as error:
        # Without the text, which may hold keys.
        raise ConfigError(f"{name} has an unmatched quote: quote it as in a shell") from error
