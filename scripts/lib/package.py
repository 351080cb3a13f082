"""Build what a Spark cluster needs to run the jobs: code, and an environment for executors.

``als_spark.zip`` is the package, for ``--py-files``. ``als_spark_env.tar.gz`` is for
``--archives als_spark_env.tar.gz#environment``: a Python interpreter with its standard library,
and the few distributions that executors import, in the versions of the environment that runs
this script. PySpark is not in it: an executor takes PySpark from its own Spark.

Why not an archive of ``.venv`` itself: its ``bin/python`` is a link to the interpreter of this
machine, so it only works where the same one stands in the same place, and most of its bulk is
PySpark. Here the interpreter goes along, and a shell script finds it beside itself, wherever the
archive was unpacked. What the cluster's machines must share with this one is the kind of
system: processor and C library (not older than here).

Both files depend on their contents only: same input, same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import stat
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
CODE = "als_spark.zip"
ENVIRONMENT = "als_spark_env.tar.gz"

# What code on an executor may import; Spark has PySpark.
EXECUTOR_DISTRIBUTIONS = ("numpy", "pyarrow", "scipy", "threadpoolctl")
# What the driver imports besides: for a driver that runs on the cluster (--deploy-mode cluster).
DRIVER_DISTRIBUTIONS = ("jinja2", "matplotlib", "psutil", "pydantic", "tqdm")

# Left out of the environment: what no running program reads.
LEFT_OUT = frozenset({"__pycache__", "include", "test", "tests"})
# Of the standard library; where packages of others are installed; and (a prefix) what links C
# programs to the interpreter.
LEFT_OUT_OF_STDLIB = frozenset({"ensurepip", "idlelib", "lib2to3", "tkinter", "turtledemo"})
NOT_STDLIB = frozenset({"dist-packages", "site-packages"})
LINKING = "config-"
LEFT_OUT_SUFFIXES = frozenset({".a", ".h", ".pxd", ".pyc", ".pyi", ".pyx"})

# Zip knows no date before 1980; the same fixed day in both archives.
FIXED_DATE = (1980, 1, 1, 0, 0, 0)

LAUNCHER = """\
#!/bin/sh
# The interpreter of this archive, wherever it was unpacked. Spark sets PYTHONPATH to its own
# pyspark and the --py-files; the packages of this archive come before them.
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit
PYTHONPATH=$here/packages${{PYTHONPATH:+:$PYTHONPATH}}
LD_LIBRARY_PATH=$here/python/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
# Only what is packed: nothing from the home of the user that executors run as.
PYTHONNOUSERSITE=1
export PYTHONPATH LD_LIBRARY_PATH PYTHONNOUSERSITE
exec "$here/python/bin/python{version}" "$@"
"""


def code_files(package: Path) -> Iterator[tuple[str, Path]]:
    """Yield ``(name in the zip, file)`` of the package, sorted by name."""
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield path.relative_to(package.parent).as_posix(), path


def write_code(target: Path, package: Path) -> None:
    """Write the zip for ``--py-files``."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in code_files(package):
            entry = zipfile.ZipInfo(name, FIXED_DATE)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def is_left_out(path: PurePosixPath) -> bool:
    """Say whether a file of the environment is of no use at run time."""
    return path.suffix in LEFT_OUT_SUFFIXES or not LEFT_OUT.isdisjoint(path.parts[:-1])


def is_left_out_of_stdlib(path: PurePosixPath) -> bool:
    """Say the same of a file below the standard library's directory."""
    top = path.parts[0]
    return top in LEFT_OUT_OF_STDLIB | NOT_STDLIB or top.startswith(LINKING) or is_left_out(path)


def with_dependencies(names: Iterable[str]) -> list[str]:
    """Return the distributions and all that they require, sorted."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for requirement in metadata.requires(name) or ():
            # `name>=1; extra == "test"`: extras were not asked for. Other conditions (of
            # platform or version) are taken as met when the distribution is installed.
            wanted = re.match(r"[\w.-]+", requirement)
            if wanted and "extra ==" not in requirement and is_installed(wanted[0]):
                waiting.append(wanted[0])
    return sorted(found)


def is_installed(name: str) -> bool:
    """Say whether this environment has the distribution."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def package_files(name: str) -> Iterator[tuple[str, Path]]:
    """Yield ``(name under packages/, file)`` of one installed distribution."""
    for file in metadata.files(name) or ():
        # Those that begin with `..` are command-line programs in bin/.
        if file.parts[0] != ".." and not is_left_out(file):
            yield file.as_posix(), Path(str(file.locate()))


