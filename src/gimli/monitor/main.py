"""Entry of the monitor's image: the configuration comes in as a memfd, the exit status goes out."""

from __future__ import annotations

import gc
import os
import sys

from gimli.errors import GimliError, StoreError, explain
from gimli.monitor import config
from gimli.monitor.runtime import Monitor


def main() -> int:
    """Run a monitor.

    The arguments are the number of the memfd with the configuration, and of a pipe that is told
    ``ready`` or an error once it is clear which; -1 when nobody listens.
    """
    config_fd, ready_fd = (int(argument) for argument in sys.argv[1:3])
    told = config.unpack(_read_all(config_fd))
    _name_process(told.instance)
    try:
        if told.signalled_by is not None:
            os.setresuid(-1, -1, told.signalled_by)  # kill(2) asks for the saved uid; execve sets it back
        monitor = Monitor(told)
    except GimliError as error:
        return _refuse(error, ready_fd)
    except OSError as error:
        return _refuse(StoreError(f"cannot use {told.instance_dir}", why=str(error)), ready_fd)
    if ready_fd >= 0:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)
    # What exists now lives as long as the monitor does: no collection need look at it again.
    gc.freeze()
    return monitor.run()


def _read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


def _name_process(instance: str) -> None:
    """The name that ps and top show."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(f"gimli:{instance}"[:15])
    except OSError:
        return  # a name is a convenience


def _refuse(error: GimliError, ready_fd: int) -> int:
    os.write(ready_fd if ready_fd >= 0 else 2, explain(error).encode(errors="replace"))
    return error.exit_status
