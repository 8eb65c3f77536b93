"""``gimli events``: what happened, when, and who did it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from gimli import journal, paths
from gimli.cli.story import signal_in_words, with_repeats
from gimli.control import client
from gimli.monitor.narrator import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@click.command("events")
@click.argument("service", required=False)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="How many of the last events.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, schema 1.")
@click.option("--state-dir", metavar="DIR", help="Where the journals are, when not in the default place.")
def command(*, service: str | None, lines: int, follow: bool, as_json: bool, state_dir: str | None) -> None:
    """Show the journal: of SERVICE, or of all services and their monitors.

    Past events come from the journals' files, so they are there also when no monitor runs.
    """
    # The stream first, so that nothing falls between it and the past; what is in both is shown once.
    stream = _to_come(service) if follow else iter(())
    past = sorted(_past(state_dir or paths.state_dir(), service), key=lambda entry: str(entry.get("time")))
    shown: Sequence[Mapping[str, Any]] = past if as_json else with_repeats(past)
    for entry in shown[-lines:] if lines else []:
        click.echo(_line(entry, as_json=as_json))
    last_ns = max((int(entry.get("monotonic_ns") or 0) for entry in past), default=0)
    for entry in stream:
        if int(entry["monotonic_ns"]) > last_ns:
            click.echo(_line(entry, as_json=as_json))


def _past(state_dir: str, service: str | None) -> Iterator[dict[str, Any]]:
    directory = os.path.join(state_dir, "journal")
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for name in names:
        if name.endswith(".jsonl"):
            for entry in journal.read(os.path.join(directory, name)):
                if service is None or entry.get("service") == service:
                    yield entry


def _to_come(service: str | None) -> Iterator[dict[str, Any]]:
    """Events of one service's monitor, or of the only one."""
    path = client.socket_of(service) if service else _only_socket()
    answers = client.follow(path, "events", service=service)
    next(answers, None)  # from here on the monitor keeps events for us
    return (answer["entry"] for answer in answers if "entry" in answer)


def _only_socket() -> str:
    from gimli.errors import UsageError  # noqa: PLC0415

    found = client.all_status()
    if len(found) != 1:
        raise UsageError(
            "name a service to follow",
            why=f"{len(found)} monitors run",
            fix="gimli events SERVICE -f; see: gimli ps",
        )
    return found[0][0]


def _line(entry: Mapping[str, Any], *, as_json: bool) -> str:
    if as_json:
        return json.dumps(entry, ensure_ascii=False)
    known = {"schema", "time", "monotonic_ns", "service", "event"}
    try:
        words = signal_in_words(entry) if entry["event"] == "signal" else describe(entry)
    except (KeyError, TypeError, ValueError):
        words = ""  # an event of another version: its fields say it
    details = words or "  ".join(
        f"{key}={_plain(item)}" for key, item in entry.items() if key not in known and item is not None
    )
    stamp = str(entry.get("time", ""))[:26].replace("T", " ")
    return f"{stamp}  {entry.get('service') or '-':<12} {entry['event']:<16} {details}".rstrip()


def _plain(item: Any) -> str:
    if isinstance(item, dict):
        return ",".join(f"{key}:{_plain(part)}" for key, part in item.items())
    return json.dumps(item, ensure_ascii=False) if isinstance(item, list) else str(item)
