"""Paths whose characters reach Python and the JVM alike, whatever the locale.

Python takes the C locale for UTF-8; the JVM takes it for ASCII, and turns every other character of
a path into ``?``. So the JVM gets a locale of UTF-8 where this package starts it. Under
spark-submit it runs already, and has passed the options on: what it has lost is refused.
"""

from __future__ import annotations

import codecs
import glob
import locale
import os
import sys
from collections.abc import MutableMapping, Sequence

from als_spark.errors import ConfigError

_LOCALES = ("C.UTF-8", "C.utf8", "en_US.UTF-8")
_LOST = "\N{REPLACEMENT CHARACTER}"


def set_utf8_locale(environment: MutableMapping[str, str]) -> None:
    """Give a JVM that is to be started a locale of UTF-8, if names are in UTF-8 to this process."""
    if is_utf8(locale.getencoding()) or not is_utf8(sys.getfilesystemencoding()):
        return
    found = next(filter(_is_there, _LOCALES), None)
    if found is not None:
        environment["LC_ALL"] = found


def is_utf8(encoding: str) -> bool:
    """Tell whether a name is one of UTF-8's."""
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def check_words(words: Sequence[str]) -> None:
    """Refuse options of which spark-submit's JVM has lost characters.

    In another locale than of UTF-8 there is a question mark in the place of each byte that is lost.
    One that was meant finds files, as a pattern does, or is a name that is there.

    Raises
    ------
    ConfigError
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return
    for word in words:
        if _LOST in word:
            raise ConfigError(
                f"{word.replace(_LOST, '?')}: has bytes that are not of UTF-8, which spark-submit "
                "does not pass on: rename it"
            )
    doubtful = [word for word in words if "?" in word and not _names_something(word)]
    if doubtful and not is_utf8(encoding := encoding_of_jvm()):
        raise ConfigError(
            f"{doubtful[0]}: spark-submit has replaced characters that its locale ({encoding}) "
            "does not have: set LC_ALL=C.UTF-8"
        )


def encoding_of_jvm() -> str:
    """Return the encoding that spark-submit's JVM has for names."""
    # Not loaded where there is no such JVM to ask.
    from als_spark.spark.session import encoding_of_names

    return encoding_of_names()


def _names_something(word: str) -> bool:
    return os.path.lexists(word) or next(glob.iglob(word), None) is not None


def _is_there(name: str) -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_CTYPE, before)
    return True