def interpreter_files() -> Iterator[tuple[str, Path]]:
    """Yield ``(name under python/, file)`` of the interpreter and its standard library.

    The standard library keeps its place relative to the interpreter: that is how CPython finds
    it, with no setting, after a move.
    """
    base = Path(sys.base_prefix).resolve()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    yield f"bin/python{version}", Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib")).resolve()
    folder = library.relative_to(base)
    for path in sorted(library.rglob("*")):
        inside = PurePosixPath(path.relative_to(library).as_posix())
        if path.is_file() and not is_left_out_of_stdlib(inside):
            yield (folder / inside).as_posix(), path
    # Interpreters built with a shared libpython.
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        name = sysconfig.get_config_var("INSTSONAME")
        for place in (sysconfig.get_config_var("LIBDIR"), base / "lib"):
            if (path := Path(str(place), name)).is_file():
                yield f"lib/{name}", path.resolve()
                break


def environment_files(distributions: Iterable[str]) -> Iterator[tuple[str, Path | bytes, bool]]:
    """Yield ``(name in the archive, file or content, executable)`` of the environment."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    launcher = LAUNCHER.format(version=version).encode()
    for name in ("python", "python3"):
        yield f"bin/{name}", launcher, True
    for name, path in interpreter_files():
        yield f"python/{name}", path, os.access(path, os.X_OK)
    for distribution in with_dependencies(distributions):
        for name, path in package_files(distribution):
            yield f"packages/{name}", path, os.access(path, os.X_OK)


def write_environment(target: Path, distributions: Iterable[str]) -> None:
    """Write the archive for ``--archives``, with these distributions and what they require."""
    # Level 6 makes it 2 % smaller than level 3 in twice the time.
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, source, executable in sorted(
            environment_files(distributions), key=lambda file: file[0]
        ):
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755 if executable else 0o644
            content: IO[bytes]
            if isinstance(source, bytes):
                entry.size = len(source)
                content = io.BytesIO(source)
            else:
                entry.size = source.stat().st_size
                content = source.open("rb")
            with content:
                archive.addfile(entry, content)


def submit_lines(output: Path) -> str:
    """Return the commands that use the two files, one for each kind of cluster."""
    # As URIs: Spark does not find an archive whose path has a space.
    code, environment = (output / CODE).as_uri(), (output / ENVIRONMENT).as_uri()
    common = f"""\
    --py-files {code} \\
    --archives {environment}#environment \\
    --conf spark.pyspark.python=./environment/bin/python \\
    --conf spark.pyspark.driver.python={quote(sys.executable)} \\
    jobs/sweep.py --ratings PATH --output DIR"""
    kinds = {
        "Spark standalone": ("spark://HOST:7077", "spark-standalone.conf"),
        "YARN": ("yarn", "spark-yarn.conf"),
        "Kubernetes": ("k8s://https://HOST:6443", "spark-kubernetes.conf"),
    }
    return f"# From {ROOT}, with the spark-submit of the cluster's Spark version.\n" + "".join(
        f"\n# {kind}\nspark-submit --master {master} --properties-file conf/{conf} \\\n{common}\n"
        for kind, (master, conf) in kinds.items()
    )


def main(argv: list[str] | None = None) -> int:
    """Build both files and print how to submit with them."""
    parser = argparse.ArgumentParser(prog="scripts/package.sh", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--output", type=Path, default=ROOT / "dist", metavar="DIR", help="default: dist/"
    )
    parser.add_argument(
        "--driver",
        action="store_true",
        help="the environment has what a driver imports too, for --deploy-mode cluster",
    )
    options = parser.parse_args(argv)
    output: Path = options.output.resolve()
    distributions = EXECUTOR_DISTRIBUTIONS + (DRIVER_DISTRIBUTIONS if options.driver else ())
    output.mkdir(parents=True, exist_ok=True)
    for name, write in (
        (CODE, lambda part: write_code(part, ROOT / "als_spark")),
        (ENVIRONMENT, lambda part: write_environment(part, distributions)),
    ):
        # Beside, then renamed: a submission never picks up half a file.
        part = output / f".{name}.part"
        try:
            write(part)
            part.replace(output / name)
        finally:
            part.unlink(missing_ok=True)
        size = (output / name).stat().st_size / 1e6
        print(f"als_spark: {output / name} ({size:.1f} MB)", file=sys.stderr)
    print(submit_lines(output), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
