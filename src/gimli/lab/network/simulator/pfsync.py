"""When does a firewall tell the other one of a state, and what does it say?

Every packet that passes queues its state. The queue is sent as one packet

    one second after it was begun              on the clock's tick
    after 128 changes of one state
    when the next state would not fit
    at once, when the other firewall's update of the state came less than two seconds ago

and what is sent of a state is what it is then. Nobody asks for the role of the sender nor who made the state.
The clock counts whole seconds; each firewall's begins at another fraction of one.

Source: pfsync_update_state(), pfsync_q_ins(), pfsync_in_upd_c() of sys/net/if_pfsync.c, OpenBSD 4.5 to 7.3.
States that are not known are asked for; deferral of first packets and bulk updates are not modelled.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.pf import Peer, PfState

MAX_UPDATES = 128
MTU = 1500
_ETHERNET_BYTES = 38
_EMPTY_BYTES = 20 + 20 + 4  # IP, pfsync and the end
_SUBHEADER_BYTES = 4
NONE, INSERT, UPDATE, DELETE = range(4)
_ENTRY_BYTES = (0, 264, 84, 12)
"""pfsync_state, pfsync_upd_c, pfsync_del_c."""
REQUEST_BYTES = 12
_RECENT_S = 2


class Update:
    """What is said of one state."""

    __slots__ = ("action", "dst", "serial", "src", "state")

    def __init__(self, action: int, state: PfState, src: Peer, dst: Peer, serial: int) -> None:
        self.action = action
        self.src = src
        self.dst = dst
        self.state = state
        """The sender's, for what does not change; its peers are in ``src`` and ``dst``, as they were."""
        self.serial = serial


class Sync:
    """One packet of pfsync.

    Attributes:
        requests: numbers of states that are asked for.
    """

    __slots__ = ("bytes", "requests", "sender", "updates")

    def __init__(self, sender: str, updates: list[Update], requests: list[int], size: int) -> None:
        self.sender = sender
        self.updates = updates
        self.requests = requests
        self.bytes = size + _ETHERNET_BYTES


class Queue:
    """What one firewall owes the other.

    Args:
        engine: whose time it lives in.
        name: of the firewall.
        tick_s: of its clock; timers run out on one.
        phase_s: the fraction of a second at which its clock began.
        send: puts a packet on the sync cable.
    """

    __slots__ = (
        "_bytes",
        "_counts",
        "_due_s",
        "_engine",
        "_is_armed",
        "_is_due",
        "_name",
        "_phase_s",
        "_requests",
        "_send",
        "_states",
        "_tick_s",
        "sent",
        "updates_sent",
    )

    def __init__(
        self, engine: Engine, name: str, tick_s: float, phase_s: float, send: Callable[[Sync], Any]
    ) -> None:
        self._engine = engine
        self._name = name
        self._tick_s = tick_s
        self._phase_s = phase_s
        self._send = send
        self._states: dict[PfState, None] = {}
        self._counts = [0, 0, 0, 0]
        self._bytes = _EMPTY_BYTES
        self._requests: list[int] = []
        self._due_s = 0.0
        self._is_armed = False
        self._is_due = False
        self.sent = 0
        self.updates_sent = 0

    @property
    def second(self) -> int:
        """The whole second of this clock."""
        return int(self._engine.now_s + self._phase_s)

    def insert(self, state: PfState) -> None:
        """A state was made here."""
        self._begin()
        self._put(state, INSERT)
        state.updates = 0

    def update(self, state: PfState) -> None:
        """A packet passed by a state."""
        if self._bytes == _EMPTY_BYTES:
            self._begin()
        queued = state.queued
        if queued == NONE:
            self._put(state, UPDATE)
            state.updates = 0
        elif queued != DELETE:
            state.updates += 1
            if state.updates >= MAX_UPDATES:
                self._is_due = True
        if int(self._engine.now_s + self._phase_s) - state.peer_s < _RECENT_S:
            self._is_due = True

    def delete(self, state: PfState) -> None:
        """A state of this firewall is gone."""
        if state.queued == INSERT:
            self._take_out(state)  # nobody was ever told of it
            return
        if state.queued:
            self._take_out(state)
        self._begin()
        self._put(state, DELETE)

    def request(self, number: int) -> None:
        """An update named a state that is not here."""
        if self._bytes + REQUEST_BYTES + _SUBHEADER_BYTES > MTU:
            self.flush()
        self._requests.append(number)
        self._bytes += REQUEST_BYTES
        self._is_due = True

    def answer(self, state: PfState) -> None:
        """The other firewall asks for a state: all of it, as when it was made."""
        if state.queued == INSERT:
            return
        if state.queued:
            self._take_out(state)
        self._put(state, INSERT)
        self._is_due = True

    def hurry(self) -> None:
        """Send all of it when the packet in hand is done."""
        self._is_due = True

    def settle(self) -> None:
        """The packet in hand is done: send if anything asked for it."""
        if self._is_due:
            self.flush()

    def flush(self) -> None:
        """Send all of it now."""
        self._is_due = False
        if self._bytes == _EMPTY_BYTES:
            return
        updates = []
        for state in self._states:
            self.updates_sent += 1
            updates.append(Update(state.queued, state, state.src.copy(), state.dst.copy(), self.updates_sent))
            state.queued = NONE
        size = self._bytes
        self.sent += 1
        requests, self._requests = self._requests, []
        self._states = {}
        self._counts = [0, 0, 0, 0]
        self._bytes = _EMPTY_BYTES
        self._send(Sync(self._name, updates, requests, size))

    def _begin(self) -> None:
        """The first entry of a packet starts the clock."""
        if self._bytes == _EMPTY_BYTES:
            ticks = math.floor((self._engine.now_s + self._phase_s) / self._tick_s)
            self._due_s = ticks * self._tick_s + 1.0 - self._phase_s
            if not self._is_armed:
                self._is_armed = True
                self._engine.at(self._due_s, self._expire)

    def _expire(self, _: None) -> None:
        """The time is over, or that of a packet that is long sent."""
        self._is_armed = False
        if self._bytes == _EMPTY_BYTES:
            return
        if self._due_s > self._engine.now_s:
            self._is_armed = True
            self._engine.at(self._due_s, self._expire)
        else:
            self.flush()

    def _put(self, state: PfState, action: int) -> None:
        size = _ENTRY_BYTES[action]
        if not self._counts[action]:
            size += _SUBHEADER_BYTES
        if self._bytes + size > MTU:
            self.flush()
            self._begin()
            size = _ENTRY_BYTES[action] + _SUBHEADER_BYTES
        self._bytes += size
        self._counts[action] += 1
        self._states[state] = None
        state.queued = action

    def _take_out(self, state: PfState) -> None:
        action = state.queued
        del self._states[state]
        self._counts[action] -= 1
        self._bytes -= _ENTRY_BYTES[action] + (0 if self._counts[action] else _SUBHEADER_BYTES)
        state.queued = NONE
