"""Which errors does gimli raise, and what does each tell its reader?

Every error says what went wrong, why, and what to do. A class exists because a caller treats it
differently; nothing branches on text. Only ``gimli.cli`` prints them and exits.
"""

from __future__ import annotations


class GimliError(Exception):
    """Something the operator must act on.

    Args:
        what: what could not be done, with the object named.
        why: the reason, with the number seen and the number wanted.
        fix: what to do, if possible a command to paste.
    """

    exit_status = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        """One line, for logs; the command line shows the three parts on lines of their own."""
        return ": ".join(part for part in (self.what, self.why) if part)


def explain(error: GimliError) -> str:
    """What, why and what to do, each on a line of its own, as a person is told."""
    details = (line for part in (error.why, error.fix) if part for line in part.split("\n"))
    return "".join([f"gimli: {error.what}\n", *(f"  {line.strip()}\n" for line in details)])


class UsageError(GimliError):
    """A wrong argument or a wrong file: nothing was started."""

    exit_status = 2


class CommandNotFound(GimliError):
    """The program to run does not exist. The status is the shell's own."""

    exit_status = 127


class CommandNotExecutable(GimliError):
    """The program exists and cannot be executed. The status is the shell's own."""

    exit_status = 126


class AlreadyRunning(GimliError):
    """Another monitor holds this name."""


class MonitorUnreachable(GimliError):
    """No monitor answers on the control socket."""


class UnknownService(GimliError):
    """No monitor has a service of that name."""


class CaptureRefused(GimliError):
    """The process cannot be stopped and read."""


class ProcessVanished(CaptureRefused):
    """The process ended while, or before, it was captured."""


class StoreError(GimliError):
    """The report store cannot be read or written."""


class UnknownReport(GimliError):
    """No report has that id."""


class AnalysisUnavailable(GimliError):
    """The libraries that read a core are not installed, or could not read this one."""


class PeerError(GimliError):
    """Somebody else sent something malformed: counted and dropped, never fatal."""
