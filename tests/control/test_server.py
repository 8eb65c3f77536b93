"""The control server on real sockets: whatever a client does, the loop goes on.

The server runs in the test's own thread; a client is a socket, and ``turn`` lets the loop handle what waits.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gimli.control import client, protocol
from gimli.control.server import Connection, Server
from gimli.errors import GimliError, MonitorUnreachable, UnknownService
from gimli.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator

PS = b'{"schema": 1, "call": "ps"}\n'
EVENTS = b'{"schema": 1, "call": "events"}\n'


class Answering:
    """A server whose handler answers ``ps``, follows ``events``, refuses ``stop`` and delays ``start``."""

    def __init__(self, path: str) -> None:
        self.loop = Loop()
        self.path = path
        self.followers: list[Connection] = []
        self.waiting: list[Connection] = []
        self.closed: list[Connection] = []
        self.server = Server(self.loop, path, self.handle)
        self.clients: list[socket.socket] = []

    def handle(self, request: dict[str, Any], connection: Connection) -> dict[str, Any] | None:
        """The handler."""
        match request["call"]:
            case "ps":
                return {"services": []}
            case "stop":
                raise UnknownService("no such service", why="there are none", fix="see: gimli ps")
            case "events":
                self.followers.append(connection)
                connection.on_close.append(lambda: self.closed.append(connection))
                connection.send({"ok": True})
            case _:
                self.waiting.append(connection)
        return None

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A client that has sent something, and been accepted."""
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(10)
        peer.connect(self.path)
        self.clients.append(peer)
        peer.sendall(sent)
        self.turn()
        return peer

    def turn(self) -> None:
        """Let the loop handle what waits: an accept, then what was sent."""
        for _ in range(4):
            self.loop.after(0, lambda: None)
            self.loop.run_once()

    def ask(self, sent: bytes) -> dict[str, Any]:
        """What one request is answered."""
        return answer_of(self.connect(sent))

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self.server._connections)


def answer_of(peer: socket.socket) -> dict[str, Any]:
    line = peer.makefile("rb").readline()
    answer: dict[str, Any] = json.loads(line)
    return answer


@pytest.fixture
def server() -> Iterator[Answering]:
    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        made = Answering(os.path.join(directory, "control.sock"))
        yield made
        made.server.close()
        for peer in made.clients:
            peer.close()
        assert os.listdir(directory) == []


def test_a_request_is_answered_and_the_connection_ends(server):
    peer = server.connect(PS)
    with peer.makefile("rb") as lines:
        assert [json.loads(line) for line in lines] == [{"ok": True, "services": []}]
    assert server.connections == 0


def test_only_its_owner_may_ask(server):
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600


def test_a_refusal_carries_the_whole_error(server):
    answer = server.ask(b'{"schema": 1, "call": "stop"}\n')
    assert answer == {
        "ok": False,
        "what": "no such service",
        "why": "there are none",
        "fix": "see: gimli ps",
        "status": 1,
    }


@pytest.mark.parametrize(
    "sent",
    [b"\n", b"garbage\n", b"\xff\xff\n", b"[]\n", b'{"schema": 1, "call": []}\n', b"\0" * 70_000 + b"\n"],
)
def test_garbage_is_refused_and_the_next_one_is_served(server, sent):
    assert server.ask(sent)["ok"] is False
    assert server.ask(PS)["ok"] is True


def test_a_request_may_come_in_pieces(server):
    peer = server.connect()
    for byte in PS:
        peer.sendall(bytes([byte]))
        server.turn()
    assert answer_of(peer)["ok"] is True


def test_a_request_that_never_ends_is_refused_before_it_costs_memory(server):
    peer = server.connect()
    for _ in range(4):
        if server.connections:
            peer.sendall(b"x" * 30_000)
            server.turn()
    assert answer_of(peer)["what"] == "request without an end"
    assert server.connections == 0


def test_an_answer_may_come_later(server):
    peer = server.connect(b'{"schema": 1, "call": "start"}\n')
    (connection,) = server.waiting
    connection.send({"ok": True, "pid": 7}, last=True)
    assert answer_of(peer) == {"ok": True, "pid": 7}
    assert server.connections == 0


def test_a_client_that_leaves_while_it_waits_is_forgotten(server):
    peer = server.connect(b'{"schema": 1, "call": "start"}\n')
    peer.close()
    server.turn()
    assert server.connections == 0
    (connection,) = server.waiting
    connection.send({"ok": True}, last=True)  # too late, and no harm
    connection.refuse(GimliError("too late"))
    connection.close()
    assert not connection._unsent


