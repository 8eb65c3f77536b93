"""``gimli stop``: stop a service."""

from __future__ import annotations

import click

from gimli.control import client


@click.command("stop")
@click.argument("service")
def command(*, service: str) -> None:
    """Stop SERVICE with TERM, wait until it has ended, and keep it down.

    After its stop interval it is killed. `gimli start` brings it back.
    """
    client.call(client.socket_of(service), "stop", service=service, timeout_s=None)
    click.echo(f"{service} is down")
