"""The monitor's end of the control socket: it accepts, reads requests, and sends answers; it never waits.

What a request means is the handler's business. An answer may come later (a stop takes a while), and a
connection may follow a stream; one that does not read is dropped before it costs memory.
"""

from __future__ import annotations

import _socket as socket
import os

from gimli.control import protocol
from gimli.errors import GimliError, PeerError
from gimli.paths import unlink_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Watcher(Protocol):
        """The part of an event loop that a server needs; ``loop.Loop`` is one."""

        def watch(self, fd: int, callback: Callable[[int], None], events: int = ...) -> None:
            """Call back when ``fd`` is ready."""

        def change(self, fd: int, events: int) -> None:
            """Watch for other events."""

        def forget(self, fd: int) -> None:
            """Stop watching."""

        def after(self, delay_s: float, callback: Callable[[], None]) -> object:
            """Call back once, later."""


_READ = 1  # EPOLLIN
_WRITE = 4  # EPOLLOUT
_UNSENT_BYTES_MAX = 4_000_000
_CONNECTIONS_MAX = 64
_ACCEPT_PAUSE_S = 1.0


class Connection:
    """One client."""

    def __init__(self, server: Server, peer: socket.socket) -> None:
        self.on_close: list[Callable[[], None]] = []
        self.pending: dict[str, Any] | None = None
        """What its client still waits for, in the handler's words: kept through a takeover."""
        self._server = server
        self._peer = peer
        self._received = b""
        self._unsent = bytearray()
        self._ending = False

    def send(self, message: dict[str, Any], *, last: bool = False) -> None:
        """Send one line; ``last`` closes the connection when it has been taken."""
        if self._peer.fileno() < 0:
            return
        self._ending = self._ending or last
        self._unsent += protocol.pack(message)
        if len(self._unsent) > _UNSENT_BYTES_MAX:
            self.close()
        else:
            self._flush()

    def refuse(self, error: GimliError) -> None:
        """Send an error and end."""
        self.send(protocol.refusal(error), last=True)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._peer.fileno()

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know; ``fd`` must be inherited."""
        return {
            "fd": self._peer.fileno(),
            "received": self._received.decode("latin-1"),
            "unsent": self._unsent.decode("latin-1"),
            "ending": self._ending,
            "pending": self.pending,
        }

    def restore(self, packed: dict[str, Any]) -> None:
        """Go on where the image before has stopped."""
        self._received = packed["received"].encode("latin-1")
        self._unsent += packed["unsent"].encode("latin-1")
        self._ending = packed["ending"]
        self.pending = packed["pending"]
        self._flush()

    def close(self) -> None:
        """Forget the client; whatever followed a stream is told."""
        if self._peer.fileno() < 0:
            return
        self._server.drop(self, self._peer)
        callbacks, self.on_close = self.on_close, []
        for callback in callbacks:
            callback()

    def ready(self, events: int) -> None:
        """The loop's callback."""
        if events & _WRITE:
            self._flush()
        if events & ~_WRITE and self._peer.fileno() >= 0:
            self._receive()

    def _flush(self) -> None:
        if self._peer.fileno() < 0:
            return
        try:
            while self._unsent:
                del self._unsent[: self._peer.send(self._unsent)]
        except BlockingIOError:
            self._server.loop.change(self._peer.fileno(), _READ | _WRITE)
            return
        except OSError:
            self.close()
            return
        if self._ending:
            self.close()
        else:
            self._server.loop.change(self._peer.fileno(), _READ)

    def _receive(self) -> None:
        try:
            data = self._peer.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        line, newline, rest = self._received.partition(b"\n")
        if newline:
            self._received = rest
            self._handle(line)
        elif len(self._received) > protocol.REQUEST_BYTES_MAX:
            self.refuse(
                PeerError("request without an end", why=f"more than {protocol.REQUEST_BYTES_MAX} bytes")
            )

    def _handle(self, line: bytes) -> None:
        try:
            answer = self._server.handle(protocol.parse_request(line), self)
        except GimliError as error:
            self.refuse(error)
            return
        if answer is not None:
            self.send({"ok": True, **answer}, last=True)


class Server:
    """A listening control socket.

    Args:
        loop: the event loop that calls back.
        path: where the socket is; an old one is replaced, the caller holds the lock that makes that safe.
        handle: called with a request and its connection; returns the answer, or None when it comes later.
        fd: the listening socket, of an image of the monitor that was here before.
    """

    def __init__(
        self,
        loop: Watcher,
        path: str,
        handle: Callable[[dict[str, Any], Connection], dict[str, Any] | None],
        fd: int | None = None,
    ) -> None:
        self.loop = loop
        self.handle = handle
        self.path = path
        self._connections: set[Connection] = set()
        self._is_pausing = False
        """No client is let in for a moment."""
        self._listener = self._listen() if fd is None else socket.socket(fileno=fd)
        loop.watch(self._listener.fileno(), self._accept)

    def drop(self, connection: Connection, peer: socket.socket) -> None:
        """Forget a connection."""
        self.loop.forget(peer.fileno())
        peer.close()
        self._connections.discard(connection)

    def is_in_place(self) -> bool:
        """There is something under its path."""
        return os.path.lexists(self.path)

    def renew(self) -> None:
        """Listen anew under its path; the clients that it has go on.

        Raises:
            OSError: it cannot; all is as before.
        """
        made = self._listen()
        self._stop_listening()
        self._listener, self._is_pausing = made, False
        self.loop.watch(made.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        for connection in tuple(self._connections):
            connection.close()
        self._stop_listening()
        unlink_if_there(self.path)

    def _listen(self) -> socket.socket:
        made = listen(self.path, socket.SOCK_STREAM, mode=0o600)
        made.listen(16)
        return made

    def _stop_listening(self) -> None:
        self.loop.forget(self._listener.fileno())
        self._listener.close()

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know; all ``fd`` must be inherited."""
        clients = [connection.pack() for connection in self._connections]
        return {"fd": self._listener.fileno(), "connections": clients}

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        return [self._listener.fileno(), *(connection.fileno() for connection in self._connections)]

    def restore(self, clients: list[dict[str, Any]]) -> list[Connection]:
        """Go on with the clients of the image before."""
        restored = []
        for packed in clients:
            connection = self._add(socket.socket(fileno=packed["fd"]))
            connection.restore(packed)
            restored.append(connection)
        return restored

    def _add(self, peer: socket.socket) -> Connection:
        peer.setblocking(False)
        connection = Connection(self, peer)
        self._connections.add(connection)
        self.loop.watch(peer.fileno(), connection.ready)
        return connection

    def _accept(self, _: int) -> None:
        try:
            fd, _address = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - what `socket` wraps
        except BlockingIOError:
            return
        except OSError:
            # No descriptors left. The client stays in the queue, and would wake the loop without end.
            self.loop.forget(self._listener.fileno())
            self._is_pausing = True
            self.loop.after(_ACCEPT_PAUSE_S, self._listen_again)
            return
        if len(self._connections) >= _CONNECTIONS_MAX:
            os.close(fd)
            return
        self._add(socket.socket(fileno=fd))

    def _listen_again(self) -> None:
        if self._is_pausing and self._listener.fileno() >= 0:
            self._is_pausing = False
            self.loop.watch(self._listener.fileno(), self._accept)


def listen(path: str, kind: int, *, mode: int) -> socket.socket:
    """A bound, non-blocking unix socket whose file has exactly ``mode``.

    Raises:
        OSError: the path cannot be bound; a unix socket's path has at most 107 bytes.
    """
    unlink_if_there(path)
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(path)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
