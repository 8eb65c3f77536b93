"""``gimli run``: one service in the foreground."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from gimli import paths
from gimli.cli import launch
from gimli.clock import parse_duration
from gimli.errors import UsageError
from gimli.monitor import config, signs_file
from gimli.monitor.config_file import NAME, parse_backoff, parse_stop_signal, parse_umask
from gimli.monitor.environment_file import read_environment
from gimli.monitor.identity import identify
from gimli.monitor.limits import parse_assignment

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command("run", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--name", metavar="NAME", help="Name of the service; the program's own by default.")
@click.option(
    "--watchdog",
    metavar="DURATION",
    default="60s",
    show_default=True,
    help="Silence allowed to a running program that beats.",
)
@click.option(
    "--watchdog-start",
    metavar="DURATION",
    default="200s",
    show_default=True,
    help="The same while it starts.",
)
@click.option(
    "--watchdog-stop",
    "--kill-after",
    "watchdog_stop",
    metavar="DURATION",
    default="60s",
    show_default=True,
    help="How long it may take to stop, before KILL.",
)
@click.option(
    "--stop-signal", metavar="SIGNAL", default="TERM", show_default=True, help="How it is asked to."
)
@click.option(
    "--restart",
    type=click.Choice([item.value for item in config.Restart]),
    default="on-fault",
    show_default=True,
    help="Which ends start it again: every one; a crash, a hang or KILL; none.",
)
@click.option(
    "--backoff",
    metavar="FIRST..LIMIT",
    default="0.1s..60s",
    show_default=True,
    help="Wait before a restart, from the second failure in a row on: doubled each time.",
)
@click.option(
    "--log",
    default=None,
    metavar="FILE|inherit",
    help="Where its output goes: by default to the terminal and to a capped file; FILE: only there; "
    "inherit: straight to the terminal (reports then cannot show it).",
)
@click.option("--state-dir", metavar="DIR", help="Where reports, logs and journals are kept.")
@click.option("--cwd", metavar="DIR", help="Directory to run it in.")
@click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="NAME=VALUE",
    help="Add to its environment; may be repeated.",
)
@click.option(
    "--env-file",
    "environment_files",
    multiple=True,
    metavar="FILE",
    help="The same from a file of NAME=VALUE lines; --env counts more.",
)
@click.option("--user", metavar="USER", help="Run it as this user; its groups and HOME come with it.")
@click.option("--group", metavar="GROUP", help="Its group; the user's own by default.")
@click.option("--umask", metavar="OCTAL", help="Its file mode creation mask: 027.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE[:HARD]",
    help="A resource limit: nofile=1000, core=unlimited, memory=1GB; may be repeated.",
)
@click.option("--forward-hup", is_flag=True, help="Hand a HUP to the monitor on to it.")
@click.option(
    "--ready",
    metavar="WAY",
    help="How it says that it is ready: notify (sd_notify), fd[:N] (a newline there), tcp:PORT, http://..., "
    "delay:DURATION. Until then it is starting.",
)
@click.option(
    "--notify-access",
    type=click.Choice([item.value for item in config.Access]),
    help="Whose sd_notify messages are heeded: its main process's, or those of all its processes.",
)
@click.option(
    "--probe",
    metavar="TARGET",
    help="Ask it whether it lives: tcp:PORT, or http://ADDRESS:PORT/PATH. Each answer is a beat.",
)
@click.option("--probe-interval", metavar="DURATION", help="How often; 10s, or a third of the watchdog.")
@click.option(
    "--probe-timeout", metavar="DURATION", help="How long it may take; 5s, or a third of the watchdog."
)
@click.option(
    "--no-preload",
    is_flag=True,
    help="Do not preload libgimli.so: crashes of a program not linked with it are seen, but not captured.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(  # noqa: PLR0913 - one argument per option, as click calls it
    *,
    name: str | None,
    watchdog: str,
    watchdog_start: str,
    watchdog_stop: str,
    stop_signal: str,
    restart: str,
    backoff: str,
    log: str | None,
    state_dir: str | None,
    cwd: str | None,
    environment: tuple[str, ...],
    environment_files: tuple[str, ...],
    user: str | None,
    group: str | None,
    umask: str | None,
    limits: tuple[str, ...],
    forward_hup: bool,
    ready: str | None,
    notify_access: str | None,
    probe: str | None,
    probe_interval: str | None,
    probe_timeout: str | None,
    no_preload: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND, keep it up, and explain its faults. The exit status is the program's.

    A program that crashes or stops beating is captured, restarted at once, and reported: see
    `gimli show`. TERM, INT and QUIT end the program, then the monitor; a second one does not wait.

    \b
    Examples:
      gimli run -- ./orders --port 8080
      gimli run --restart always --watchdog 5s -- python3 worker.py

    Exit status: the program's own; 128 plus the signal it died by; 127 or 126 when it cannot be found or
    executed; 2 for a wrong option; 1 when the monitor cannot start.
    """  # noqa: D301 - \b is click's mark for a paragraph that is not wrapped
    service_name = check_name(name or os.path.basename(command[0]), "--name")
    state = os.path.abspath(state_dir) if state_dir else paths.state_dir()
    intervals = config.Intervals(
        parse_duration(watchdog, "--watchdog"),
        parse_duration(watchdog_start, "--watchdog-start"),
        parse_duration(watchdog_stop, "--watchdog-stop"),
    )
    service = config.Service(
        name=service_name,
        command=command,
        log=_log(log, service_name, state),
        policy=config.Policy(
            intervals,
            config.Restart(restart),
            parse_backoff(backoff, "--backoff"),
            parse_stop_signal(stop_signal, "--stop-signal"),
        ),
        cwd=os.path.abspath(cwd) if cwd else None,
        environment=(
            *(pair for path in environment_files for pair in read_environment(path)),
            *map(_assignment, environment),
        ),
        identity=identify(user, group),
        umask=None if umask is None else parse_umask(umask, "--umask"),
        limits=tuple(map(parse_assignment, limits)),
        forward_hup=forward_hup,
        preload=not no_preload,
        inherit_stdin=True,
        signs=_signs(
            intervals,
            ready=ready,
            notify_access=notify_access,
            probe=probe,
            probe_interval=probe_interval,
            probe_timeout=probe_timeout,
        ),
    )
    launch.become(
        launch.monitor_config((service,), instance=f"run.{service_name}", state_dir=state, foreground=True)
    )


