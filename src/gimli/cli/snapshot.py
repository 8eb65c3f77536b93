"""``gimli snapshot``: every stack of a program that goes on."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import click

from gimli import paths, process
from gimli.cli import launch
from gimli.control import client
from gimli.errors import CaptureRefused, ProcessVanished, UsageError
from gimli.heartbeat import parse_page
from gimli.monitor import config
from gimli.monitor.child import Child
from gimli.monitor.request import capture_request


@click.command("snapshot")
@click.argument("service", required=False)
@click.option("--pid", type=click.IntRange(1), help="Any process, supervised or not.")
@click.option("--state-dir", metavar="DIR", help="Where the report of --pid is kept.")
def command(*, service: str | None, pid: int | None, state_dir: str | None) -> None:
    """Take a snapshot of SERVICE, or of the process --pid; it goes on afterwards.

    The program is stopped for milliseconds. A blocking epoll_wait, or a receive with a time-out, returns
    EINTR in it: that is how stopping works on Linux, and programs must expect it of any signal as well.
    """
    if (service is None) == (pid is None):
        raise UsageError("name a service, or a process with --pid", fix="see: gimli ps")
    if service is not None:
        answer = client.call(client.socket_of(service), "snapshot", service=service, timeout_s=60.0)
        click.echo(f"snapshot {answer['report']} of {service}: gimli show {answer['report']}")
        return
    assert pid is not None
    message, report_id = _capture(pid, state_dir or paths.state_dir())
    click.echo(
        f"snapshot {report_id} of pid {pid}, stopped for {message.get('pause_ms', 0):.1f} ms", err=True
    )
    launch.analyse(str(message["path"]))
    click.echo(f"gimli show {report_id}")


def _capture(pid: int, state_dir: str) -> tuple[dict[str, Any], str]:
    if process.identify(pid) is None:
        raise ProcessVanished(f"cannot take a snapshot of pid {pid}", why="there is no such process")
    paths.make_private_dir(state_dir)
    command = tuple(process.command_line(pid))
    service = config.Service(process.command_name(pid) or str(pid), command, config.Log(None))
    request = capture_request(
        service,
        Child(service.policy, pid=pid),
        state_dir=os.path.abspath(state_dir),
        reason="request",
        pid=pid,
        page=parse_page(b""),  # its page, if it has one, is its own monitor's
        page_path="",
        output=[],
        journal=[],
    )
    done = subprocess.run(
        launch.image("capture"), input=json.dumps(request).encode(), stdout=subprocess.PIPE, check=False
    )
    message: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        message |= json.loads(line)
    if message.get("event") != "stored":
        raise CaptureRefused(
            str(message.get("what") or f"cannot take a snapshot of pid {pid}"),
            why=str(message.get("why", "the capture helper ended without a word")),
            fix=str(message.get("fix", "")),
        )
    return message, request["id"]
