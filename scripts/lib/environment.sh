# shellcheck shell=bash
# The set-up that every script of this project shares; to be sourced, not run:
#
#   ROOT              the checkout
#   VENV              its environment, ROOT/.venv
#   ensure_python     [LEVEL]   make .venv what pyproject.toml and constraints.txt say
#   ensure_pyspark LINE       after it: VENV becomes one beside it, with a PySpark of that line
#   ensure_java               put a Java 17+ into JAVA_HOME
#   ensure_spark_home         set SPARK_HOME: the user's own, else the one inside pyspark
#   run_job FILE ...          become the job
#
# Silent when there is nothing to do. Everything said goes to stderr: stdout is the job's.
# Written for bash 3.2 (macOS) too, so no mapfile, no ${x,,}, no bare "${empty[@]}".

# shellcheck source=scripts/lib/streams.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/streams.sh"

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
VENV=$ROOT/.venv

# The oldest ones that the project supports.
PYTHON_FLOOR=3.11
JAVA_FLOOR=17
# What uv fetches where there is no Python: one that every pinned package has a wheel for.
PYTHON_FETCHED=3.13

say() { printf 'als_spark: %s\n' "$*" >&2; }

# What the user has to mend, in one line. 2 is the exit code for that in the jobs too.
give_up() {
    say "$*"
    exit 2
}

# ---------------------------------------------------------------------------------------
# Python
# ---------------------------------------------------------------------------------------

# Does "$1" run, and is it new enough? (A pyenv shim is on PATH but fails when it is called.)
python_fits() {
    "$1" -I -S -c "import sys; sys.exit(sys.version_info < (${PYTHON_FLOOR/./, }))" 2>/dev/null
}

# Prints the interpreter to build .venv with. `python3` first, as that is the one the user
# chose for this shell; ALS_SPARK_PYTHON overrides every guess.
find_python() {
    local candidate
    if [[ -n ${ALS_SPARK_PYTHON:-} ]]; then
        python_fits "$ALS_SPARK_PYTHON" || return 1
        command -v "$ALS_SPARK_PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && python_fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Is the installation of level "$1" (run, docs, test, dev or bench) the one that the files ask for? The stamp
# holds a digest of what the environment depends on: the two files, the interpreter's version
# and the checkout's path (.venv/bin/* and the editable install hold absolute paths).
# One short Python process: no tool beyond the environment itself, and some 20 ms.
# With "write" as "$2" the stamp is written instead of compared.
stamp() {
    "$VENV/bin/python" -I -S - "$ROOT" "$VENV/.als-spark-$1" "${2:-compare}" <<'PY' 2>/dev/null
import hashlib, os, sys

root, stamp, action = sys.argv[1:]
digest = hashlib.sha256(f"{sys.version}\0{sys.prefix}\0{root}\0".encode())
for name in ("pyproject.toml", "constraints.txt"):
    with open(os.path.join(root, name), "rb") as file:
        digest.update(file.read() + b"\0")
if action == "write":
    with open(stamp + ".part", "w") as file:
        file.write(digest.hexdigest())
    os.replace(stamp + ".part", stamp)
else:
    with open(stamp) as file:
        sys.exit(file.read() != digest.hexdigest())
PY
}

environment_is_ready() {
    [[ -x $VENV/bin/python && ! -e $VENV/.als-spark-unfinished ]] && stamp "$1"
}

# ensure_python [docs|test|dev|bench]: with `docs`, the tools of scripts/docs.sh as well; with `test`,
# those of scripts/test.sh; with `dev`, those of a contributor; with `bench`, what scripts/bench.sh
# compares against.
ensure_python() {
    install_once "${1:-run}" install_environment "${1:-run}"
}

# ensure_pyspark LINE, after ensure_python: from here on VENV is ROOT/.venv-spark-LINE. It borrows
# every package of .venv but PySpark, of which it has the newest of that line.
ensure_pyspark() {
    [[ $1 =~ ^[0-9]+\.[0-9]+$ ]] || give_up "--spark $1: give a line of Spark, such as 3.5"
    BORROWED=$VENV
    VENV=$ROOT/.venv-spark-$1
    install_once pyspark install_pyspark "$1"
}

# install_once LEVEL COMMAND ...: runs the command unless VENV has that level.
install_once() {
    local level=$1
    shift
    environment_is_ready "$level" && return
    # Two scripts that start at once in a fresh clone must not install into each other's way.
    if command -v flock >/dev/null; then
        exec 9<"$ROOT"
        flock 9
        environment_is_ready "$level" || "$@" 9<&-
        exec 9<&-
    else
        "$@"
    fi
}

# What is its own comes first on the path of modules, so it hides the PySpark of .venv.
install_pyspark() {
    local packages started=$SECONDS install=("$BORROWED/bin/python" -m pip install -qq --disable-pip-version-check)
    command -v uv >/dev/null && install=(uv pip install --quiet --python "$BORROWED/bin/python")
    say "creating $VENV with PySpark $1, beside the packages of $BORROWED"
    "$BORROWED/bin/python" -m venv --clear --without-pip "$VENV" ||
        give_up "could not create $VENV; the reason stands above"
    packages=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    if ! "${install[@]}" --no-build-isolation --target "$packages" "pyspark==$1.*" >&2; then
        say "could not install PySpark $1 into $VENV; the reason stands above"
        exit 1
    fi
    "$BORROWED/bin/python" -c \
        'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
        >"$packages/borrowed.pth"
    stamp pyspark write
    say "environment ready after $((SECONDS - started)) s"
}

# Prints the levels that an installation of level "$1" includes.
parts_of() {
    case $1 in
    dev) echo run docs test dev ;;
    test) echo run docs test ;;
    run) echo run ;;
    *) echo run "$1" ;;
    esac
}

