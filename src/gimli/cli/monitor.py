"""``gimli monitor``: one program, with the options of the original's monitor."""

from __future__ import annotations

import os

import click

from gimli import paths
from gimli.cli import launch
from gimli.cli.run import check_name, log_file
from gimli.errors import UsageError
from gimli.monitor import config, original
from gimli.monitor.identity import identify
from gimli.value import replace

_RESPAWN_S_MIN = 0.1
"""For respawn-frequency = 0: a program that cannot start must not take a whole processor."""


class _Original(click.Command):
    """A command that click only prints the help of: the original's syntax is its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params = {"arguments": tuple(args)}
        return []


def _option(option: original.Option) -> click.Option:
    default = "" if option.default in {None, -1} else f"  [default: {option.default}]"
    return click.Option([f"--{option.name}"], metavar=option.kind.value, help=option.help + default)


@click.pass_context
def _monitor(context: click.Context, *, arguments: tuple[str, ...]) -> None:
    """Run PROGRAM as the original's monitor does: its options, environment and configuration file.

    Options may have any number of dashes, and their value after = or as the next word; a switch without one
    is flipped. Each has a variable (GIMLI_WATCHDOG_INTERVAL, ...) and a line in the file that config-file
    names. The command line counts more than the environment, and that more than the file.

    \b
    Examples:
      gimli monitor --pidfile=/run/orders.pid --uid=33 /usr/sbin/orders
      gimli monitor --detach=0 ./orders

    Exit status: detached, 0 once the monitor stands; else the program's own, as `gimli run`.
    """  # noqa: D301 - \b is click's mark for a paragraph that is not wrapped
    path = original.config_path(arguments, os.environ)
    asked = original.read(arguments, os.environ, _read(path) if path is not None else "", path or "")
    if asked.wants_help:
        click.echo(context.get_help())
        return
    told = _told(asked)
    if ignored := asked.without_effect():
        click.echo(f"gimli: no effect here: {', '.join(ignored)} (docs/reference/original.md)", err=True)
    if not asked.number("detach"):
        launch.become(told)
    os.chdir("/")  # as the original: no file system is held busy
    launch.detach(told, has_session=bool(asked.number("setsid")), keeps_output=not asked.number("quiet"))


command = _Original(
    "monitor",
    callback=_monitor,
    help=_monitor.__doc__,
    options_metavar="[OPTIONS] PROGRAM [ARGUMENT]...",
    params=[_option(option) for option in original.OPTIONS],
)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration file {path!r}", why=error.strerror or "", fix="check config-file"
        ) from error


def _told(asked: original.Asked) -> config.Monitor:
    """The monitor that is asked for; every path absolute, since a detached one leaves the directory."""
    is_detached = bool(asked.number("detach"))
    program, *arguments = asked.command
    found = os.path.abspath(program) if os.sep in program else program
    name = check_name(asked.text("name") or os.path.basename(program), "name")
    state = paths.state_dir()
    service = config.Service(
        name=name,
        command=(found, *arguments),
        arg0=asked.text("arg0") or (program if found != program else None),
        log=_log(asked, os.path.join(state, "logs", f"{name}.log")),
        policy=_policy(asked),
        cwd="/" if is_detached else None,
        inherit_stdin=not is_detached,
        has_session=bool(asked.number("setsid")),
        identity=identify(_account(asked, "uid"), _account(asked, "gid")),
    )
    told = launch.monitor_config((service,), instance=f"run.{name}", state_dir=state, foreground=True)
    pidfile = asked.text("pidfile")
    return replace(
        told,
        pidfile=os.path.abspath(pidfile) if pidfile else None,
        # The original's monitor runs as that user itself, so its programs may signal it.
        signalled_by=service.identity.uid if service.identity else None,
    )


def _policy(asked: original.Asked) -> config.Policy:
    respawn_s = max(float(asked.number("respawn-frequency")), _RESPAWN_S_MIN)
    restart = config.Restart.ALWAYS if asked.number("immortal") else config.Restart.ON_FAULT
    return config.Policy(
        config.Intervals(
            float(asked.number("watchdog-interval")),
            float(asked.number("watchdog-start-interval")),
            float(asked.number("watchdog-stop-interval")),
        ),
        config.Restart.NEVER if asked.number("run-once") else restart,
        # It never gives up, as the original.
        config.Backoff(respawn_s, respawn_s, healthy_s=respawn_s, attempts=0),
    )


def _log(asked: original.Asked, usual: str) -> config.Log:
    if path := asked.text("log-file"):
        return log_file(path, "log-file")
    is_silent = asked.number("detach") and asked.number("quiet")
    return config.Log(usual, echo=not is_silent)


def _account(asked: original.Asked, name: str) -> int | None:
    number = asked.number(name)
    return None if number < 0 else number
