"""What counts as an answer to a probe, from bytes and from real sockets."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.loop import Loop
from gimli.monitor.config import Target
from gimli.monitor.exchange import Exchange, http_request, judge_answer


@pytest.mark.parametrize(
    ("received", "is_all", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n", False, ""),
        (b"HTTP/1.0 204\r\n", False, ""),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n", False, ""),
        (b"HTTP/1.1 200 OK", True, ""),
        (b"HTTP/1.1 200 OK", False, None),
        (b"", False, None),
        (b"HTTP/1.1 503 Service Unavailable\r\n", False, "its answer has status 503"),
        (b"HTTP/1.1 404 Not Found\r\n", False, "its answer has status 404"),
        (b"HTTP/1.1 2000 OK\r\n", False, "its answer is not HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, "its answer is not HTTP"),
        (b"x" * 2000, False, "its answer is not HTTP"),
        (b"", True, "it closed the connection without an answer"),
    ],
)
def test_a_status_below_400_is_an_answer(received, is_all, why):
    assert judge_answer(received, is_all=is_all) == why


@given(st.binary(max_size=100))
def test_any_bytes_are_judged_at_their_end(received):
    assert judge_answer(received, is_all=True) is not None


def test_the_request_names_the_page_and_the_host():
    lines = http_request(Target("http", "::1", 80, "/health?deep=1")).split(b"\r\n")
    assert lines[0] == b"GET /health?deep=1 HTTP/1.0"
    assert b"Host: [::1]:80" in lines
    assert lines[-2:] == [b"", b""]


class Listener:
    """A port that takes one connection and does with it as it is told."""

    def __init__(self, serve=lambda peer: None) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, args=(serve,))
        self.thread.start()

    def _serve(self, serve) -> None:
        peer, _ = self.socket.accept()
        with peer:
            serve(peer)

    def close(self) -> None:
        """Wait until it has served."""
        self.thread.join(10)
        self.socket.close()


def ask(target: Target) -> str:
    """One exchange to its end."""
    loop = Loop()
    ends: list[str] = []
    loop.after(10, lambda: ends.append("nothing came"))
    Exchange(loop, target, ends.append)
    while not ends:
        loop.run_once()
    loop._epoll.close()
    return ends[0]


@pytest.mark.real
@pytest.mark.parametrize(
    ("kind", "answer", "why"),
    [
        ("tcp", b"", ""),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n", ""),
        ("http", b"HTTP/1.1 500 Oh\r\n\r\n", "its answer has status 500"),
        ("http", b"", "it closed the connection without an answer"),
    ],
)
def test_a_port_that_answers(kind, answer, why):
    listener = Listener(lambda peer: (kind == "http" and peer.recv(4096), peer.sendall(answer)))
    assert ask(Target(kind, "127.0.0.1", listener.port, "/")) == why
    listener.close()


@pytest.mark.real
def test_an_answer_in_pieces_is_put_together():
    def serve(peer: socket.socket) -> None:
        peer.recv(4096)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"HTTP/1", b".1 20", b"0 OK\r\n\r\n"):
            peer.sendall(piece)

    listener = Listener(serve)
    assert ask(Target("http", "127.0.0.1", listener.port, "/")) == ""
    listener.close()


@pytest.mark.real
def test_a_port_on_which_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    assert ask(Target("tcp", "127.0.0.1", port)) == "Connection refused"


@pytest.mark.real
def test_a_connection_to_itself_is_no_answer(monkeypatch):
    """Where nobody listens on a port of the ephemeral range, TCP now and then connects a socket to itself."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]

    class Bound(socket.socket):
        """Made to happen: the kernel's choice of a port is taken from it."""

        def connect_ex(self, address):
            """Bound to where it connects."""
            self.bind(address)
            return super().connect_ex(address)

    monkeypatch.setattr(socket, "socket", Bound)
    assert ask(Target("tcp", "127.0.0.1", port)) == "Connection refused"
