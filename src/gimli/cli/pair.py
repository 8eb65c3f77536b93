"""``gimli pair``: two hosts that share an address and its connections."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gimli import metrics, paths
from gimli.cli.terminal import WIDTH, console
from gimli.clock import format_duration, parse_duration
from gimli.control import client
from gimli.errors import MonitorUnreachable
from gimli.pair.config_file import load
from gimli.pair.finding import Severity
from gimli.pair.status import SCHEMA
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


@command.command("check")
@_file
@click.option(
    "--for",
    "seconds",
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="How long to listen; a switch's IGMP querier is heard for certain after 125s.",
)
@click.option("--ask", "probe", is_flag=True, help="Also ask the link by ARP who has the shared addresses.")
@_json
def check(*, path: str, seconds: str, probe: bool, as_json: bool) -> int:
    """Check pair.toml, then this host and its switch, by looking at real traffic for a few seconds.

    Changes nothing. Exit status: 0 when nothing is wrong, 1 when something is, 2 when the file is.
    """
    from gimli.pair import check as checking  # noqa: PLC0415 - what status does not load

    pair = load(path)
    listen_s = parse_duration(seconds, "--for")
    if sys.stderr.isatty():
        click.echo(f"listening for {format_duration(listen_s)} ...", err=True)
    findings = checking.check(pair, seconds=listen_s, probe=probe)
    wrong = any(finding.severity is not Severity.NOTE for finding in findings)
    if as_json:
        listed = [asdict(finding) | {"severity": finding.severity.value} for finding in findings]
        click.echo(json.dumps({"schema": SCHEMA, "findings": listed}, indent=2))
        return int(wrong)
    for finding in findings:
        click.echo(f"{finding.severity.value:<8} {finding.subject}: {finding.what}")
        for words in filter(None, (finding.why, finding.fix)):
            click.echo(textwrap.indent(textwrap.fill(words, WIDTH - 9), " " * 9))
    if not wrong:
        click.echo(f"{path}: no error in it, and nothing wrong with this host or its link in what was seen")
    return int(wrong)


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
