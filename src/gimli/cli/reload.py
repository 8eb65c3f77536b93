"""``gimli reload``: have a service read its own configuration again."""

from __future__ import annotations

import click

from gimli.control import client


@click.command("reload")
@click.argument("service")
def command(*, service: str) -> None:
    """Send HUP to SERVICE, by which most daemons read their configuration again.

    For gimli.toml itself: gimli upgrade.
    """
    answer = client.call(client.socket_of(service), "signal", service=service, signal="HUP")
    click.echo(f"sent HUP to {service} (pid {answer['pid']})")
