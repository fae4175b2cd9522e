"""Every error that tapir raises on purpose.

A message names the thing, the value and the next step. The command line prints it as one line and exits with
`exit_code`; anything that is not a TapirError is a defect of ours and keeps its traceback.
"""


class TapirError(Exception):
    """The root of tapir's own errors."""

    exit_code = 1


class ConfigError(TapirError, ValueError):
    """The configuration, or an argument, asks for something that cannot be."""

    exit_code = 2


class DataError(TapirError):
    """A data file cannot be read as instructions and responses."""

    exit_code = 2


class OracleError(TapirError):
    """An oracle cannot be used any further: wrong key, unknown model, too many failures."""

    exit_code = 3


class BudgetError(OracleError):
    """The budget of the run is spent; raise it and run the same command to continue."""

    exit_code = 4


class StudentError(TapirError):
    """The student cannot be loaded, trained or asked."""

    exit_code = 5


class RunError(TapirError):
    """The run cannot go on: too many rows refused, or its directory cannot be written."""

    exit_code = 6


class ResumeError(TapirError):
    """The run directory is in use by another process, or is not one."""

    exit_code = 7


class PushError(TapirError):
    """The hub cannot be reached, or does not take an upload; the same command goes on where it stopped."""

    exit_code = 8
