"""Keys and passwords in addresses and settings, blotted out of all that is shown or kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

BLOT = "***"

_ADDRESS = re.compile(
    r"\b(?P<scheme>[a-z][a-z0-9+.-]*):(?P<slashes>/{1,2})(?P<rest>[^/\s'\"<>][^\s'\"<>]*)", re.I
)
_STORES_WITHOUT_PORTS = {"s3", "s3a", "s3n"}
_CONTAINERS = {"abfs", "abfss", "wasb", "wasbs"}
"""Azure's: what stands before the @ is the container, no user."""
_SECRET_NAME = (
    r"(?:[\w.%-]*(?:secret|passw(?:or)?d|passphrase|pwd|token|credential|signature"
    r"|(?:access|account|api|private|encryption)[._-]?key)[\w.%-]*|[\w.%-]*\bsas\b[\w.%-]*)"
)
_SETTING = re.compile(rf"(?P<name>{_SECRET_NAME}=)(?P<value>\"[^\"]*\"|'[^']*'|[^\s&;#\"']+)", re.I)
_QUERY = re.compile(r"(?P<name>[?&](?:sig|key|auth|code)=)(?P<value>[^\s&;#\"']+)", re.I)
_ENTRY = re.compile(
    rf"(?P<name>[\"']{_SECRET_NAME}[\"']\s*:\s*)(?P<value>\"[^\"]*\"|'[^']*')", re.I
)
_KEY = re.compile(_SECRET_NAME, re.I)


def redact(text: str, *addresses: str) -> str:
    """Blot out what a text tells of keys and passwords.

    User and password of given ``addresses`` are blotted out wherever they stand.

    These are the user and password of an address (``s3a://***@bucket/ratings``), the values of
    signatures and tokens in its query (``?X-Amz-Signature=***``), and settings whose names say that
    they hold a secret (``fs.s3a.secret.key=***``).

    Examples
    --------
    >>> redact("s3a://KEY:SECRET@bucket/ratings.csv: no such file")
    's3a://***@bucket/ratings.csv: no such file'
    >>> redact("--conf spark.hadoop.fs.s3a.secret.key=SECRET")
    '--conf spark.hadoop.fs.s3a.secret.key=***'
    """
    for address in addresses:
        found = _ADDRESS.match(address)
        who = "" if found is None else found["rest"][: _end_of_user(found)]
        if who:
            text = text.replace(f"{who}@", f"{BLOT}@")
        if password := who.partition(":")[2]:
            text = text.replace(password, BLOT)
    text = _ADDRESS.sub(_without_user, text)
    for pattern in (_SETTING, _QUERY, _ENTRY):
        text = pattern.sub(rf"\g<name>{BLOT}", text)
    return text


def redact_all(value: Any) -> Any:
    """Blot the texts of a document out, however deep they lie; numbers and keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            key: BLOT
            if isinstance(key, str) and isinstance(entry, str) and _KEY.fullmatch(key)
            else redact_all(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_all(entry) for entry in value]
    return value


def _without_user(found: re.Match[str]) -> str:
    end = _end_of_user(found)
    if end == 0:
        return found[0]
    return f"{found['scheme']}:{found['slashes']}{BLOT}{found['rest'][end:]}"


def _end_of_user(found: re.Match[str]) -> int:
    """Return where the @ after user and password is in the rest of an address; 0 without them."""
    scheme, rest = found["scheme"].lower(), found["rest"]
    if scheme == "file":
        return 0
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    end = authority.rfind("@")
    _, colon, port = authority.partition(":")
    no_port = colon and (scheme in _STORES_WITHOUT_PORTS or not (port.isdigit() or port == ""))
    if end < 0 and no_port and not authority.startswith("["):
        # A secret with a slash in it.
        end = rest.rfind("@")
    if scheme in _CONTAINERS and ":" not in rest[: max(end, 0)]:
        return 0
    return max(end, 0)
