"""How does the command line become a monitor?

It validates, hands the configuration over in a memfd, and executes the monitor's own image in its place:
a small process with nothing but the standard library.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from typing import Any

import gimli
from gimli import paths
from gimli.cli.library import preload_path
from gimli.cli.reach import without_unreachable
from gimli.errors import CommandNotExecutable, CommandNotFound, GimliError, UsageError
from gimli.monitor import config
from gimli.monitor.config_file import load_whole
from gimli.value import replace

_PACKAGE = os.path.dirname(os.path.abspath(gimli.__file__))
_SOCKET_PATH_BYTES_MAX = 107  # sun_path with its NUL, unix(7)
_LONGEST_NAME_IN_INSTANCE = "/control.sock"


def image(part: str, *, with_site: bool = False) -> tuple[str, ...]:
    """The command that starts one of gimli's own processes.

    Args:
        part: the package below gimli: monitor, capture or analysis.
        with_site: it needs installed libraries; the others get the standard library alone.
    """
    flags = ("-I",) if with_site else ("-I", "-S")
    return (sys.executable, *flags, os.path.join(_PACKAGE, part, "__main__.py"))


def analysis_command() -> tuple[str, ...]:
    """The analysis helper; empty where its libraries are not installed."""
    return image("analysis", with_site=True) if importlib.util.find_spec("drgn") else ()


def analyse(directory: str) -> None:
    """Make the report of a capture now, where the libraries for it are installed."""
    if analysis := analysis_command():
        subprocess.run((*analysis, directory), stdout=subprocess.DEVNULL, check=False)


def config_of_file(path: str, state_dir: str) -> config.Monitor:
    """What the monitor of a gimli.toml is told.

    Raises:
        GimliError: the file has errors, or something in it cannot work; nothing was started.
    """
    services, limits = load_whole(path, state_dir)
    told = monitor_config(services, instance="up", state_dir=state_dir, foreground=False, **limits)
    script = os.path.join(_PACKAGE, "cli", "reread.py")
    return replace(told, reread_command=(sys.executable, "-I", script, os.path.abspath(path), state_dir))


def monitor_config(
    services: tuple[config.Service, ...],
    *,
    instance: str,
    state_dir: str | None,
    foreground: bool,
    **limits: Any,
) -> config.Monitor:
    """The whole of what a monitor is told; every command checked.

    ``limits`` are what a file says of reports and journal, by their names in :class:`config.Monitor`.

    Raises:
        GimliError: something cannot work; nothing was started.
    """
    for service in services:
        check_command(service)
        for target in filter(None, (service.signs.probe, service.signs.ready_probe)):
            if target.command:
                check_command(replace(service, command=target.command))
    instance_dir = os.path.join(paths.runtime_dir(), instance)
    longest = instance_dir + _LONGEST_NAME_IN_INSTANCE
    if len(os.fsencode(longest)) > _SOCKET_PATH_BYTES_MAX:
        raise UsageError(
            f"the runtime directory's path is too long: {instance_dir}",
            why=f"its socket has {len(longest)} bytes, a unix socket may have {_SOCKET_PATH_BYTES_MAX}",
            fix=f"set {paths.ENV_RUNTIME_DIR} to a shorter one",
        )
    library = preload_path() if any(service.preload for service in services) else None
    return config.Monitor(
        services=tuple(without_unreachable(service, library, instance_dir) for service in services),
        state_dir=os.path.abspath(state_dir) if state_dir else paths.state_dir(),
        instance_dir=instance_dir,
        instance=instance,
        library=library,
        foreground=foreground,
        monitor_command=image("monitor"),
        capture_command=image("capture"),
        analysis_command=analysis_command(),
        **limits,
    )


def check_command(service: config.Service) -> None:
    """Check that a service's program is there and can be executed, before anything is started.

    Raises:
        CommandNotFound, CommandNotExecutable, UsageError: it cannot.
    """
    name = service.command[0]
    if service.cwd is not None and not os.path.isdir(service.cwd):
        raise UsageError(
            f"{service.name}: cwd {service.cwd} is not a directory", fix="make it, or name another"
        )
    search = dict(service.environment).get("PATH", os.environ.get("PATH", os.defpath))
    base = service.cwd or "."
    if os.sep in name:
        path = os.path.join(base, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return
        if os.path.isdir(path):
            raise CommandNotExecutable(
                f"cannot execute {name}", why="it is a directory", fix="name the program in it"
            )
        if os.path.exists(path):
            raise CommandNotExecutable(
                f"cannot execute {name}",
                why="permission denied: it is not executable",
                fix=f"chmod +x {name}",
            )
        raise CommandNotFound(
            f"cannot find {name}", why="there is no such file", fix="check the path, and --cwd"
        )
    if shutil.which(name, path=search):
        return
    here = os.path.join(base, name)
    raise CommandNotFound(
        f"cannot find {name}",
        why="no directory of PATH has it",
        fix=f"did you mean ./{name} ?" if os.path.exists(here) else "check its name, or give its path",
    )


def become(told: config.Monitor) -> None:
    """Replace this process by the monitor. Returns only by raising.

    Raises:
        GimliError: the image cannot be executed.
    """
    config_fd = _hand_over(told)
    command = (*told.monitor_command, str(config_fd), "-1")
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise GimliError(f"cannot execute {command[0]}", why=error.strerror or "") from error


def detach(told: config.Monitor, *, has_session: bool = True, keeps_output: bool = False) -> int:
    """Start the monitor in the background and wait until it says that it stands.

    Args:
        told: its configuration.
        has_session: it leads a session of its own, so that the terminal's end is not its.
        keeps_output: what it says, and repeats of its service, still goes where ours goes.

    Returns:
        Its pid.

    Raises:
        GimliError: it could not start; its own words.
    """
    config_fd = _hand_over(told)
    read_fd, ready_fd = os.pipe()
    os.set_inheritable(ready_fd, True)
    command = (*told.monitor_command, str(config_fd), str(ready_fd))
    null_fd = os.open(os.devnull, os.O_RDWR)
    silenced = (0,) if keeps_output else (0, 1, 2)
    wiring = [(os.POSIX_SPAWN_DUP2, null_fd, fd) for fd in silenced] + [(os.POSIX_SPAWN_CLOSE, read_fd)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=wiring, setsid=has_session)
    os.close(ready_fd)
    with open(read_fd, encoding="utf-8", errors="replace") as pipe:
        answer = pipe.read()
    if answer != "ready\n":
        what = answer.removeprefix("gimli: ").strip() or "it ended without a word"
        raise GimliError(f"the monitor did not start: {what}")
    return pid


def _hand_over(told: config.Monitor) -> int:
    """The configuration in an inheritable memfd."""
    _fill_standard_descriptors()
    fd = os.memfd_create("gimli-config", 0)
    os.write(fd, config.pack(told))
    return fd


def _fill_standard_descriptors() -> None:
    """A closed one becomes /dev/null: a file of the monitor's must not get its number, and the output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
