"""Keys and passwords never come out of the function that all that is shown or kept goes through."""

from __future__ import annotations

import json

import pytest

from als_spark.errors import ConfigError, DataError, SolveError, StoreLocked
from als_spark.redaction import redact, redact_all


@pytest.mark.parametrize(
    ("text", "blotted"),
    [
        ("s3a://KEY:SECRET@bucket/a.csv", "s3a://***@bucket/a.csv"),
        ("s3a://KEY:SEC/RET+/x@bucket/a.csv", "s3a://***@bucket/a.csv"),
        ("s3a://KEY:123/456@bucket/a.csv", "s3a://***@bucket/a.csv"),
        ("s3a:/KEY:SECRET@bucket/a.csv", "s3a:/***@bucket/a.csv"),
        ("ftp://user:pass@word@host:21/a", "ftp://***@host:21/a"),
        ("ftp://user:pa?ss@host/a", "ftp://***@host/a"),
        ("FTP://user:password@host", "FTP://***@host"),
        ("https://TOKEN@host/path", "https://***@host/path"),
        ("'s3a://K:S@b/a' + 's3a://K:S@c'", "'s3a://***@b/a' + 's3a://***@c'"),
        ("abfss://box:SECRET@account/a", "abfss://***@account/a"),
        (
            "https://host/a?X-Amz-Credential=A%2FB&X-Amz-Date=2&X-Amz-Signature=0f&b=1#c",
            "https://host/a?X-Amz-Credential=***&X-Amz-Date=2&X-Amz-Signature=***&b=1#c",
        ),
        ("https://host/a?sv=1&sig=a%2Bb%3D", "https://host/a?sv=1&sig=***"),
        (
            "--conf spark.hadoop.fs.s3a.secret.key=S/E+C=",
            "--conf spark.hadoop.fs.s3a.secret.key=***",
        ),
        ("fs.azure.account.key.x.net=S==", "fs.azure.account.key.x.net=***"),
        ("fs.azure.sas.box.account=S", "fs.azure.sas.box.account=***"),
        (
            "jdbc:postgresql://host/db?user=x&password=y",
            "jdbc:postgresql://host/db?user=x&password=***",
        ),
        ("--conf 'fs.s3a.access.key=\"A B\"'", "--conf 'fs.s3a.access.key=***'"),
        ('{"fs.s3a.secret.key": "S"}', '{"fs.s3a.secret.key": ***}'),
    ],
)
def test_secrets_are_blotted_out(text: str, blotted: str) -> None:
    assert redact(text) == blotted
    assert redact(blotted) == blotted
    assert redact(f"--store {text}: cannot be read").startswith(f"--store {blotted}")


@pytest.mark.parametrize(
    "text",
    [
        "hdfs://host:8020/a@b/c",
        "hdfs://host/a:b@c",
        "hdfs://[::1]:8020/a@b",
        "hdfs://host:/a@b",
        "abfss://box@account.dfs.core.windows.net/a",
        "file:///home/me@home/a:b@c",
        "/home/me@home/a:b@c",
        "locked by run 7 (me@host, process 7) since 2026-11-25T03:40:55.000Z",
        "unknown key 'token': the keys are user, item",
        "user = user, item = item; passed over: password, token",
        "--lambdas 0.1 --user-col token",
        "https://host/a?key_figure=1&signal=2",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_documents() -> None:
    record = {
        "config": {"ratings": ("s3a://K:SECRET@b", None), "fs.s3a.secret.key": "SECRET"},
        "warnings": ["of ftp://u:SECRET@h"],
        "tokens": 7,
        "token": ["x"],
    }
    found = redact_all(record)
    assert "SECRET" not in json.dumps(found)
    assert found["config"]["ratings"] == ["s3a://***@b", None]
    assert (found["tokens"], found["token"]) == (7, ["x"])


@pytest.mark.parametrize("kind", [ConfigError, DataError, StoreLocked])
def test_every_exception_of_ours(kind: type[Exception]) -> None:
    assert str(kind("s3a://K:SECRET@b: no")) == "s3a://***@b: no"


def test_of_the_solver() -> None:
    assert "user u://***@x" in str(SolveError("user", 0, 1.0).named("u://k:SECRET@x"))
