"""The command line: the only place that prints and exits.

Commands are loaded when they are used: ``gimli --help`` names them all and imports none.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from gimli import __version__
from gimli.errors import GimliError, explain

COMMANDS = {
    "run": "Run one program, keep it up, and explain its faults.",
    "up": "Run all services of a gimli.toml.",
    "monitor": "Run one program with the options of the original's monitor.",
    "down": "End a monitor and its services.",
    "ps": "Show the services and how they are.",
    "start": "Start a service that is down.",
    "stop": "Stop a service and keep it down.",
    "restart": "Stop a service and start it again.",
    "reload": "Have a service read its own configuration again.",
    "signal": "Send a signal to a service.",
    "snapshot": "Take a snapshot of a service or of any process, which goes on.",
    "logs": "Show a service's output.",
    "events": "Show what happened, when, and who did it.",
    "reports": "List the reports of crashes, hangs and snapshots.",
    "show": "Show a report.",
    "upgrade": "Replace monitors in place; their services go on.",
    "prune": "Remove reports that are too old, too many or too large.",
    "check": "Check a gimli.toml.",
    "pair": "Share an address and its connections with another host.",
    "lab": "Replay incidents, and find their causes.",
    "demo": "See three programs go down, and why.",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of use, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gimli.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_flags(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click calls it so
    """``--cflags`` and ``--libs``, alone or together, as pkg-config prints them."""
    if not wanted or context.resilient_parsing:
        return
    flags = context.meta.setdefault("gimli.flags", [])
    flags.append(parameter.name)


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="gimli")
@click.option(
    "--cflags",
    is_flag=True,
    expose_value=False,
    callback=_print_flags,
    is_eager=True,
    help="Print what the C compiler needs to find libgimli.h.",
)
@click.option(
    "--libs",
    is_flag=True,
    expose_value=False,
    callback=_print_flags,
    is_eager=True,
    help="Print what the linker needs to find libgimli.so.",
)
@click.pass_context
def gimli(context: click.Context) -> None:
    """Gimli keeps programs up, and says why they went down.

    \b
    Keep a program up:      gimli run -- ./orders --port 8080
    See why it went down:   gimli show
    Link it with the page:  cc -g orders.c $(gimli --cflags --libs)
    """  # noqa: D301 - \b is click's mark for a paragraph that is not wrapped
    if flags := context.meta.get("gimli.flags"):
        from gimli.cli.library import compiler_flags  # noqa: PLC0415 - commands are loaded when used

        click.echo(" ".join(compiler_flags(flag) for flag in flags))
        context.exit(0)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        status = gimli.main(prog_name="gimli", standalone_mode=False)
    except GimliError as error:
        click.echo(explain(error), nl=False, err=True)
        sys.exit(error.exit_status)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        click.echo(f"gimli: {error.format_message()}", err=True)
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"  {error.ctx.get_usage()}\n  more: {error.ctx.command_path} --help", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader has seen enough (head): not an error. Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
