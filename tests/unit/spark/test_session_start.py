"""A session whose first start meets Spark's own race, and whose JVM ends before it."""

from __future__ import annotations

import socket
import socketserver
from types import SimpleNamespace
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError

from als_spark.spark.session import _get_or_create, quiet_spark


class JavaError(Py4JJavaError):
    """An exception of the JVM, without one."""

    def __init__(self, words: str) -> None:
        Exception.__init__(self, words)
        self.words = words

    def __str__(self) -> str:
        return self.words


class Builder:
    """Fails as often as it has errors, then starts."""

    def __init__(self, *errors: str) -> None:
        self.errors = list(errors)

    def getOrCreate(self) -> Any:
        if self.errors:
            raise JavaError(self.errors.pop(0))
        return "session"


RACE = "An error occurred\n: java.util.ConcurrentModificationException\n\tat java.util.ArrayList"


def test_the_race_of_the_web_page_is_met_by_a_second_start() -> None:
    assert _get_or_create(Builder()) == "session"
    assert _get_or_create(Builder(RACE)) == "session"


@pytest.mark.parametrize("errors", [[RACE, RACE], ["java.net.BindException: in use"]])
def test_other_failures_and_a_second_one_are_raised(errors: list[str]) -> None:
    with pytest.raises(Py4JJavaError, match=r"java\."):
        _get_or_create(Builder(*errors))


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, ValueError])
def test_a_jvm_that_ends_leaves_no_stack_trace_of_its_accumulators(
    error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            raise error("of the handler")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        context: Any = SimpleNamespace(
            _accumulatorServer=server,
            getConf=lambda: {"spark.driver.extraJavaOptions": "-Dlog4j2.configurationFile=mine"},
        )
        quiet_spark(SimpleNamespace(sparkContext=context))  # type: ignore[arg-type]
        with socket.create_connection(server.server_address):  # type: ignore[arg-type]
            server.handle_request()
    # What nobody expects is still told.
    assert ("of the handler" in capsys.readouterr().err) == (error is ValueError)