def check_name(name: str, where: str) -> str:
    """A service's name: it becomes the name of files and is typed by people.

    Raises:
        UsageError: it is not one.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a service ({where})",
            why="it is 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first",
            fix="give one: --name orders",
        )
    return name


_SIGNS: dict[str, Callable[[str], object]] = {
    "ready": lambda text: signs_file.parse_ready(text, "--ready"),
    "notify_access": config.Access,
    "probe": lambda text: signs_file.parse_target(text, "--probe"),
    "probe_interval": lambda text: parse_duration(text, "--probe-interval"),
    "probe_timeout": lambda text: parse_duration(text, "--probe-timeout"),
}


def _signs(intervals: config.Intervals, **written: str | None) -> config.Signs:
    """Those that were given; for the others there are defaults."""
    found = {key: _SIGNS[key](text) for key, text in written.items() if text is not None}
    return signs_file.build(found, intervals)


def _log(text: str | None, name: str, state_dir: str) -> config.Log:
    if text is None:
        return config.Log(os.path.join(state_dir, "logs", f"{name}.log"), echo=True)
    if text == "inherit":
        return config.Log(None)
    return log_file(text, "--log")


def log_file(text: str, where: str) -> config.Log:
    """A log in a file that somebody named, once it is sure that it can be written.

    Raises:
        UsageError: it cannot.
    """
    path = os.path.abspath(text)
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path)):
        raise UsageError(
            f"cannot write the log {text} ({where})",
            why="it is a directory"
            if os.path.isdir(path)
            else f"there is no directory {os.path.dirname(path)}",
        )
    if not os.access(path if os.path.exists(path) else os.path.dirname(path), os.W_OK):
        raise UsageError(f"cannot write the log {text} ({where})", why="permission denied")
    return config.Log(path)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, setting = text.partition("=")
    if not name or not equals:
        raise UsageError(f"{text!r} is not NAME=VALUE (--env)")
    return name, setting