install_environment() {
    local level=$1 part extra='[data]' uv='' python='' started=$SECONDS
    [[ $level == run ]] || extra="[data,$level]"
    command -v uv >/dev/null && uv=$(command -v uv)

    # A killed pip leaves packages half unpacked that look installed: begin afresh then. Also
    # when the interpreter behind .venv is gone, was exchanged for an older one, or has no pip.
    if [[ -e $VENV/.als-spark-unfinished ]] || ! python_fits "$VENV/bin/python" ||
        { [[ -z $uv ]] && ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }; then
        python=$(find_python) || python=''
        if [[ -z $python && ( -z $uv || -n ${ALS_SPARK_PYTHON:-} ) ]]; then
            give_up "found no Python ${PYTHON_FLOOR} or newer${ALS_SPARK_PYTHON:+ at ALS_SPARK_PYTHON=$ALS_SPARK_PYTHON}: install one (Debian, Ubuntu: apt-get install python3 python3-venv; or uv, which brings its own), or name it in ALS_SPARK_PYTHON"
        fi
        say "creating $VENV with ${python:-Python $PYTHON_FETCHED} (${uv:-venv and pip})"
        create_venv
    fi

    say "installing the pinned packages$extra (the first time takes a minute or two)"
    # Left behind by a kill or Ctrl-C only: a pip that merely fails has put everything back,
    # and an environment that worked before (no network today, say) must go on working.
    : >"$VENV/.als-spark-unfinished"
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if ! install_packages; then
        rm -f "$VENV/.als-spark-unfinished"
        say "could not install the packages of pyproject.toml and constraints.txt into $VENV; the reason stands above"
        exit 1
    fi
    trap - INT TERM
    for part in $(parts_of "$level"); do stamp "$part" write; done
    rm -f "$VENV/.als-spark-unfinished"
    say "environment ready after $((SECONDS - started)) s"
}

# Uses the locals of install_environment.
create_venv() {
    if [[ -n $uv ]]; then
        "$uv" venv --quiet --clear --python "${python:-$PYTHON_FETCHED}" "$VENV" && return
        give_up "uv could not create $VENV with ${python:-Python $PYTHON_FETCHED}: install a Python $PYTHON_FLOOR or newer, or name one in ALS_SPARK_PYTHON"
    fi
    # Debian and Ubuntu split venv's parts off into a package of its own.
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        give_up "$python cannot create environments: install its venv module (Debian, Ubuntu: apt-get install python3-venv), or install uv"
    "$python" -m venv --clear "$VENV" || give_up "$python could not create $VENV; the reason stands above"
}

# setuptools comes first and pinned, and the build uses it where it is: with pip's isolated
# builds the build tools would be the only part of the environment that is not pinned. Of the
# peers of the benchmarks some are built here, each with tools of its own.
install_packages() {
    local install
    if [[ -n $uv ]]; then
        install=("$uv" pip install --quiet --python "$VENV/bin/python")
    else
        install=("$VENV/bin/python" -m pip install -qq --disable-pip-version-check)
    fi
    install+=(--constraint "$ROOT/constraints.txt")
    "${install[@]}" setuptools >&2 || return
    [[ $level == bench ]] || install+=(--no-build-isolation)
    "${install[@]}" --editable "$ROOT$extra" >&2
}

# ---------------------------------------------------------------------------------------
# Java
# ---------------------------------------------------------------------------------------

