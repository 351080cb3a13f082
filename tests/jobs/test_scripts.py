"""The shell scripts: what they set up, what they start, how they fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.jobs.checkout import Checkout, only_line, wait_for


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


class TestEnvironment:
    def test_installs_the_pinned_packages_once(self, checkout):
        first = checkout.run("scripts/setup.sh")
        assert first.returncode == 0, first.stderr
        python = f"--python {checkout.venv}/bin/python"
        install = f"pip install --quiet {python} --constraint {checkout.root}/constraints.txt"
        assert checkout.installs() == [
            f"venv --quiet --clear --python {sys.executable} {checkout.venv}",
            f"{install} setuptools",
            f"{install} --no-build-isolation --editable {checkout.root}[data]",
        ]
        assert "creating" in first.stderr
        assert "environment ready" in first.stderr
        assert first.stdout == ""

        start = time.monotonic()
        second = checkout.run("scripts/setup.sh")
        assert time.monotonic() - start < 1
        assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
        assert checkout.installs() == []

    @pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
    def test_installs_again_when_a_file_changes(self, checkout, name):
        checkout.run("scripts/setup.sh")
        checkout.installs()
        with (checkout.root / name).open("a") as file:
            file.write("# changed\n")
        assert checkout.run("scripts/setup.sh").returncode == 0
        assert [line.split()[0] for line in checkout.installs()] == ["pip", "pip"]
        assert checkout.run("scripts/setup.sh").stderr == ""

    def test_the_tools_of_the_tests_are_a_level_of_their_own(self, checkout):
        checkout.run("scripts/setup.sh")
        checkout.installs()
        assert checkout.run("scripts/setup.sh", "test").returncode == 0
        assert checkout.installs()[-1].endswith(f"--editable {checkout.root}[data,test]")
        # Both levels are there now.
        for arguments in ([], ["test"]):
            assert checkout.run("scripts/setup.sh", *arguments).stderr == ""

    def test_a_level_includes_those_below(self, checkout):
        assert checkout.run("scripts/setup.sh", "dev").returncode == 0
        checkout.installs()
        for level in ("run", "docs", "test", "dev"):
            assert checkout.run("scripts/setup.sh", level).stderr == ""
        assert checkout.installs() == []

    def test_a_failed_installation_says_so_and_leaves_what_was_there(self, checkout):
        checkout.run("scripts/setup.sh")
        (checkout.venv / "mine").touch()
        (checkout.root / "constraints.txt").write_text("")
        failed = checkout.run("scripts/setup.sh", FAKE_UV="fail")
        assert failed.returncode == 1
        assert "no such package" in failed.stderr
        assert "could not install" in failed.stderr
        checkout.installs()
        assert checkout.run("scripts/setup.sh").returncode == 0
        assert len(checkout.installs()) == 2
        assert (checkout.venv / "mine").exists()

    @pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    def test_an_interrupted_installation_is_begun_afresh(self, checkout, signum):
        process = checkout.start("scripts/setup.sh", FAKE_UV="hang")
        wait_for(lambda: checkout.log.exists() and "--editable" in checkout.log.read_text())
        os.killpg(process.pid, signum)
        process.communicate(timeout=180)
        expected = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
        assert process.returncode == expected[signum]
        (checkout.venv / "half-installed").touch()
        checkout.installs()
        assert checkout.run("scripts/setup.sh").returncode == 0
        assert checkout.installs()[0].startswith("venv --quiet --clear")
        assert not (checkout.venv / "half-installed").exists()

    def test_a_lost_interpreter_is_replaced(self, checkout):
        checkout.run("scripts/setup.sh")
        python = checkout.venv / "bin" / "python"
        python.unlink()
        python.symlink_to("/nonexistent/python3")
        assert checkout.run("scripts/setup.sh").returncode == 0
        assert checkout.run("scripts/setup.sh").stderr == ""

    @pytest.mark.skipif(shutil.which("flock") is None, reason="without flock there is no lock")
    def test_two_at_once_install_once(self, checkout):
        processes = [checkout.start("scripts/setup.sh") for _ in range(2)]
        for process in processes:
            process.communicate(timeout=180)
        assert [process.returncode for process in processes] == [0, 0]
        assert len(checkout.installs()) == 3

    def test_an_unfit_interpreter_is_refused_in_one_line(self, checkout):
        old = checkout.program("old-python", "#!/bin/sh\nexit 1\n")
        result = checkout.run("scripts/setup.sh", ALS_SPARK_PYTHON=str(old))
        assert result.returncode == 2
        assert f"ALS_SPARK_PYTHON={old}: install one" in only_line(result.stderr)
        assert not checkout.venv.exists()

    def test_no_python_at_all_is_said_in_one_line(self, checkout, tmp_path):
        tools = tmp_path / "tools"
        tools.mkdir()
        for tool in ("bash", "dirname", "env"):
            (tools / tool).symlink_to(shutil.which(tool))
        result = checkout.run("scripts/setup.sh", PATH=str(tools), ALS_SPARK_PYTHON="")
        assert result.returncode == 2
        line = only_line(result.stderr)
        assert "found no Python 3.11 or newer" in line
        assert "python3-venv" in line

    @pytest.mark.slow
    def test_with_pip_where_there_is_no_uv(self, checkout, tmp_path):
        # The real thing, but for a project without dependencies and from a local index.
        (checkout.bin / "uv").unlink()
        pin = f"setuptools=={metadata.version('setuptools')}"
        (checkout.root / "constraints.txt").write_text(f"{pin}\n")
        (checkout.root / "pyproject.toml").write_text(
            "[build-system]\nrequires = ['setuptools']\n"
            "build-backend = 'setuptools.build_meta'\n"
            "[project]\nname = 'als-spark'\nversion = '0.1.0'\n"
            "[tool.setuptools.packages.find]\ninclude = ['als_spark*']\n"
        )
        offline = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(installed_as_wheel("setuptools", tmp_path / "wheels").parent),
            "PIP_CONFIG_FILE": os.devnull,
        }
        result = checkout.run("scripts/setup.sh", **offline)
        assert result.returncode == 0, result.stderr
        assert "venv and pip" in result.stderr
        found = subprocess.run(
            [checkout.venv / "bin" / "python", "-c", "import als_spark; print(als_spark.__file__)"],
            cwd=tmp_path,
            env=checkout.env,
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == str(checkout.root / "als_spark" / "__init__.py")
        assert checkout.run("scripts/setup.sh", **offline).stderr == ""

    def test_another_pyspark_borrows_all_else(self, checkout):
        use = 'ensure_python\nensure_pyspark 3.5\nprintf %s "$VENV"'
        first = checkout.bash(use)
        venv = checkout.root / ".venv-spark-3.5"
        assert (first.returncode, first.stdout) == (0, str(venv)), first.stderr
        (packages,) = venv.glob("lib/python*/site-packages")
        install = f"pip install --quiet --python {checkout.venv}/bin/python --no-build-isolation"
        assert checkout.installs()[-1] == f"{install} --target {packages} pyspark==3.5.*"
        # The stand-in for uv has installed none.
        (packages / "pyspark.py").write_text("")
        program = "import numpy, pyspark; print(pyspark.__file__)"
        found = subprocess.run(
            [venv / "bin" / "python", "-c", program], capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == str(packages / "pyspark.py")
        again = checkout.bash(use)
        assert (again.stdout, again.stderr) == (str(venv), "")
        assert checkout.installs() == []
        wrong = checkout.bash("ensure_pyspark newest")
        assert wrong.returncode == 2
        assert only_line(wrong.stderr).endswith("give a line of Spark, such as 3.5")


def installed_as_wheel(name: str, folder: Path) -> Path:
    """Pack an installed pure Python distribution back into a wheel."""
    folder.mkdir()
    wheel = folder / f"{name}-{metadata.version(name)}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in metadata.files(name):
            if ".." not in file.parts and file.suffix != ".pyc" and file.name != "RECORD":
                archive.write(file.locate(), file.as_posix())
        # An empty record: pip then takes each file as it is.
        archive.writestr(f"{name}-{metadata.version(name)}.dist-info/RECORD", "")
    return wheel


class TestJava:
    """``ensure_java``, among Javas that are only directories with a ``release`` file."""

    def java(self, folder: Path, version: str, *, release: bool = True) -> Path:
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "java"
        program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-16' >&2\n")
        program.chmod(0o755)
        if release:
            (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
        return folder

    def ensure(self, checkout, *candidates: Path, before: str = "", **env: str):
        listed = "".join(f"{candidate}\\n" for candidate in candidates)
        found = f"java_candidates() {{ printf '%b' \"${{JAVA_HOME:-}}\\n{listed}\"; }}"
        commands = f'{found}\n{before}\nensure_java\nprintf %s "$JAVA_HOME"'
        return checkout.bash(commands, **({"JAVA_HOME": ""} | env))

    @pytest.mark.parametrize("release", [True, False])
    @pytest.mark.parametrize(
        ("version", "fits"),
        [
            ("17.0.15", True),
            ("21", True),
            ("25.0.3", True),
            ("11.0.2", False),
            ("1.8.0_402", False),
        ],
    )
    def test_17_or_newer(self, checkout, tmp_path, version, fits, release):
        home = self.java(tmp_path / "java", version, release=release)
        result = self.ensure(checkout, home, before="is_root() { return 1; }")
        assert result.returncode == (0 if fits else 2)
        assert result.stdout == (str(home) if fits else "")

    def test_an_old_java_home_gives_way_to_a_good_java(self, checkout, tmp_path):
        old, good = self.java(tmp_path / "8", "1.8.0_402"), self.java(tmp_path / "21", "21.0.1")
        result = self.ensure(checkout, good, JAVA_HOME=str(old))
        assert result.stdout == str(good)
        assert f"JAVA_HOME={old} is not a Java 17 or newer, using {good}" in only_line(
            result.stderr
        )

    def test_a_good_java_home_is_kept(self, checkout, tmp_path):
        mine, other = self.java(tmp_path / "17", "17.0.1"), self.java(tmp_path / "21", "21.0.1")
        result = self.ensure(checkout, other, JAVA_HOME=str(mine))
        assert (result.stdout, result.stderr) == (str(mine), "")

    def test_the_java_on_path_is_found_behind_its_links(self, checkout, tmp_path):
        home = self.java(tmp_path / "jvm" / "java-17", "17.0.1")
        (tmp_path / "jvm" / "default").symlink_to("java-17")
        alternative = tmp_path / "alternative"
        alternative.symlink_to("jvm/default/bin/java")
        (checkout.bin / "java").symlink_to(alternative)
        assert checkout.bash("java_home_on_path").stdout.strip() == str(home)

    def test_apt_and_root_install_a_headless_one(self, checkout, tmp_path):
        home = tmp_path / "installed"
        prepared = self.java(tmp_path / "prepared", "17.0.1")
        checkout.program("apt-cache", '#!/bin/sh\n[ "$2" = openjdk-17-jre-headless ]\n')
        checkout.program(
            "apt-get",
            f'#!/bin/sh\necho "$*" >>{tmp_path}/apt.log\n'
            f'[ "$1" = update ] || cp -r {prepared} {home}\n',
        )
        result = self.ensure(checkout, home, before="is_root() { return 0; }")
        assert result.returncode == 0, result.stderr
        assert result.stdout == str(home)
        assert (tmp_path / "apt.log").read_text().splitlines() == [
            "update -qq",
            "install -y -qq --no-install-recommends openjdk-17-jre-headless",
        ]

    def test_without_root_it_says_what_to_install(self, checkout):
        checkout.program("apt-get", "#!/bin/sh\necho called >&2\n")
        result = self.ensure(checkout, before="is_root() { return 1; }")
        assert result.returncode == 2
        assert "apt-get install openjdk-17-jre-headless" in only_line(result.stderr)

    def test_an_apt_that_fails_ends_in_the_same_advice(self, checkout):
        checkout.program("apt-cache", "#!/bin/sh\nexit 0\n")
        checkout.program("apt-get", "#!/bin/sh\nexit 100\n")
        result = self.ensure(checkout, before="is_root() { return 0; }")
        assert result.returncode == 2
        assert "openjdk-17-jre-headless" in result.stderr.splitlines()[-1]


# A job that tells what it was given, and what PySpark would start its JVM with.
FROM_THE_CHECKOUT = (
    "import sys\n"
    "from pathlib import Path\n"
    "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))\n"
)
TELLING_JOB = f"""\
{FROM_THE_CHECKOUT}
import json, os, shlex
from als_spark.cli.launch import prepare_launch

