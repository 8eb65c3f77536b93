"""``gimli upgrade``: replace monitors in place."""

from __future__ import annotations

import click

from gimli.control import client
from gimli.errors import GimliError, MonitorUnreachable


@click.command("upgrade")
@click.argument("service", required=False)
def command(*, service: str | None) -> None:
    """Replace every monitor of this user, or the one that holds SERVICE, by the installed version.

    The services are not touched. gimli.toml is read again: new services start, those that are gone
    stop, and changes of a command apply at its next start. A new version that does not understand the
    state of the running one, or a gimli.toml with errors, is refused, and the old monitor goes on.
    `kill -HUP` does the same.
    """
    paths = [client.socket_of(service)] if service else [path for path, _ in client.all_status()]
    if not paths:
        raise MonitorUnreachable("no monitor runs", fix="start one: gimli up, or gimli run -- COMMAND")
    refusals = []
    for path in paths:
        try:
            answer = client.call(path, "upgrade", timeout_s=60.0)
        except GimliError as error:
            refusals.append(error)
        else:
            click.echo(f"monitor {answer['instance']} (pid {answer['pid']}) is now gimli {answer['version']}")
    if refusals:
        raise refusals[0]
