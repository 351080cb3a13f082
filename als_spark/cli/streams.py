"""Standard output and standard error as programs get them: closed, full, or without a reader.

A run does not end because nobody can read what it says. What was lost is told at the end, where
there is anybody left to tell it to.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO


class LenientStream(io.TextIOWrapper):
    """A text stream that goes on where writing fails, and keeps the first error as ``lost``."""

    lost: OSError | None = None

    def write(self, text: str, /) -> int:
        """Write text, or lose it."""
        try:
            return super().write(text)
        except OSError as error:
            self.lost = self.lost or error
            return len(text)

    def flush(self) -> None:
        """Pass on what was written, or lose it."""
        try:
            super().flush()
        except OSError as error:
            self.lost = self.lost or error


def hold_streams() -> None:
    """Make standard output and standard error usable, whatever they are.

    A descriptor that is closed would name the next file that is opened, and messages of the JVM
    would be written into it; so it gets the null device. Characters that the terminal's encoding
    lacks are escaped: a λ must not end a run that has done its work.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _lenient(sys.stdout, 1)
    sys.stderr = _lenient(sys.stderr, 2)


def lost_output() -> str | None:
    """Flush standard output; tell why what was written there is lost, None where it is not.

    A reader that has gone, as ``head`` does, has read what it wanted.
    """
    stream = sys.stdout
    if not isinstance(stream, LenientStream):
        return None
    stream.flush()
    if stream.lost is None:
        return None
    # What the buffer still holds would be tried again, with a complaint, as Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return None if stream.lost.errno == errno.EPIPE else stream.lost.strerror


def _lenient(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        # It was closed as Python started.
        device = open(number, "wb", closefd=False)  # noqa: SIM115
        return LenientStream(device, encoding="utf-8", errors="backslashreplace")
    if isinstance(stream, LenientStream) or not isinstance(stream, io.TextIOWrapper):
        return stream
    if _descriptor(stream) != number:
        # A test's, or a notebook's.
        stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    return LenientStream(
        stream.buffer,
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except OSError:
        return None
