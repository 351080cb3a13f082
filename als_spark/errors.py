"""Exceptions of the project.

Everything that a user can put right is a :class:`UserError`; the command-line programs print its
message as one line and exit with code 2. Anything else is a defect or a failure of the machine, and
keeps its traceback.
"""

from __future__ import annotations

from als_spark.redaction import redact


class AlsError(Exception):
    """Base class of every exception that the package raises on purpose.

    Its message tells no key or password of an address; see :func:`als_spark.redaction.redact`.
    """

    def __str__(self) -> str:
        """Return the message."""
        return redact(super().__str__())


class UserError(AlsError):
    """Input, configuration or usage that the user can correct.

    The message is one line: what is wrong, with its value, and the remedy.
    """


class ConfigError(UserError, ValueError):
    """An option, a configuration key or an argument has an unusable value."""


class DataError(UserError, ValueError):
    """The ratings cannot be used as they are."""


class EmptySourceError(DataError):
    """A file of ratings has nothing in it."""


class ChangedRatingsError(DataError):
    """Ratings were read again in a later pass, and are not those that were read first.

    Executors raise it, which know of no label, so that what Spark says has its message.

    Parameters
    ----------
    found : str
        What tells so.
    label : str, optional
        Of the ratings.
    """

    def __init__(self, found: str, label: str = "") -> None:
        super().__init__(
            f"{label}{': ' if label else ''}the ratings have changed since they were first read "
            f"({found}): run again, and leave the files, or the table, as they are until the run "
            "ends"
        )


class SolveError(UserError, ArithmeticError):
    """The normal equations of a row have no finite solution, in float64 either.

    Parameters
    ----------
    side : str
        ``"user"`` or ``"item"``.
    row : int
        Dense index of the row whose system could not be solved.
    reg : float
        The ridge λ of the model.
    name : str, optional
        What to call the row in the message, where its original id is known.
    largest : float, optional
        The largest rating in size, where that is known and may be the cause.
    """

    def __init__(
        self,
        side: str,
        row: int,
        reg: float,
        name: str | None = None,
        largest: float | None = None,
    ) -> None:
        self.side = side
        self.row = row
        self.reg = reg
        self.name = name
        self.largest = largest
        cause, remedy = "", "use a larger lambda"
        if largest is not None:
            cause = f", for ratings are as large as {largest:g}"
            remedy = "mend the ratings, or give all of them in larger units"
        super().__init__(
            f"the ridge system of {name or f'{side} row {row}'} has no finite solution at "
            f"lambda={reg:g}{cause}: {remedy}"
        )

    def named(self, original_id: object, largest: float | None = None) -> SolveError:
        """Return the same error with the row called by its original id, and a cause."""
        return SolveError(self.side, self.row, self.reg, f"{self.side} {original_id}", largest)

    def __reduce__(
        self,
    ) -> tuple[type[SolveError], tuple[str, int, float, str | None, float | None]]:
        """Pickle by the arguments: exceptions are otherwise rebuilt from their message."""
        return type(self), (self.side, self.row, self.reg, self.name, self.largest)


class StoreLocked(AlsError):
    """Another run holds the lock of the model store; the message says which, and until when."""


class LockLost(AlsError):
    """The run no longer holds the lock of the model store, and must not publish."""


class PublishConflict(AlsError):
    """Another run has switched the model store meanwhile: this one's result was not published."""
