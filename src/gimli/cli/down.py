"""``gimli down``: end a monitor and its services."""

from __future__ import annotations

import os

import click

from gimli import paths
from gimli.control import client
from gimli.errors import MonitorUnreachable


@click.command("down")
def command() -> None:
    """Stop the services of `gimli up`, wait for their end, then end the monitor.

    Each service has its stop interval, then it is killed.
    """
    path = os.path.join(paths.runtime_dir(), "up", client.SOCKET_NAME)
    if not os.path.exists(path):
        raise MonitorUnreachable(
            "no monitor of `gimli up` runs",
            why=f"there is no {path}",
            fix="see what runs: gimli ps; a program of `gimli run` is ended with: gimli stop SERVICE",
        )
    for answer in client.follow(path, "shutdown"):
        click.echo(f"the monitor (pid {answer['pid']}) is stopping its services", err=True)
    click.echo("down")
