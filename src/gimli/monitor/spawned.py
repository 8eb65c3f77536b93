"""What does the monitor hold of a program that runs? Pure."""

from __future__ import annotations

from gimli.value import value


@value
class Spawned:
    """A process of ours, from its fork on."""

    pid: int
    pidfd: int
    exec_fd: int
    """Readable when exec is decided: end of file is success, else the error as text. -1: it is decided."""
    adopted: bool = False
    """It was started by a monitor that is dead, and is not our child."""
    grouped: bool = False
    """It was born into the control group of its service."""
    leader: int = 0
    """The leader of its session, where that is another: it has become the main process later. 0: itself."""