def test_a_client_that_leaves_before_its_answer_does_not_disturb(server):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(server.path)
    peer.sendall(PS)
    peer.close()
    server.turn()
    assert server.connections == 0
    assert server.ask(PS)["ok"] is True


def test_a_follower_that_leaves_at_once_is_told_to_the_stream(server):
    """Sending the first line finds it gone: what was registered for its end must run all the same."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(server.path)
    peer.sendall(EVENTS)
    peer.close()
    server.turn()
    assert len(server.closed) == 1
    (connection,) = server.followers
    for _ in range(100):
        connection.send({"ok": True, "entry": "x" * 1000})
    assert len(connection._unsent) < 1000, "it would grow for ever"


def test_a_follower_gets_line_after_line(server):
    peer = server.connect(EVENTS)
    (connection,) = server.followers
    for number in range(3):
        connection.send({"ok": True, "entry": number})
    with peer.makefile("rb") as lines:
        assert [json.loads(lines.readline()).get("entry") for _ in range(4)] == [None, 0, 1, 2]


def test_a_follower_that_reads_slowly_loses_nothing(server):
    peer = server.connect(EVENTS)
    (connection,) = server.followers
    for number in range(100):
        connection.send({"ok": True, "entry": number, "fill": "x" * 10_000})
    assert connection._unsent
    seen = []
    with peer.makefile("rb") as lines:
        lines.readline()
        while len(seen) < 100:
            seen.append(json.loads(lines.readline())["entry"])
            server.turn()
    assert seen == list(range(100))


def test_a_follower_that_does_not_read_is_dropped_before_it_costs_memory(server):
    server.connect(EVENTS)
    (connection,) = server.followers
    sent = 0
    while server.connections:
        connection.send({"ok": True, "fill": "x" * 100_000})
        sent += 100_000
        assert sent < 6_000_000
    assert server.closed == [connection]


def test_many_clients_at_once_and_not_more_than_can_be_had(server):
    peers = [server.connect() for _ in range(80)]
    assert server.connections == 64
    refused = [peer for peer in peers[64:] if peer.recv(1) == b""]
    assert len(refused) == 16
    peers[0].close()
    server.turn()
    assert server.ask(PS)["ok"] is True


def test_a_stale_socket_is_replaced(server):
    server.server.close()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(server.path)
    stale.close()
    server.server = Server(server.loop, server.path, server.handle)
    assert server.ask(PS)["ok"] is True


# The client's side.


def test_nobody_answers_is_said_with_what_to_do(tmp_path):
    with pytest.raises(MonitorUnreachable, match="No such file") as caught:
        client.call(os.path.join(tmp_path, "control.sock"), "ps")
    assert "gimli up" in caught.value.fix


@pytest.fixture
def runtime(monkeypatch) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        monkeypatch.setenv("GIMLI_RUNTIME_DIR", directory)
        yield directory


def test_without_a_monitor_there_is_no_service(runtime):
    assert client.all_status() == []
    with pytest.raises(MonitorUnreachable, match="no monitor runs, so none holds 'web'"):
        client.socket_of("web")


def test_a_runtime_directory_that_is_not_there_holds_no_monitor(monkeypatch):
    monkeypatch.setenv("GIMLI_RUNTIME_DIR", "/nonexistent")
    assert client.sockets() == []


def test_the_socket_of_a_dead_monitor_is_passed_over(runtime):
    os.mkdir(os.path.join(runtime, "run.web"))
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(os.path.join(runtime, "run.web", client.SOCKET_NAME))
    stale.close()
    assert len(client.sockets()) == 1
    assert client.all_status() == []


def test_a_stream_that_is_cut_is_said_to_be(server):
    """It reads more slowly than it is told, and is dropped in the middle of a line."""

    def cut(_: dict[str, Any], connection: Connection) -> None:
        connection._peer.sendall(b'{"ok": true}\n{"ok": true, "te')
        connection.close()

    server.server.handle = cut
    serving = threading.Thread(target=lambda: [server.loop.run_once() for _ in ("accept", "request")])
    serving.start()
    stream = client.follow(server.path, "logs", timeout_s=10)
    assert next(stream) == {"ok": True}
    with pytest.raises(MonitorUnreachable, match="ended the stream of logs"):
        next(stream)
    serving.join()


def test_a_request_has_the_schema_of_this_version():
    assert protocol.parse_request(PS) == {"schema": protocol.SCHEMA, "call": "ps"}
