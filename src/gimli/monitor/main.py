"""Entry of the monitor's image: the configuration comes in as a memfd, the exit status goes out."""

from __future__ import annotations

import gc
import json
import os
import sys

from gimli.errors import GimliError, StoreError, explain
from gimli.journal import Journal
from gimli.monitor import config
from gimli.monitor.runtime import Monitor, journal_path
from gimli.monitor.verify import verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> int:
    """Run a monitor.

    The arguments are one of:

    ``CONFIG_FD READY_FD``: a memfd with the configuration, and a pipe that is told ``ready`` or an error
    once it is clear which; -1 when nobody listens.

    ``--verify-state``: read the state of a running monitor from standard input, and say whether it can be
    taken over from.

    ``--takeover STATE_FD``: go on with that state, in the same process.
    """
    gc.disable()  # until it runs: what is made before stays, and a thousand services are many objects
    if sys.argv[1] == "--verify-state":
        return verify(sys.stdin.buffer.read())
    if sys.argv[1] == "--takeover":
        return _go_on(int(sys.argv[2]))
    config_fd, ready_fd = (int(argument) for argument in sys.argv[1:3])
    return _begin(config.unpack(_read_all(config_fd)), ready_fd)


def _begin(told: config.Monitor, ready_fd: int) -> int:
    _name_process(told.instance)
    try:
        _let_signal(told.signalled_by)
        monitor = Monitor(told)
    except GimliError as error:
        return _refuse(error, ready_fd)
    except OSError as error:
        return _refuse(StoreError(f"cannot use {told.instance_dir}", why=str(error)), ready_fd)
    if ready_fd >= 0:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)
    return _run(monitor)


def _go_on(state_fd: int) -> int:
    return _run(_take_over(state_fd))


def _take_over(state_fd: int) -> Monitor:
    """Nothing of the document stays when this has returned."""
    packed = json.loads(_read_all(state_fd))
    told = config.unpack_monitor(packed.pop("config"))
    _name_process(told.instance)
    _let_signal(told.signalled_by)
    try:
        return Monitor(told, packed)
    except Exception:  # noqa: BLE001 - it was verified; whatever it is, the services are worth more
        import traceback  # noqa: PLC0415 - 9 ms and 1 MB that a monitor without bugs never needs

        _begin_afresh(told, traceback.format_exc())


def _begin_afresh(told: config.Monitor, why: str) -> NoReturn:
    """The last line of defence: what cannot be taken over is adopted, as after a kill -9.

    By one more execve, because the fallen monitor's sockets and its epoll close their descriptors when they
    are collected, and those numbers would be its successor's by then.
    """
    Journal(journal_path(told)).record("internal-error", traceback=why)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    config_fd = os.memfd_create("gimli-config", 0)
    os.write(config_fd, config.pack(told))
    command = (*told.monitor_command, str(config_fd), "-1")
    os.execv(command[0], command)


def _run(monitor: Monitor) -> int:
    # What exists now lives as long as the monitor does: no collection need look at it again.
    gc.freeze()
    gc.enable()
    return monitor.run()


def _let_signal(uid: int | None) -> None:
    """Let a user besides root signal this process: kill(2) asks for the saved uid, which execve sets back."""
    if uid is not None:
        os.setresuid(-1, -1, uid)


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
