"""Who keeps what happens in a run? Counters of everything, and a log of what is rare or asked for.

A run is repeatable, so nothing is kept in case somebody might ask: what a question needs is traced in a
second run of the same seed. So a long run needs no more memory than a short one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network.simulator.conntrack import STATES
from gimli.lab.network.simulator.merge import STALE, words_of
from gimli.lab.network.simulator.pf import MAX_ACK_WINDOW
from gimli.lab.network.simulator.record import (
    COUNTED,
    Dropped,
    Fate,
    Freeze,
    HalfView,
    Judged,
    Merged,
    PacketView,
    PeerView,
    RoleChange,
    Told,
    Tracked,
    Updated,
)

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from gimli.lab.network.simulator.conntrack import Connection
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.frames import Flow, Segment
    from gimli.lab.network.simulator.pf import Peer, PfState
    from gimli.lab.network.simulator.pfsync import Update
    from gimli.lab.network.simulator.record import Entry

LASTING_S = 1.0
"""A segment that is dropped again after this time is not healed by the next packet."""
LOG_MAX = 2000
"""Of entries that nobody has asked for."""


class Recorder:
    """What a run leaves.

    Args:
        engine: whose time it lives in.
        traced: connections of which everything is kept.

    Attributes:
        fates: of connections, by number; those of which there is nothing to tell are counted in ``fine`` and
            forgotten when they have ended.
    """

    def __init__(self, engine: Engine, traced: AbstractSet[int] = frozenset()) -> None:
        self._engine = engine
        self.traced = traced
        self.log: list[Entry] = []
        self.left_out = 0
        self.fates: dict[int, Fate] = {}
        self.fine = 0
        self.answered = 0
        self.counts: dict[str, dict[str, int]] = {what: {} for what in COUNTED}
        self.copies = self.counts["copies"]
        self.no_state = self.counts["no_state"]
        self.bad_state = self.counts["bad_state"]
        self.bad_copies = self.counts["bad_copies"]
        self.backwards = self.counts["backwards"]
        self.stale_updates = self.counts["stale_updates"]
        self.forwarded = self.counts["forwarded"]
        self.forwarded_groups = self.counts["forwarded_groups"]
        self.guarded = self.counts["guarded"]
        self.fenced = self.counts["fenced"]
        self.resets = self.counts["resets"]
        self.ttl_ended = self.counts["ttl_ended"]
        self.returned = self.counts["returned"]
        self.open_at_fault: int | None = None
        self.back_most = 0
        """Bytes that a field of a state went back at once."""
        self.roles: list[RoleChange] = []
        self._groups: dict[int, tuple[frozenset[str], float, float]] = {}

    @staticmethod
    def count(counts: dict[str, int], where: str) -> None:
        """One more."""
        counts[where] = counts.get(where, 0) + 1

    def tell(self, where: str, what: str, words: str, connection: int = 0) -> None:
        """Something rare."""
        self._keep(Told(self._engine.now_s, where, connection, what, words))

    def tracked(
        self,
        where: str,
        interface: str,
        segment: Segment,
        state: PfState,
        *,
        is_copy: bool,
        is_from_src: bool,
    ) -> None:
        """A packet of a traced connection moved a state on."""
        self.log.append(
            Tracked(
                self._engine.now_s,
                where,
                segment.flow.connection,
                interface,
                packet_view(segment),
                is_copy,
                is_from_src,
                state.number,
                view(state.src),
                view(state.dst),
            )
        )

    def updated(self, where: str, update: Update, *, is_master: bool = False) -> None:
        """A firewall sends an update."""
        connection = update.state.wire.connection
        if connection in self.traced:
            self.log.append(
                Updated(
                    self._engine.now_s,
                    where,
                    connection,
                    is_master,
                    update.serial,
                    update.state.number,
                    update.state.creator,
                    view(update.src),
                    view(update.dst),
                )
            )

    def merged(
        self, where: str, update: Update, state: PfState, taken: int, back: tuple[tuple[str, int], ...]
    ) -> None:
        """An update was merged."""
        connection = state.wire.connection
        if taken & STALE:
            self.stale_updates[where] = self.stale_updates.get(where, 0) + 1
        if back:
            self.backwards[where] = self.backwards.get(where, 0) + 1
            most = max(by for _, by in back)
            self.back_most = max(self.back_most, most)
            if fate := self.fates.get(connection):
                fate.back += 1
        if connection in self.traced:
            self.log.append(
                Merged(
                    self._engine.now_s,
                    where,
                    connection,
                    update.serial,
                    state.number,
                    words_of(taken),
                    back,
                    view(state.src),
                    view(state.dst),
                )
            )

    def dropped(
        self,
        where: str,
        interface: str,
        segment: Segment,
        state: PfState,
        failed: str,
        *,
        is_copy: bool,
        is_from_src: bool,
    ) -> None:
        """A packet did not fit its state."""
        connection = segment.flow.connection
        counts = self.bad_copies if is_copy else self.bad_state
        counts[where] = counts.get(where, 0) + 1
        if not is_copy and (fate := self.fates.get(connection)):
            self._note_drop(fate, segment, state, failed, is_from_src=is_from_src)
        if connection in self.traced:
            dst = state.dst if is_from_src else state.src
            self.log.append(
                Dropped(
                    self._engine.now_s,
                    where,
                    connection,
                    interface,
                    packet_view(segment),
                    is_copy,
                    failed,
                    is_from_src,
                    dst.seqlo - segment.ack,
                    state.number,
                    view(state.src),
                    view(state.dst),
                )
            )

    def judged(
        self, where: str, interface: str, segment: Segment, tracked: Connection, wrong: str, *, is_copy: bool
    ) -> None:
        """Linux has tracked a packet that does not fit, or one of a traced connection."""
        connection = segment.flow.connection
        if wrong:
            counts = self.bad_copies if is_copy else self.bad_state
            counts[where] = counts.get(where, 0) + 1
            if not is_copy and (fate := self.fates.get(connection)) and self._is_lasting(fate, segment):
                fate.freeze = fate.freeze or Freeze.INVALID
        if connection in self.traced:
            original, reply = tracked.halves
            self.log.append(
                Judged(
                    self._engine.now_s,
                    where,
                    connection,
                    interface,
                    packet_view(segment),
                    is_copy,
                    segment.flow is tracked.original,
                    wrong,
                    STATES[tracked.state],
                    tracked.is_replica,
                    HalfView(original.end, original.maxend, original.maxwin),
                    HalfView(reply.end, reply.maxend, reply.maxwin),
                )
            )

    def _is_lasting(self, fate: Fate, segment: Segment) -> bool:
        """A good packet was dropped; whether that had happened to it a while ago."""
        now_s = self._engine.now_s
        fate.dropped += 1
        seq, since_s = fate.dropped_first
        if seq == segment.seq:
            return now_s - since_s >= LASTING_S
        fate.dropped_first = (segment.seq, now_s)
        return False

    def _note_drop(
        self, fate: Fate, segment: Segment, state: PfState, failed: str, *, is_from_src: bool
    ) -> None:
        if self._is_lasting(fate, segment) and fate.freeze is None:
            sender = state.src if is_from_src else state.dst
            if "3" in failed:
                fate.freeze = Freeze.F2
            elif segment.seq - sender.seqlo > MAX_ACK_WINDOW:
                fate.freeze = Freeze.F4  # the other side's acknowledgements of what came before fail as well
            else:
                fate.freeze = Freeze.F1

    def refused(self, where: str, flow: Flow) -> None:
        """A host sent RST for a connection that it does not have, or no longer reads."""
        self.resets[where] = self.resets.get(where, 0) + 1
        words = f"RST to {flow.dst}:{flow.dport}: it has no such connection"
        self.tell(where, "refused", words, flow.connection)

    def role_changed(self, vhid: int, where: str, *, is_master: bool) -> None:
        """A firewall has become MASTER of a group, or is so no more."""
        now_s = self._engine.now_s
        holders, since_s, double_s = self._groups.get(vhid, (frozenset[str](), 0.0, 0.0))
        if is_master == (where in holders):
            return
        if len(holders) > 1:
            double_s += now_s - since_s
        holders = holders | {where} if is_master else holders - {where}
        self._groups[vhid] = (holders, now_s, double_s)
        self.roles.append(RoleChange(now_s, vhid, where, is_master))

    @property
    def double_s(self) -> float:
        """For how long a group has had more than one MASTER, of the group in which it was longest."""
        now_s = self._engine.now_s
        times = [
            double_s + (now_s - since_s if len(holders) > 1 else 0.0)
            for holders, since_s, double_s in self._groups.values()
        ]
        return max(times, default=0.0)

    def fault_comes(self) -> None:
        """Something breaks: what stands now is what may be lost by it."""
        if self.open_at_fault is None:
            standing = [fate for fate in self.fates.values() if not fate.ended]
            for fate in standing:
                fate.was_open_at_fault = True
            self.open_at_fault = sum(not fate.is_backend for fate in standing)

    # Connections.

    def opened(self, flow: Flow, *, is_backend: bool) -> Fate:
        """A connection begins."""
        fate = Fate(flow.connection, repr(flow), is_backend, self._engine.now_s)
        self.fates[flow.connection] = fate
        return fate

    def ended(self, connection: int, where: str, how: str) -> None:
        """One end of a connection is done with it; the first one counts."""
        fate = self.fates.get(connection)
        if fate is not None:
            if not fate.ended:
                fate.ended, fate.ended_by, fate.ended_s = how, where, self._engine.now_s
            fate.open_ends -= 1
            if not fate.open_ends and fate.is_plain:
                self.fine += not fate.is_backend
                del self.fates[connection]
        if how == "aborted":
            self.resets[where] = self.resets.get(where, 0) + 1

    def _keep(self, entry: Entry) -> None:
        if len(self.log) < LOG_MAX or entry.connection in self.traced:
            self.log.append(entry)
        else:
            self.left_out += 1


def view(peer: Peer) -> PeerView:
    """A peer as it is now."""
    return PeerView(peer.seqlo, peer.seqhi, peer.max_win, peer.wscale, peer.state)


def packet_view(segment: Segment) -> PacketView:
    """A segment as it is told of."""
    return PacketView(segment.flags, segment.seq, segment.length, segment.ack, segment.is_again)
