"""``gimli pair``: two hosts that share an address and its connections."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from gimli import metrics, paths
from gimli.cli.terminal import console
from gimli.clock import format_duration
from gimli.control import client
from gimli.errors import MonitorUnreachable
from gimli.pair.config_file import load
from gimli.pair.words import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

_file = click.option(
    "-f", "--file", "path", default="pair.toml", show_default=True, metavar="FILE", help="The configuration."
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document, schema 1.")


@click.group("pair")
def command() -> None:
    """Two hosts that share an address: when one dies, its connections go on through the other.

    \b
    On each host:    gimli pair check      is this host, and its switch, fit for it?
                     gimli pair run        take part
                     gimli pair status     who has the address, and is the other one ready?
    """  # noqa: D301 - \b is click's mark for a paragraph that is not wrapped


@command.command("run")
@_file
def run(*, path: str) -> None:
    """Take part in the election until TERM or INT, in the foreground.

    It is a program that beats: give it to a monitor, which starts it again when it hangs or dies. A host
    whose daemon does not live is silent about the address within the other one's dead time, by itself.
    """
    from gimli.pair.daemon import Daemon  # noqa: PLC0415 - what only the daemon needs, status does not load

    Daemon(load(path), _tell).run()


@command.command("status")
@_json
@click.option("--metrics", "as_metrics", is_flag=True, help="As Prometheus reads them.")
def status(*, as_json: bool, as_metrics: bool) -> int:
    """Show who has the addresses, and how ready this host is.

    Exit status: 0 when this host takes part, 1 when its daemon does not run.
    """
    answer = _ask()
    if as_metrics:
        click.echo(metrics.format_text(metrics.of_pair(answer)), nl=False)
    elif as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        screen = console()
        for line in _lines(answer):
            screen.print(line, soft_wrap=True, highlight=False)
    return 0


def _ask() -> dict[str, Any]:
    path = os.path.join(paths.runtime_dir(), "pair", "status.sock")
    try:
        answer = client.call(path, "pair")
    except MonitorUnreachable as error:
        raise MonitorUnreachable(
            "the pair's daemon does not run here", why=f"{path}: {error.why}", fix="start it: gimli pair run"
        ) from error
    del answer["ok"]
    return answer


def _tell(entry: dict[str, Any]) -> None:
    if words := describe(entry):
        click.echo(f"gimli: {words}", err=True)


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    for vhid in answer["vhids"]:
        addresses = ", ".join(vhid["addresses"])
        for_words = format_duration(vhid["role_for_s"])
        yield f"{vhid['role']:<7} vhid {vhid['vhid']} on {vhid['interface']} for {for_words}   {addresses}"
        for subject, why in vhid["obstacles"].items():
            yield f"        kept out by its {subject}: {why}"
        if peer := vhid["peer"]:
            rank = f"advbase {peer['advbase']} s, advskew {peer['advskew']}, demotion {peer['demotion']}"
            ago = format_duration(peer["heard_s_ago"])
            yield f"        peer {peer['address']} heard {ago} ago ({rank})"
        for kind, count in vhid["refused"].items():
            yield f"        {count} packets refused: {kind}"
    if answer["demotion"]:
        reasons = ", ".join(f"{item['reason']} (+{item['amount']})" for item in answer["reasons"])
        yield f"demotion {answer['demotion']}: {reasons}"
    if states := answer["states"]:
        yield _states_line(states)
    guard = answer["guard"]
    yield f"guard   {'in place' if guard['installed'] else 'MISSING'}, {guard['dropped']} frames dropped"


def _states_line(states: dict[str, Any]) -> str:
    if states["owner"]:
        lag = format_duration(states["lag_s"])
        return (
            f"states  {states['local']} changes here, {states['replicated']} at the peer ({lag} behind), "
            f"{states['lost']} lost"
        )
    ready = "all of the owner's" if states["synchronised"] else "not yet all of the owner's"
    return f"states  {states['held']} connections held, {ready} (epoch {states['epoch']})"