# Prints the major version of the Java whose home is "$1" (1.8 counts as 8). The file
# `release` saves the start of a JVM; a home without it is asked.
java_major() {
    local version=''
    [[ -x $1/bin/java ]] || return 1
    if [[ -r $1/release ]]; then
        version=$(sed -n 's/^JAVA_VERSION="\([^"]*\)".*/\1/p' "$1/release")
    fi
    if [[ -z $version ]]; then
        version=$("$1/bin/java" -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p' | head -n 1)
    fi
    version=${version#1.}
    version=${version%%[!0-9]*}
    [[ -n $version ]] && printf '%s\n' "$version"
}

java_fits() {
    local major
    major=$(java_major "$1") && ((major >= JAVA_FLOOR))
}

# Prints the home of the `java` on PATH, behind all links.
java_home_on_path() {
    local java link
    java=$(command -v java) || return 1
    while [[ -L $java ]]; do
        link=$(readlink "$java")
        [[ $link == /* ]] && java=$link || java=$(dirname -- "$java")/$link
    done
    (cd -- "$(dirname -- "$java")/.." && pwd -P)
}

# The user's choice, PATH, then where systems put them, one a line.
java_candidates() {
    printf '%s\n' "${JAVA_HOME:-}" "$(java_home_on_path)" \
        "$(/usr/libexec/java_home -v "$JAVA_FLOOR+" 2>/dev/null)" /usr/lib/jvm/*
}

# Prints the first home that fits.
find_java() {
    local home
    while IFS= read -r home; do
        if [[ -n $home ]] && java_fits "$home"; then
            printf '%s\n' "$home"
            return
        fi
    done <<<"$(java_candidates)"
    return 1
}

# Ends with JAVA_HOME set and exported: Spark looks there first, so a JAVA_HOME that is too
# old would win over a good `java` on PATH.
ensure_java() {
    local home had=${JAVA_HOME:-}
    if ! home=$(find_java); then
        install_java
        home=$(find_java) || give_up "found no Java $JAVA_FLOOR or newer (JAVA_HOME, PATH): install one (Debian, Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17) or set JAVA_HOME"
    fi
    if [[ -n $had && $had != "$home" ]]; then
        say "JAVA_HOME=$had is not a Java $JAVA_FLOOR or newer, using $home"
    fi
    export JAVA_HOME=$home
}

is_root() { ((EUID == 0)); }

# Only where it can work without a question: apt-get, and root. Leaves the verdict to the
# caller, which looks again.
install_java() {
    local package
    command -v apt-get >/dev/null && is_root || return 0
    say "found no Java $JAVA_FLOOR or newer, installing a headless one with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 || true
    for package in openjdk-17-jre-headless openjdk-21-jre-headless default-jre-headless; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            apt-get install -y -qq --no-install-recommends "$package" >&2 || true
            return 0
        fi
    done
}

# ---------------------------------------------------------------------------------------
# Spark
# ---------------------------------------------------------------------------------------

# Setting it also spares Spark's own scripts a Python process that looks for it.
ensure_spark_home() {
    local package
    if [[ -z ${SPARK_HOME:-} ]]; then
        for package in "$VENV"/lib/python*/site-packages/pyspark; do
            [[ -x $package/bin/spark-class ]] && SPARK_HOME=$package
        done
    fi
    [[ -n ${SPARK_HOME:-} && -x $SPARK_HOME/bin/spark-class ]] ||
        give_up "no Spark at ${SPARK_HOME:-$VENV}: set SPARK_HOME to a Spark distribution, or unset it and remove .venv to have pyspark installed again"
    export SPARK_HOME
}

# run_job FILE [options]: becomes the job, which starts Spark itself, with the options of
# ALS_SPARK_SUBMIT_ARGS (als_spark/cli/launch.py). Under spark-submit the JVM would start the job, and
# what the job writes to standard error would come out of the JVM's standard output.
run_job() {
    local archive
    # On a cluster, executors run the interpreter of the same path.
    export PYSPARK_PYTHON=$VENV/bin/python PYSPARK_DRIVER_PYTHON=$VENV/bin/python
    if [[ $SPARK_HOME != "$VENV"/* ]]; then
        # A distribution of its own has the PySpark that its JVM knows.
        for archive in "$SPARK_HOME"/python/lib/py4j-*.zip "$SPARK_HOME/python"; do
            [[ -e $archive ]] && export PYTHONPATH=$archive${PYTHONPATH:+:$PYTHONPATH}
        done
    fi
    exec "$VENV/bin/python" "$@"
}
