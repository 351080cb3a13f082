"""A standalone cluster: whether its master is there, and what it has; without a JVM."""

from __future__ import annotations

import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from als_spark.cli.waiting import watched
from als_spark.errors import ConfigError
from als_spark.spark import cluster
from als_spark.spark.cluster import ask_master, check_master, no_executor_words, offer_of
from tests.conftest import ROOT


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_master_that_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"127.0.0.1:{server.getsockname()[1]}"
        check_master(f"spark://{here}")
        # One of several is enough.
        check_master(f"spark://127.0.0.1:{free_port()},{here}")
    for master in ("local[2]", "yarn", "k8s://https://nowhere:1"):
        check_master(master)


def test_nobody_there():
    master = f"spark://127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError, match=f"{master}: nobody accepts a connection .*refused"):
        check_master(master)


@pytest.mark.parametrize("reason", [TimeoutError(), socket.gaierror(-2, "Name not known")])
def test_other_reasons(reason):
    def connect(place, seconds):
        assert (place, seconds) == (("a", 7077), cluster.PROBE_SECONDS)
        raise reason

    with pytest.raises(ConfigError, match=r"a:7077: (no answer|Name not known)"):
        check_master("spark://a:7077", connect)


@pytest.mark.parametrize("master", ["spark://a", "spark://", "spark://a:x", "spark://a:70770"])
def test_no_address(master):
    with pytest.raises(ConfigError, match="is no host and port: give it as spark://HOST:7077"):
        check_master(master)


def worker(cores, memory, state="ALIVE"):
    return {"coresfree": cores, "memoryfree": memory, "state": state}


def test_what_a_master_has():
    assert offer_of({}) == offer_of({"workers": [worker(8, 9, "DEAD")]}) == "it has no worker"
    assert offer_of({"workers": [worker(1, 2048)]}) == (
        "its worker has at most 1 core and 2048m free"
    )
    assert offer_of({"workers": [worker(4, 512), worker(1, 2048)]}) == (
        "its 2 workers have at most 4 cores and 2048m free"
    )


def test_a_master_is_asked_by_its_web_page():
    status = {"workers": [worker(1, 2048)]}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(status).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        master = f"spark://127.0.0.1:{server.server_port - 1}"
        try:
            # The page of somebody else.
            status["url"] = "spark://other:7077"
            assert ask_master(master) is None
            status["url"] = master
            assert ask_master(master) == "its worker has at most 1 core and 2048m free"
        finally:
            server.shutdown()
    assert ask_master(master, 0.5) is None
    assert ask_master("yarn") is None


def test_the_words():
    settings = {"spark.executor.cores": "4", "spark.executor.memory": "4g"}
    assert no_executor_words("spark://a:1", settings, "it has no worker", 30.2) == (
        "no executor after 30 s: spark://a:1 was asked for executors of 4 cores and 4g; it has no "
        "worker: ask for less (spark.executor.cores, spark.executor.memory), start larger workers, "
        "or wait for others to end"
    )
    assert "for executors of 1g: ask for" in no_executor_words("yarn", {}, None, 30)


def test_executors_that_do_not_come_are_told_of_once():
    told, done = [], threading.Event()

    def tell(seconds):
        told.append(seconds)
        done.set()

    with watched(lambda: 0, tell, patience=0.05):
        assert done.wait(30)
    assert len(told) == 1
    assert told[0] >= 0.05


def test_executors_that_come_are_not():
    for count in (lambda: 1, lambda: 1 // 0):
        told, asked = [], threading.Event()

        def counted(count=count, asked=asked):
            asked.set()
            return count()

        with watched(counted, told.append, patience=0.01):
            assert asked.wait(30)
            # A word would come at once.
            assert not threading.Event().wait(0.1)
        assert told == []


def test_workers_of_the_script_hold_executors_of_the_configuration():
    conf = (ROOT / "conf" / "spark-standalone.conf").read_text("utf-8")
    script = (ROOT / "scripts" / "cluster.sh").read_text("utf-8")
    memory = re.search(r"^spark\.executor\.memory\s+(\d+)g$", conf, re.MULTILINE)
    cores = re.search(r"^spark\.executor\.cores\s+(\d+)$", conf, re.MULTILINE)
    of_worker = re.search(r"memory=\$\{memory:-(\d+)g", script)
    cores_of_worker = re.search(r"cores=\$\{cores:-(\d+)", script)
    assert memory is not None
    assert of_worker is not None
    assert cores_of_worker is not None
    assert int(memory[1]) <= int(of_worker[1])
    # Without the setting, all that a worker has.
    assert cores is None or int(cores[1]) <= int(cores_of_worker[1])
