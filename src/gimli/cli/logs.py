"""``gimli logs``: a service's output."""

from __future__ import annotations

import click

from gimli.control import client


@click.command("logs")
@click.argument("service")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="How many of the last lines."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until interrupted.")
def command(*, service: str, lines: int, follow: bool) -> None:
    """Show the last lines of SERVICE's output, across a rotation of its log.

    At most the last 500 kB; `gimli ps --json` names the file, which has the rest.
    """
    path = client.socket_of(service)
    for answer in client.follow(path, "logs", service=service, lines=lines, follow=follow):
        click.echo(answer["text"], nl=False)
