"""Which services run on without a monitor, because theirs was killed?"""

from __future__ import annotations

import os

from gimli import process
from gimli.control import client
from gimli.errors import MonitorUnreachable
from gimli.monitor.records import RECORD_BYTES, parse_record


def describe_unwatched() -> list[str]:
    """A line for each dead monitor with services that live: who they are, and how to adopt them."""
    lines = []
    for path in client.sockets():
        directory = os.path.dirname(path)
        try:
            client.call(path, "ps")
        except MonitorUnreachable:
            living = _living(directory)
            if living:
                instance = os.path.basename(directory)
                who = ", ".join(f"{name} (pid {pid})" for name, pid in living)
                verb = "runs" if len(living) == 1 else "run"
                lines.append(f"the monitor {instance} is gone, {who} {verb} on unwatched; {_cure(instance)}")
    return lines


def _living(directory: str) -> list[tuple[str, int]]:
    found = []
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".run"):
            continue
        record = parse_record(_read(os.path.join(directory, name)))
        if record.process and process.identify(record.process.pid) == record.process:
            found.append((name.removesuffix(".run"), record.process.pid))
    return found


def _cure(instance: str) -> str:
    if instance.startswith("run."):
        return f"to adopt it: gimli run --name {instance.removeprefix('run.')} -- COMMAND"
    return "to adopt them: gimli up"


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(RECORD_BYTES + 1)
    except OSError:
        return None