prepare_launch()
print(json.dumps({{
    "locale": os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE"),
    "options": sys.argv[1:],
    "submit": shlex.split(os.environ["PYSPARK_SUBMIT_ARGS"]),
    "java": os.environ["JAVA_HOME"],
    "spark": os.environ["SPARK_HOME"],
    "path": sys.path,
    "python": [os.environ["PYSPARK_PYTHON"], os.environ["PYSPARK_DRIVER_PYTHON"]],
    "interpreter": sys.executable,
}}))
"""


class TestRun:
    """What ``run.sh`` gives to a job, and a job to PySpark."""

    @pytest.fixture
    def told(self, checkout):
        checkout.job("sweep", TELLING_JOB)
        checkout.run("scripts/setup.sh")

        def run(*command: str, **env: str):
            result = checkout.run(*command, **env)
            # Bash itself complains of a locale that is not there.
            said = [line for line in result.stderr.splitlines() if "setlocale" not in line]
            assert (result.returncode, said) == (0, [])
            return json.loads(result.stdout)

        return run

    def test_the_job_gets_its_options_as_they_were_given(self, told):
        options = ["--output", "a b", "--ranks", "1,5", "", "$HOME", "--conf"]
        assert told("scripts/sweep.sh", *options)["options"] == options
        assert told("scripts/run.sh", "sweep", *options)["options"] == options

    def test_environment_of_the_checkout(self, checkout, told):
        answer = told("scripts/sweep.sh")
        python = f"{checkout.venv}/bin/python"
        assert answer["interpreter"] == python
        assert answer["python"] == [python, python]
        assert answer["java"] == f"{checkout.root}/als_spark/conf/quiet-java"
        config = (checkout.root / "als_spark" / "conf" / "log4j2.properties").as_uri()
        assert f"-Dlog4j2.configurationFile={config}" in answer["submit"]

    def test_own_options_come_after_and_keep_their_quotes(self, told):
        own = "--master 'local[2]' --conf \"spark.app.name=two words\" --conf a=$HOME;`touch x`"
        words = told("scripts/sweep.sh", "--seed", "1", ALS_SPARK_SUBMIT_ARGS=own)["submit"]
        assert words[words.index("--master") :] == [
            *("--master", "local[2]", "--conf", "spark.app.name=two words"),
            *("--conf", "a=$HOME;`touch", "x`"),
            "pyspark-shell",
        ]

    def test_a_distribution_brings_its_own_pyspark(self, told, tmp_path):
        spark = tmp_path / "my spark"
        (spark / "bin").mkdir(parents=True)
        (spark / "bin" / "spark-class").write_text("#!/bin/sh\n")
        (spark / "bin" / "spark-class").chmod(0o755)
        library = spark / "python" / "lib"
        library.mkdir(parents=True)
        with zipfile.ZipFile(library / "py4j-0.10.9-src.zip", "w"):
            pass
        answer = told("scripts/sweep.sh", SPARK_HOME=str(spark))
        assert answer["spark"] == str(spark)
        found = [folder for folder in answer["path"] if folder.startswith(str(spark))]
        assert found == [str(spark / "python"), str(library / "py4j-0.10.9-src.zip")]

    @pytest.mark.parametrize("given", ["", "POSIX", "C.UTF-8"])
    def test_names_are_in_utf_8_whatever_the_locale(self, checkout, told, given):
        for name in ("LANG", "LC_CTYPE"):
            checkout.env.pop(name, None)
        answer = told("scripts/sweep.sh", "--output", "modèles", LC_ALL=given)
        assert answer["options"] == ["--output", "modèles"]
        assert answer["locale"] == "C.UTF-8"

    def test_streams_that_are_closed(self, checkout):
        """What is said for nobody is written nowhere: not into a script, nor into a job."""
        checkout.job("sweep", "import os\nos.write(2, b'said')\nos.write(1, b'said')\nexit(7)\n")
        checkout.run("scripts/setup.sh")
        files = {path: path.read_bytes() for path in checkout.root.glob("[js]*/**/*.[sp][hy]")}
        assert len(files) > 10
        for streams in ("2>&-", ">&- 2>&-"):
            ended = checkout.bash(f"'{checkout.root}/scripts/sweep.sh' {streams} || exit $?")
            assert ended.returncode == 7
        assert {path: path.read_bytes() for path in files} == files

    @pytest.mark.parametrize(
        ("command", "env", "complaint"),
        [
            (["scripts/run.sh"], {}, "usage: scripts/run.sh JOB"),
            (["scripts/run.sh", "nix"], {}, "(not nix)"),
            (["scripts/setup.sh", "nix"], {}, "not nix"),
            (["scripts/sweep.sh"], {"SPARK_HOME": "/nonexistent"}, "no Spark at /nonexistent"),
            (["scripts/cluster.sh"], {}, "usage: scripts/cluster.sh start|stop|status"),
            (["scripts/cluster.sh", "restart"], {}, "not restart"),
            (["scripts/cluster.sh", "start", "--cores"], {}, "--cores: no value"),
            (["scripts/cluster.sh", "start", "--core", "1"], {}, "no option --core"),
            (["scripts/cluster.sh", "start", "--workers", "0"], {}, "0 is not a positive whole"),
            (["scripts/cluster.sh", "start", "--hosts", "255"], {}, "--hosts 255: at most 254"),
            (["scripts/cluster.sh", "start", "--python", "nix"], {}, "--python nix"),
            (["scripts/cluster.sh", "start", "--manager", "mesos"], {}, "no manager mesos"),
            (["scripts/cluster.sh", "start", "--memory", "2"], {}, "--memory 2 is not like 2g"),
            (["scripts/cluster.sh", "stop", "--manager", "yarn", "--port", "9"], {}, "no --work"),
        ],
    )
    def test_wrong_use_is_exit_code_2_and_one_line(self, checkout, command, env, complaint):
        checkout.job("sweep", "")
        checkout.run("scripts/setup.sh")
        result = checkout.run(*command, **env)
        assert (result.returncode, result.stdout) == (2, "")
        assert complaint in only_line(result.stderr)


class TestDocs:
    """The pages are built for real, with the packages of the environment that runs the tests."""

    @pytest.fixture
    def pages(self, checkout):
        pytest.importorskip("sphinx")
        shutil.copytree(ROOT / "docs", checkout.root / "docs")
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
            shutil.copy(ROOT / name, checkout.root)
        return checkout.root / "docs"

    @pytest.mark.slow
    def test_builds_without_a_warning_and_needs_no_network(self, checkout, pages):
        result = checkout.run("scripts/docs.sh")
        assert result.returncode == 0, result.stderr
        assert checkout.installs()[-1].endswith(f"--editable {checkout.root}[data,docs]")
        built = checkout.root / "build" / "docs"
        assert result.stderr.splitlines()[-1].endswith(f"{built}/index.html")
        sources = {page.relative_to(pages).with_suffix(".html") for page in pages.rglob("*.md")}
        for page in sources:
            text = (built / page).read_text(encoding="utf-8")
            # Links to other sites are links; what a page loads by itself must be its own.
            loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=\"([^\"]+)", text)
            assert [address for address in loaded if "//" in address] == []
        assert "als_spark.fold_in" in (built / "api" / "models.html").read_text(encoding="utf-8")

    @pytest.mark.slow
    def test_a_link_to_nowhere_fails_every_time(self, checkout, pages):
        with (pages / "index.md").open("a") as file:
            file.write("\n[nowhere](nowhere.md)\n")
        for _ in range(2):
            result = checkout.run("scripts/docs.sh")
            assert result.returncode == 1
            assert "nowhere.md" in result.stderr


class TestRealSpark:
    @pytest.mark.slow
    def test_ctrl_c_is_the_jobs_and_the_terminal_is_its_own(self, checkout, tmp_path):
        checkout.job(
            "wait",
            f"{FROM_THE_CHECKOUT}"
            "import os, signal, time\n"
            "from als_spark.cli.launch import prepare_launch\n"
            "from als_spark.spark.session import start_session\n"
            "prepare_launch()\n"
            "spark = start_session('wait')\n"
            "threads = lambda _: os.environ['OPENBLAS_NUM_THREADS']\n"
            "print(spark.sparkContext.parallelize([0], 1).map(threads).collect())\n"
            "try:\n"
            "    print('waiting', sys.argv[1:], flush=True)\n"
            "    time.sleep(240)\n"
            "except KeyboardInterrupt:\n"
            # By now a JVM that had obeyed the signal would be gone, and stdout with it.
            "    time.sleep(1)\n"
            "    print('still has', spark.range(3).count(), flush=True)\n"
            "    print(sys.executable, file=sys.stderr)\n"
            "    spark.stop()\n"
            "    raise SystemExit(7) from None\n",
        )
        checkout.run("scripts/setup.sh")
        process = checkout.start(
            "scripts/run.sh", "wait", "a b", ALS_SPARK_SUBMIT_ARGS="--master 'local[1]'"
        )
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=180)
        assert lines == ["['1']\n", "waiting ['a b']\n"]
        assert out == "still has 3\n", err
        assert process.returncode == 7
        # What the job says there: no banner, no warning of JVM, Hadoop or host name.
        assert err == f"{checkout.venv}/bin/python\n"
