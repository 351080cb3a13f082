#!/usr/bin/env bash
# scripts/cluster.sh start|stop|status [options]: a cluster on loopback, each part of it a process
# of its own. For trials and tests of what local mode cannot show: executors in other processes,
# with an interpreter and an environment of their own.
#
#   --manager standalone   a Spark master and its workers, out of the installed Spark
#   --manager yarn         HDFS (NameNode, DataNode) and YARN (ResourceManager, NodeManager), whose
#                          jars Maven fetches, at the version of Spark's own Hadoop
#
#   start   prints, once all of it has registered, the master's URL, or the folder for
#           HADOOP_CONF_DIR, which also has a spark.conf for --properties-file; when the cluster is up already it only prints that
#   stop    ends every process of it; nothing to do is no error
#   status  exit code 0 and what `start` prints when all of it runs, else 3
#
# Options, and the variables that set their defaults:
#   --manager KIND    ALS_SPARK_CLUSTER_MANAGER   standalone
#   --workers N       ALS_SPARK_CLUSTER_WORKERS   2
#   --cores N         ALS_SPARK_CLUSTER_CORES     1, of each worker
#   --memory SIZE     ALS_SPARK_CLUSTER_MEMORY    2g, of each worker: an executor of
#                                                 conf/spark-standalone.conf, or two of Spark's 1g;
#                                                 6g of YARN, for all containers
#   --hosts N         ALS_SPARK_CLUSTER_HOSTS     1: addresses from 127.0.0.1 on, which workers take
#                                                 in turn; Spark runs no second attempt of a slow
#                                                 task on the host of the first. On Linux alone
#   --port N          ALS_SPARK_CLUSTER_PORT      the master's, and N+1 its web page; a free one
#   --python PATH     ALS_SPARK_CLUSTER_PYTHON    the `python3` that executors find: the one used
#                                                 by applications which do not name one
#   --state-dir DIR   ALS_SPARK_CLUSTER_DIR       .cluster/ in the checkout: pids, logs, work
#   --timeout SECONDS ALS_SPARK_CLUSTER_TIMEOUT   60, for the workers to register; 180 of YARN
# YARN has one NodeManager, counts no cores, and takes no --hosts, --port or --python.
set -euo pipefail
# shellcheck source=scripts/lib/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/environment.sh"
# shellcheck source=scripts/lib/hadoop/cluster.sh
source "$ROOT/scripts/lib/hadoop/cluster.sh"

manager=${ALS_SPARK_CLUSTER_MANAGER:-standalone}
workers=${ALS_SPARK_CLUSTER_WORKERS:-}
cores=${ALS_SPARK_CLUSTER_CORES:-}
memory=${ALS_SPARK_CLUSTER_MEMORY:-}
hosts=${ALS_SPARK_CLUSTER_HOSTS:-}
port=${ALS_SPARK_CLUSTER_PORT:-}
python=${ALS_SPARK_CLUSTER_PYTHON:-}
state=${ALS_SPARK_CLUSTER_DIR:-$ROOT/.cluster}
timeout=${ALS_SPARK_CLUSTER_TIMEOUT:-}

usage() { give_up "usage: scripts/cluster.sh start|stop|status [--manager standalone|yarn] [--workers N] [--cores N] [--memory SIZE] [--hosts N] [--port N] [--python PATH] [--state-dir DIR] [--timeout SECONDS]${1:+ ($1)}"; }

action=${1:-}
case $action in
start | stop | status) shift ;;
*) usage "${action:+not $action}" ;;
esac
while (($#)); do
    (($# > 1)) || usage "$1: no value, or no such option"
    case $1 in
    --manager) manager=$2 ;;
    --workers) workers=$2 ;;
    --cores) cores=$2 ;;
    --memory) memory=$2 ;;
    --hosts) hosts=$2 ;;
    --port) port=$2 ;;
    --python) python=$2 ;;
    --state-dir) state=$2 ;;
    --timeout) timeout=$2 ;;
    *) usage "no option $1" ;;
    esac
    shift 2
done
for number in "${workers:-1}" "${cores:-1}" "${timeout:-1}" "${hosts:-1}" "${port:-1}"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || usage "$number is not a positive whole number"
done
[[ ${memory:-1g} =~ ^[1-9][0-9]*[mg]$ ]] || usage "--memory $memory is not like 2g or 800m"
case $manager in
standalone)
    workers=${workers:-2} cores=${cores:-1} memory=${memory:-2g} timeout=${timeout:-60}
    hosts=${hosts:-1}
    ((hosts < 255)) || usage "--hosts $hosts: at most 254"
    ;;
