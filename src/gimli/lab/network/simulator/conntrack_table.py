"""Which connections does a Linux kernel know, and what do its rules let through?

    packet -> its connection, or a new one -> rules -> confirmed: it is in the table -> translated, on its way
    ctnetlink messages -> asked                      changes -> tell: ctnetlink messages

The rules are the ones that a careful administrator writes: what belongs to a connection passes, what begins
one passes from the side where its sender is, and nothing else.

A connection that nothing confirms is forgotten with its packet. So a copy, which is tracked and not
forwarded, makes none; but what is known already it moves on.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from gimli.lab.network.simulator import ctnetlink
from gimli.lab.network.simulator.conntrack import (
    CLOSE,
    ORIGINAL,
    REPLY,
    TIMEOUTS_S,
    Connection,
    Verdict,
    begin,
    track,
)
from gimli.lab.network.simulator.frames import RST
from gimli.pair import ctmessage, netlink

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.flows import Flows
    from gimli.lab.network.simulator.frames import Flow, Segment
    from gimli.lab.network.simulator.recorder import Recorder
    from gimli.lab.network.topology import Linux

PURGE_S = 10.0
"""Every so often, connections whose time is over are removed."""


class ConntrackTable:
    """The connections of one kernel.

    Args:
        engine: whose time it lives in.
        name: of the firewall.
        config: how it tracks.
        flows: of the whole network.
        side_of: the name of the interface behind which an address is.
        recorder: is told what happens.

    Attributes:
        tell: called with each event, where somebody listens.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        config: Linux,
        flows: Flows,
        side_of: Callable[[str], str],
        recorder: Recorder,
    ) -> None:
        self._engine = engine
        self._name = name
        self._config = config
        self._flows = flows
        self._side_of = side_of
        self._recorder = recorder
        self._by_flow: dict[Flow, Connection] = {}
        self.tell: Callable[[bytes], None] | None = None
        engine.at(PURGE_S, self._purge)

    def __len__(self) -> int:
        return sum(flow is tracked.original for flow, tracked in self._by_flow.items())

    def clear(self) -> None:
        """Forget everything."""
        self._by_flow.clear()

    # Packets.

    def passes(self, side: str, segment: Segment) -> Flow | None:
        """Let a packet through that is to be forwarded.

        Args:
            side: the interface that it came in by.
            segment: the packet.

        Returns:
            The flow that it goes on with; None when it is dropped.
        """
        flow = segment.flow
        tracked = self._known(flow)
        if tracked is None:
            tracked = self._new(segment)
            if tracked is None:
                self._recorder.count(self._recorder.no_state, self._name)
                return None if self._config.drops_invalid else flow
        direction = ORIGINAL if flow is tracked.original else REPLY
        verdict = self._track(side, tracked, direction, segment, is_copy=False)
        if verdict is Verdict.ANEW:
            self._remove(tracked)
            return self.passes(side, segment)
        if verdict is Verdict.INVALID:
            return None if self._config.drops_invalid else flow
        if not tracked.is_confirmed and self._side_of(flow.src) != side:
            self._recorder.count(self._recorder.no_state, self._name)
            return None
        self._confirm(tracked)
        if segment.flags & RST and not tracked.has_reply:
            self._remove(tracked)
        if not tracked.is_translated:
            return flow
        return tracked.reply.reverse if direction == ORIGINAL else tracked.original.reverse

    def look_at(self, side: str, segment: Segment) -> None:
        """A copy has come: it moves what is known on, and is not forwarded."""
        tracked = self._known(segment.flow)
        if tracked is None:
            self._recorder.count(self._recorder.no_state, self._name)
            return
        direction = ORIGINAL if segment.flow is tracked.original else REPLY
        if self._track(side, tracked, direction, segment, is_copy=True) is Verdict.ANEW:
            self._remove(tracked)

    def _known(self, flow: Flow) -> Connection | None:
        tracked = self._by_flow.get(flow)
        if tracked is not None and tracked.expires_s < self._engine.now_s:
            self._remove(tracked)
            return None
        return tracked

    def _new(self, segment: Segment) -> Connection | None:
        flow = segment.flow
        reply = flow.reverse
        redirect = self._config.redirect
        if redirect is not None and redirect[0] == flow.dst:
            inner = (flow.src, flow.sport, redirect[1], flow.dport)
            reply = self._flows.find(inner, flow.connection).reverse
        tracked = Connection(flow, reply)
        return tracked if begin(tracked, segment, is_loose=self._config.loose) else None

    def _track(
        self, side: str, tracked: Connection, direction: int, segment: Segment, *, is_copy: bool
    ) -> Verdict:
        verdict, why = track(tracked, direction, segment)
        if verdict is Verdict.FITS:
            state = CLOSE if segment.flags & RST else tracked.state
            tracked.expires_s = self._engine.now_s + TIMEOUTS_S[state]
        recorder = self._recorder
        if verdict is Verdict.INVALID or segment.flow.connection in recorder.traced:
            recorder.judged(self._name, side, segment, tracked, why, is_copy=is_copy)
        return verdict

    def _confirm(self, tracked: Connection) -> None:
        if not tracked.is_confirmed:
            self._insert(tracked)
            self._say(tracked, ctnetlink.BEGUN)
        elif tracked.changed:
            self._say(tracked, ctnetlink.UPDATED)
        tracked.changed = False

    def _insert(self, tracked: Connection) -> None:
        tracked.is_confirmed = True
        self._by_flow[tracked.original] = tracked
        self._by_flow[tracked.reply] = tracked
        self._flows.know(tracked.original)
        self._flows.know(tracked.reply)

    def _remove(self, tracked: Connection) -> None:
        for flow in (tracked.original, tracked.reply):
            if self._by_flow.get(flow) is tracked:
                del self._by_flow[flow]
        self._say(tracked, ctnetlink.ENDED)

    def _say(self, tracked: Connection, kind: tuple[int, int]) -> None:
        if self.tell is not None:
            self.tell(ctnetlink.pack(tracked, kind, self._engine.now_s))

    def _purge(self, _: None) -> None:
        now_s = self._engine.now_s
        over = {tracked: None for tracked in self._by_flow.values() if tracked.expires_s < now_s}
        for tracked in over:
            self._remove(tracked)
        self._engine.at(now_s + PURGE_S, self._purge)

    # Ctnetlink.

    def dump(self) -> list[bytes]:
        """Everything that is known."""
        now_s = self._engine.now_s
        return [
            ctnetlink.pack(tracked, ctnetlink.DUMPED, now_s)
            for flow, tracked in self._by_flow.items()
            if flow is tracked.original
        ]

    def asked(self, message: bytes) -> int:
        """A message to the kernel: the errno of its answer, 0 when it is done."""
        _, kind, flags, _, _ = netlink.HEADER.unpack_from(message)
        found = ctmessage.parts(message)
        original = self._flows.find(ctnetlink.parse_ends(found[ctmessage.TUPLE_ORIG]))
        tracked = self._known(original)
        if kind == ctmessage.DELETE:
            if tracked is None:
                return errno.ENOENT
            self._remove(tracked)
            return 0
        if tracked is None:
            return self._make(original, found) if flags & netlink.CREATE else errno.ENOENT
        if flags & netlink.EXCLUSIVE:
            return errno.EEXIST
        if ctmessage.NAT_DST in found:
            return errno.EOPNOTSUPP
        self._take(tracked, found)
        return 0

    def _make(self, original: Flow, found: dict[int, bytes]) -> int:
        if ctmessage.TUPLE_REPLY not in found or ctmessage.TIMEOUT not in found:
            return errno.EINVAL
        ends = ctnetlink.parse_ends(found[ctmessage.TUPLE_REPLY])
        if ctmessage.NAT_DST in found:
            ends = (*ctnetlink.parse_translation(found[ctmessage.NAT_DST]), *ends[2:])
        tracked = Connection(original, self._flows.find(ends))
        tracked.is_replica = True
        self._take(tracked, found)
        self._insert(tracked)
        self._say(tracked, ctnetlink.BEGUN)
        return 0

    def _take(self, tracked: Connection, found: dict[int, bytes]) -> None:
        ctnetlink.take(tracked, found, self._engine.now_s, is_liberal=self._config.liberal)
