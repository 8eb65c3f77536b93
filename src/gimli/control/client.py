"""The command line's end of the control socket."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from gimli import paths
from gimli.control import protocol
from gimli.errors import MonitorUnreachable, UnknownService

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET_NAME = "control.sock"


def call(socket_path: str, name: str, *, timeout_s: float | None = 10.0, **arguments: Any) -> dict[str, Any]:
    """One request and its answer.

    Raises:
        MonitorUnreachable: nobody answers.
        GimliError: the monitor refused.
    """
    for answer in follow(socket_path, name, timeout_s=timeout_s, **arguments):
        return answer
    raise MonitorUnreachable(f"no answer to {name}", why="the monitor closed the connection")


def follow(
    socket_path: str, name: str, *, timeout_s: float | None = None, **arguments: Any
) -> Iterator[dict[str, Any]]:
    """One request, its answer, and the lines that follow it until the monitor closes.

    Raises:
        MonitorUnreachable: nobody answers.
        GimliError: the monitor refused.
    """
    request = {"schema": protocol.SCHEMA, "call": name, **arguments}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(timeout_s)
            peer.connect(socket_path)
            peer.sendall(protocol.pack(request))
            with peer.makefile("rb") as lines:
                first = lines.readline()
                if first:
                    yield protocol.parse_answer(first)
                for line in lines:
                    if not line.endswith(b"\n"):
                        raise MonitorUnreachable(
                            f"the monitor has ended the stream of {name}",
                            why="more was told than was read, and it keeps 4 MB",
                            fix="ask again; for all of a flood, read the log's file",
                        )
                    yield protocol.parse_answer(line)
    except OSError as error:
        raise MonitorUnreachable(
            f"no monitor answers at {socket_path}",
            why=str(error.strerror or error),
            fix="start one: gimli up, or gimli run -- COMMAND",
        ) from error


def sockets() -> list[str]:
    """The control sockets of all monitors of this user, whether or not they answer."""
    top = paths.runtime_dir()
    try:
        instances = sorted(os.listdir(top))
    except OSError:
        return []
    candidates = (os.path.join(top, instance, SOCKET_NAME) for instance in instances)
    return [path for path in candidates if os.path.exists(path)]


def all_status() -> list[tuple[str, dict[str, Any]]]:
    """The socket and the status of every monitor that answers; the stale socket of a dead one does not."""
    found = []
    for path in sockets():
        try:
            found.append((path, call(path, "ps")))
        except MonitorUnreachable:
            continue
    return found


def socket_of(service: str) -> str:
    """The control socket of the monitor that holds a service.

    Raises:
        UnknownService: none does; the error names those that exist.
        MonitorUnreachable: no monitor runs at all.
    """
    monitors = all_status()
    if not monitors:
        raise MonitorUnreachable(
            f"no monitor runs, so none holds {service!r}",
            why=f"nothing answers below {paths.runtime_dir()}",
            fix="start one: gimli up, or gimli run -- COMMAND",
        )
    names: list[str] = []
    found: list[tuple[str, str]] = []
    for path, status in monitors:
        held = [str(item["name"]) for item in status["services"]]
        names += held
        if service in held:
            found.append((path, f"pid {status['monitor']['pid']}, {status['monitor']['instance']}"))
    if len(found) == 1:
        return found[0][0]
    if found:
        raise UnknownService(
            f"{len(found)} monitors hold a service called {service!r}",
            why="; ".join(monitor for _, monitor in found),
            fix="give one of them another name: gimli run --name NAME",
        )
    raise UnknownService(
        f"no service is called {service!r}",
        why=f"there are: {', '.join(sorted(names)) or 'none'}",
        fix="see: gimli ps",
    )
