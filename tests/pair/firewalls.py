"""State syncs on real kernels: each in its own namespace, with the datagrams handed over in memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections import deque

from gimli.pair import conntrack, ctdescribe, ctmessage
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Apply, Dump, Listen, Send

PATIENCE_S = 30.0
RULES = """
table inet pair {
  chain forward {
    type filter hook forward priority 0;
    ct state invalid counter drop
    ct state new meta l4proto { tcp, udp, icmp, icmpv6 } ct mark set 0x2a
    ct state new ct label set 1
  }
}
"""
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(host):
    """What is opened here is opened in the host's namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    away = os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY)
    try:
        assert _libc.setns(away, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert _libc.setns(home, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(home)
        os.close(away)


class Firewall:
    """A host that forwards, tracks, and syncs.

    Args:
        host: its namespace.
        node_id: of its state sync.
        mode: of it.
        own: packed addresses that stay with the host.
    """

    def __init__(self, host, node_id, mode, own=()):
        self.host = host
        host.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        host.run("nft", "-f", "-", text=RULES)
        # What was not replicated must not be picked up in passing.
        host.sysctl(netfilter__nf_conntrack_tcp_loose=0)
        with inside(host):
            conntrack.enable_events()
            self.writer = conntrack.Writer()
        self.intake = Intake(Filter(own))
        self.sync = StateSync(node_id, b"shared", mode)
        self.inbox = deque()
        self.peer = None
        self._events = self._dump = None

    def start(self):
        """Begin as a replica."""
        self.carry_out(self.sync.follow(time.monotonic()))

    def own(self):
        """Become the owner."""
        self.carry_out(self.sync.own(time.monotonic()))

    def run(self):
        """One round of the loop."""
        now_s = time.monotonic()
        if self._events:
            batch = self._events.drain()
            if batch.lost:
                self.carry_out(self.sync.events_lost(now_s))
            self.sync.put(self.intake.take(batch.messages), now_s)
        if self._dump and self.sync.wants_dump:
            self.sync.put_dumped(self.intake.take_dumped(self._dump.drain()), now_s)
            if self._dump.done:
                self._close_dump()
                self.carry_out(self.sync.dump_done(now_s))
        while self.inbox:
            self.carry_out(self.sync.received(self.inbox.popleft(), now_s))
        if self.sync.next_due_s() <= now_s:
            self.carry_out(self.sync.due(now_s))

    def carry_out(self, actions):
        """Do what is ordered."""
        for action in actions:
            match action:
                case Send(datagram):
                    if self.peer:
                        self.peer.inbox.append(datagram)
                case Apply(messages):
                    self.writer.write(messages)
                case Listen(wanted):
                    if self._events:
                        self._events.close()
                        self._events = None
                    if wanted:
                        with inside(self.host):
                            self._events = conntrack.Events()
                case Dump():
                    self._close_dump()
                    with inside(self.host):
                        self._dump = conntrack.Dump()

    def table(self):
        """What the kernel has, as :func:`describe` and the attributes; without times, which count down."""
        with inside(self.host):
            dump = conntrack.Dump()
        try:
            found = {}
            while not dump.done:
                for _, message in Intake(Filter()).take(dump.drain()):
                    parts = ctmessage.parts(message)
                    del parts[ctmessage.TIMEOUT]
                    found[ctdescribe.describe(message)] = parts
            return found
        finally:
            dump.close()

    def listed(self, *options):
        """What Debian's conntrack lists, without times and use counts."""
        lines = self.host.run("conntrack", "-L", "-o", "extended", *options).splitlines()
        return sorted(" ".join([*line.split()[:4], *line.split()[5:-1]]) for line in lines)

    def close(self):
        """Let go."""
        self._close_dump()
        if self._events:
            self._events.close()
        self.writer.close()

    def _close_dump(self):
        if self._dump:
            self._dump.close()
            self._dump = None


def join(one, other):
    """Connect two firewalls' state syncs, and make the first one the owner."""
    one.peer, other.peer = other, one
    one.start()
    other.start()
    one.own()
    run_until(lambda: other.sync.is_synchronised, one, other)


def run_until(condition, *firewalls):
    """Let time pass for the firewalls until something holds."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        for firewall in firewalls:
            firewall.run()
