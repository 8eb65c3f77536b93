"""``gimli signal``: send a signal to a service."""

from __future__ import annotations

import click

from gimli.control import client


@click.command("signal")
@click.argument("service")
@click.argument("signal")
def command(*, service: str, signal: str) -> None:
    """Send signal SIGNAL (HUP, SIGUSR1, 10) to the main process of SERVICE."""
    answer = client.call(client.socket_of(service), "signal", service=service, signal=signal)
    click.echo(f"sent {signal} to {service} (pid {answer['pid']})")
