"""What does a kernel's table of connections say, and what is said to it? Netlink messages in and out.

As net/netfilter/nf_conntrack_netlink.c, as far as a pair needs it: no NAT, and no time passes for a connection.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from gimli.pair import ctmessage, netlink
from gimli.pair.conntrack import Batch
from gimli.pair.ctmessage import BODY
from gimli.pair.netlink import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Attributes = dict[int, bytes]

_FAMILY = bytes((2, 0, 0, 0))  # nfgenmsg: AF_INET
_BUSY = 0x1 | 0x8 | 0x200  # IPS_EXPECTED | IPS_CONFIRMED | IPS_DYING may not change
_DUMPED_AT_ONCE = 7


class Conntrack:
    """One kernel's table."""

    def __init__(self) -> None:
        self.table: dict[bytes, Attributes] = {}
        """Attributes by the original tuple."""
        self.listeners: list[Events] = []
        self.touched: set[bytes] = set()
        """Connections about which packets have said something, since somebody has cleared it."""

    # By packets.

    def begin(self, found: Attributes) -> None:
        """A first packet."""
        self.table[found[ctmessage.TUPLE_ORIG]] = dict(found)
        self._tell(ctmessage.NEW, netlink.CREATE | netlink.EXCLUSIVE, found)

    def change(self, key: bytes, found: Attributes) -> None:
        """A packet that changes something; the event names that and the tuples."""
        entry = self.table[key]
        entry.update(found)
        tuples = {kind: entry[kind] for kind in (ctmessage.TUPLE_ORIG, ctmessage.TUPLE_REPLY)}
        self._tell(ctmessage.NEW, 0, tuples | found)

    def end(self, key: bytes) -> None:
        """The last packet, or none for long enough."""
        self._tell(ctmessage.DELETE, 0, self.table.pop(key))

    # By netlink.

    def asked(self, message: bytes) -> int:
        """A message to the kernel: the errno of the answer, 0 when there is none."""
        _, kind, flags, _, _ = HEADER.unpack_from(message)
        found = ctmessage.parts(message)
        key = found.get(ctmessage.TUPLE_ORIG, b"")
        entry = self.table.get(key)
        if kind == ctmessage.DELETE:
            assert key, "a deletion without a tuple empties the table"
            if entry is None:
                return errno.ENOENT
            self.end(key)
            return 0
        assert kind == ctmessage.NEW
        if entry is None:
            if not flags & netlink.CREATE:
                return errno.ENOENT
            if ctmessage.TUPLE_REPLY not in found or ctmessage.TIMEOUT not in found:
                return errno.EINVAL
            self.begin(found)
            return 0
        if flags & netlink.EXCLUSIVE:
            return errno.EEXIST
        if ctmessage.NAT_SRC in found or ctmessage.NAT_DST in found:
            return errno.EOPNOTSUPP
        if ctmessage.STATUS in found and (_bits(found) ^ _bits(entry)) & _BUSY:
            return errno.EBUSY
        self.change(key, {kind: value for kind, value in found.items() if kind not in _FIXED})
        return 0

    def dump(self) -> Iterator[bytes]:
        """Its entries, in a while: those that are there when their turn comes."""
        for key in tuple(self.table):
            if entry := self.table.get(key):
                yield packed(ctmessage.NEW, netlink.MULTI, entry)

    def _tell(self, kind: int, flags: int, found: Attributes) -> None:
        if self.listeners:
            message = packed(kind, flags, found)
            for listener in self.listeners:
                listener.put(message)


_FIXED = (ctmessage.TUPLE_ORIG, ctmessage.TUPLE_REPLY)


def packed(kind: int, flags: int, found: Attributes) -> bytes:
    """A message of the kernel's."""
    body = b"".join(found.values())
    return HEADER.pack(BODY + len(body), kind, flags, 0, 0) + _FAMILY + body


def _bits(found: Attributes) -> int:
    return int.from_bytes(found[ctmessage.STATUS][4:8], "big")


class Events:
    """A socket that hears of changes: what ``gimli.pair.conntrack.Events`` is.

    Args:
        table: of which.
        fd: by which it is watched.
        wake: called when there is something.
        size: how many messages it takes before the kernel drops some.
    """

    def __init__(self, table: Conntrack, size: int, wake: Callable[[], None]) -> None:
        self._table = table
        self._size = size
        self._wake = wake
        self._queue: deque[bytes] = deque()
        self._is_lost = False
        self.fd = -1
        table.listeners.append(self)

    @property
    def is_ready(self) -> bool:
        """Whether there is something to read."""
        return self._is_lost or bool(self._queue)

    def put(self, message: bytes) -> None:
        """The kernel tells."""
        if len(self._queue) < self._size:
            self._queue.append(message)
        else:
            self._is_lost = True
        self._wake()

    def fileno(self) -> int:
        """For the loop."""
        return self.fd

    def drain(self, at_most: int = 16) -> Batch:
        """What was told; nothing when some of it is lost."""
        if self._is_lost:
            self._is_lost = False
            self._queue.clear()
            return Batch([], lost=True, may_be_more=False)
        count = min(at_most, len(self._queue))
        return Batch(
            [self._queue.popleft() for _ in range(count)], lost=False, may_be_more=count == at_most
        )

    def close(self) -> None:
        """Hear no more."""
        if self in self._table.listeners:
            self._table.listeners.remove(self)


class Netlink:
    """A ctnetlink socket as ``gimli.pair.conntrack.Dump`` and ``Writer`` use it.

    Args:
        table: of the kernel.
        call: told of each system call that changes something.
    """

    def __init__(self, table: Conntrack, call: Callable[[str], None]) -> None:
        self._table = table
        self._call = call
        self._answers: deque[bytes] = deque()
        self._dump: Iterator[bytes] | None = None
        self.fd = -1

    @property
    def is_ready(self) -> bool:
        """Whether there is something to read: a dump is, up to its end."""
        return self._dump is not None

    def fileno(self) -> int:
        """For the loop."""
        return self.fd

    def setsockopt(self, *_: object) -> None:
        """Buffers are large enough."""

    def send(self, data: bytes) -> None:
        """One or many messages."""
        self._call("netlink")
        for message in netlink.messages(data):
            if HEADER.unpack_from(message)[1] == ctmessage.GET:
                self._dump = self._table.dump()
            elif error := self._table.asked(message):
                body = struct.pack("=i", -error) + message
                self._answers.append(HEADER.pack(HEADER.size + len(body), netlink.ERROR, 0, 0, 0) + body)

    def recv(self, _bytes: int) -> bytes:
        """An answer, or a part of the dump."""
        if self._answers:
            return self._answers.popleft()
        if self._dump is None:
            raise BlockingIOError
        part = list(islice(self._dump, _DUMPED_AT_ONCE))
        if not part:
            self._dump = None
            return HEADER.pack(HEADER.size + 4, netlink.DONE, netlink.MULTI, 1, 0) + bytes(4)
        return b"".join(part)

    def close(self) -> None:
        """Nothing is left of it."""
        self._dump = None