yarn)
    [[ -z $workers$cores$hosts$port$python ]] ||
        usage "with --manager yarn there is no --workers, --cores, --hosts, --port or --python"
    memory=${memory:-6g} timeout=${timeout:-180}
    ;;
*) usage "no manager $manager" ;;
esac

# The processes of this cluster that are alive, one `NAME PID` a line. A pid file outlives its
# process after a crash or a reboot, and the number may be another program's by then.
running() {
    local file name pid
    for file in "$state"/*.pid; do
        [[ -e $file ]] || continue
        name=$(basename -- "$file" .pid) pid=$(<"$file")
        if [[ $(command_line "$pid") == *" $(main_class "$name") "* ]]; then
            printf '%s %s\n' "$name" "$pid"
        fi
    done
}

main_class() {
    case $1 in
    master) printf org.apache.spark.deploy.master.Master ;;
    worker-*) printf org.apache.spark.deploy.worker.Worker ;;
    *) hadoop_class "$1" ;;
    esac
}

# Not every slim image has ps.
command_line() {
    if [[ -r /proc/$1/cmdline ]]; then
        tr '\0' ' ' <"/proc/$1/cmdline"
    else
        ps -o args= -p "$1" 2>/dev/null || true
    fi
}

# Prints how many workers the master reports alive; nothing when it does not answer.
registered() {
    "$VENV/bin/python" -I - "$(<"$state/web")" <<'PY' 2>/dev/null || true
import json, sys, urllib.request

# No proxy: the address is loopback.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open(f"{sys.argv[1]}/json/", timeout=5) as answer:
    print(json.load(answer)["aliveworkers"])
PY
}

is_up() {
    case $(cat -- "$state/manager" 2>/dev/null) in
    standalone) standalone_is_up ;;
    yarn) yarn_is_up ;;
    *) return 1 ;;
    esac
}

# All of it: the master, and as many workers registered as were started.
standalone_is_up() {
    [[ -s $state/url && -s $state/web && -s $state/workers ]] || return 1
    [[ $(running) == *"master "* ]] || return 1
    [[ $(registered) == "$(<"$state/workers")" ]]
}

# launch NAME COMMAND...: a daemon that outlives this shell and its terminal.
launch() {
    local name=$1 detach=()
    command -v setsid >/dev/null && detach=(setsid)
    ${detach[@]+"${detach[@]}"} "${@:2}" >"$state/logs/$name.log" 2>&1 </dev/null &
    printf '%s\n' $! >"$state/$name.pid"
}

# launch_spark NAME OPTIONS...: a part of the standalone cluster.
launch_spark() { launch "$1" "$SPARK_HOME/bin/spark-class" "$(main_class "$1")" "${@:2}"; }

start() {
    local deadline
    if is_up; then
        [[ $(<"$state/manager") == "$manager" ]] ||
            give_up "the cluster in $state is of --manager $(<"$state/manager"): stop it first, or give another --state-dir"
        say "the cluster in $state is running"
        cat -- "$state/url"
        return
    fi
    stop

    ensure_java
    ensure_spark_home
    # What an application of last time left behind: copies of its archives, mostly.
    rm -rf -- "${state:?}"/{work,local,logs,bin,conf,hdfs}
    mkdir -p -- "$state"/{work,local,logs,bin}
    state=$(cd -- "$state" && pwd -P)
    printf '%s\n' "$manager" >"$state/manager"
    deadline=$((SECONDS + timeout))
    "start_$manager"
    cat -- "$state/url"
}

start_standalone() {
    local web_port index host
    if [[ -n $python ]]; then
        "$python" -c '' 2>/dev/null || give_up "--python $python: cannot be run as a Python interpreter"
        # A script and not a link: an environment's python finds its packages by its own path.
        printf '#!/bin/sh\nexec "%s" "$@"\n' "$(command -v "$python")" >"$state/bin/python3"
        chmod +x "$state/bin/python3"
        export PATH=$state/bin:$PATH
    fi
    if [[ -n $port ]]; then
        web_port=$((port + 1))
    else
        read -r port web_port < <(free_ports 2)
    fi
    printf 'spark://127.0.0.1:%s\n' "$port" >"$state/url"
    printf 'http://127.0.0.1:%s\n' "$web_port" >"$state/web"
    printf '%s\n' "$workers" >"$state/workers"

    # Loopback only, for the web pages and the executors too. Nothing of a cluster that the
    # user may have configured in the environment; no silent move to another port.
    unset SPARK_CONF_DIR SPARK_MASTER_OPTS SPARK_WORKER_OPTS SPARK_MASTER_HOST SPARK_MASTER_PORT
    unset SPARK_WORKER_CORES SPARK_WORKER_MEMORY SPARK_WORKER_DIR MASTER PYTHONPATH
    export SPARK_LOCAL_IP=127.0.0.1 SPARK_PUBLIC_DNS=127.0.0.1 SPARK_LOCAL_DIRS=$state/local
    # The REST server would take a fixed port, and nothing here submits by it.
    export SPARK_DAEMON_JAVA_OPTS="-Dspark.port.maxRetries=0 -Dspark.master.rest.enabled=false"
    export SPARK_DAEMON_MEMORY=512m

    launch_spark master --host 127.0.0.1 --port "$port" --webui-port "$web_port"
    # A worker that finds no master tries again only after 10 s.
    wait_until answers "the master did not answer"
    for ((index = 1; index <= workers; index++)); do
        host=127.0.0.$(((index - 1) % hosts + 1))
        # Where it listens is not where the master does.
        SPARK_LOCAL_IP=$host SPARK_PUBLIC_DNS=$host launch_spark "worker-$index" --host "$host" \
            --port 0 --webui-port 0 --cores "$cores" --memory "$memory" \
            --work-dir "$state/work/worker-$index" "$(<"$state/url")"
    done

    wait_until is_up "not every worker had registered"
}

# wait_until CONDITION COMPLAINT: in time, and only while all that was started lives.
wait_until() {
    local file
    until "$1"; do
        for file in "$state"/*.pid; do
            kill -0 "$(<"$file")" 2>/dev/null || failed "$(basename -- "$file" .pid) ended at once"
        done
        ((SECONDS < deadline)) || failed "$2 after $timeout s"
        sleep 0.2
    done
}

answers() { [[ -n $(registered) ]]; }

# The end of the logs tells why, and the pieces that did start must not stay behind.
failed() {
    tail -n 5 "$state"/logs/*.log >&2
    stop
    say "the cluster did not start: $1; logs in $state/logs"
    exit 1
}

# free_ports N: ports side by side, as with --port: who knows the master's finds its web page.
free_ports() {
    "$VENV/bin/python" -I - "$1" <<'PY'
import socket
import sys
from contextlib import ExitStack

while True:
    # All open at once, or somebody else may get one of them.
    with ExitStack() as stack:
        first, *others = [
            stack.enter_context(socket.socket()) for _ in range(int(sys.argv[1]))
        ]
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            for step, other in enumerate(others, start=1):
                other.bind(("127.0.0.1", port + step))
        except (OSError, OverflowError):
            continue
        print(*range(port, port + len(others) + 1))
        break
PY
}

# What applications left: a NodeManager that is killed leaves its containers, whose command lines
# have its folder.
end_containers() {
    local file pid folder
    [[ -d $state/work/local ]] || return 0
    folder=$(cd -- "$state/work/local" && pwd -P)
    for file in /proc/[0-9]*/cmdline; do
        pid=${file#/proc/} pid=${pid%/cmdline}
        if [[ $(command_line "$pid" 2>/dev/null) == *"$folder/"* ]]; then
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done
}

# Workers first: a worker whose master has gone tries to reach it again. (By chance of their names
# it is so in YARN too.)
stop() {
    local name pid pids=() patience=50
    while read -r name pid; do
        [[ -n $pid ]] && pids+=("$pid")
    done < <(running | sort -r)
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
    for pid in ${pids[@]+"${pids[@]}"}; do
        while kill -0 "$pid" 2>/dev/null; do
            ((patience-- > 0)) || { kill -KILL "$pid" 2>/dev/null || true; break; }
            sleep 0.2
        done
    done
    end_containers
    rm -f -- "$state"/*.pid "$state/url" "$state/web" "$state/workers" "$state/manager"
}

ensure_python run
case $action in
start) start ;;
stop) stop ;;
status)
    if is_up; then
        running >&2
        cat -- "$state/url"
    else
        say "no cluster is running in $state"
        exit 3
    fi
    ;;
esac
