"""The metadata of a saved estimator or model, checked before anything is made of them.

Anybody may have written, edited or cut them off: whatever is wrong is one line that names the file,
the entry, its value and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from als_spark.errors import AlsError
from als_spark.files.json_files import decode, shortened
from als_spark.ml.errors import InvalidArgument

NO_JSON = ("initialModel", "userFeatures", "itemFeatures", "callback")
"""Parameters that are no values: they have folders of their own; the last is not saved."""

_REMEDY = "save it again, or take the folder from a backup"
_NOUNS = {str: "a text", dict: "an object", bool: "true or false", int: "a whole number"}
_REQUIRED = {"class": str, "uid": str, "sparkVersion": str, "paramMap": dict}
_OPTIONAL = {
    "defaultParamMap": dict,
    "initialModel": bool,
    "userFeatures": bool,
    "itemFeatures": bool,
    "rank": int,
    "stats": bool,
    "objective": dict,
    "posterior": dict,
}


def read_metadata(line: str, path: str, classes: Collection[str], *, model: bool) -> dict[str, Any]:
    """Read the line of JSON that the metadata are.

    Parameters
    ----------
    line : str
        The first line of the files in ``path/metadata``.
    path : str
        The folder, for messages.
    classes : collection of str
        Of which one must have been saved.
    model : bool
        Whether factors belong to it, which have a rank.

    Raises
    ------
    InvalidArgument
        If they are damaged, or of something else.
    """
    try:
        found = decode(line.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise _damaged(path, f"cannot be read ({' '.join(str(error).split())})") from error
    for name, kind in (_REQUIRED | _OPTIONAL).items():
        if name not in found:
            if name in _REQUIRED:
                raise _damaged(path, f"has no entry {name}")
        # For Python, True is a number.
        elif not isinstance(found[name], kind) or (kind is int and found[name] is True):
            raise _damaged(path, f"{_entry(name, found[name])}, and not {_NOUNS[kind]}")
    if found["class"] not in classes:
        known, *_ = classes
        raise InvalidArgument(
            f"{path}: Expected class name {known} but found class name {shortened(found['class'])}"
        )
    if model and "rank" not in found:
        raise _damaged(path, "has no entry rank")
    if model and found["rank"] < 1:
        raise _damaged(path, f"{_entry('rank', found['rank'])}, and not above 0")
    version = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", found["sparkVersion"])
    if version is None:
        raise _damaged(path, f"{_entry('sparkVersion', found['sparkVersion'])}, and no version")
    # Before that, Spark saved no defaults.
    if (int(version[1]), int(version[2])) >= (2, 4) and "defaultParamMap" not in found:
        raise _damaged(path, "has no entry defaultParamMap")
    return found


def set_params(instance: Any, metadata: Mapping[str, Any], path: str) -> None:
    """Give an instance its id and the parameters that were saved.

    Raises
    ------
    InvalidArgument
        If it has no such parameter, or none of such a value.
    """
    instance._resetUid(metadata["uid"])
    for section, put in (("paramMap", instance._set), ("defaultParamMap", instance._setDefault)):
        for name, value in metadata.get(section, {}).items():
            entry = _entry(f"{section}.{name}", value)
            if (name in NO_JSON and value is not None) or not instance.hasParam(name):
                kind = type(instance).__name__
                raise _damaged(path, f"{entry}, which is no parameter that {kind} has saved")
            try:
                put(**{name: value})
            except (TypeError, ValueError, AlsError) as error:
                said = " ".join(str(error).split())
                raise _damaged(path, f"{entry}, which cannot be ({said})") from error


def _entry(name: str, value: Any) -> str:
    return f"{shortened(name)} is {shortened(repr(value))}"


def _damaged(path: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{path}/metadata: {what}: {_REMEDY}")
