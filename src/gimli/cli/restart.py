"""``gimli restart``: stop a service and start it again."""

from __future__ import annotations

import click

from gimli.control import client


@click.command("restart")
@click.argument("service")
def command(*, service: str) -> None:
    """Stop SERVICE, start it again, and wait until the new one runs."""
    answer = client.call(client.socket_of(service), "restart", service=service, timeout_s=None)
    click.echo(f"{service} runs as pid {answer['pid']}")
