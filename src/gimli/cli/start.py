"""``gimli start``: start a service that is down."""

from __future__ import annotations

import click

from gimli.control import client


@click.command("start")
@click.argument("service")
def command(*, service: str) -> None:
    """Start SERVICE and wait until it runs."""
    answer = client.call(client.socket_of(service), "start", service=service, timeout_s=None)
    click.echo(f"{service} runs as pid {answer['pid']}")
