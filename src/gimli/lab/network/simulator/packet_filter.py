"""What does a firewall's pf let through, and which states does it hold?

    a packet that comes in    its flow         in the table of wires     -> its state, tracked
    a packet that goes out    its flow, back   in the table of stacks    -> its state, tracked
    without a state           the rules: what begins a connection passes, and makes a state

The rules are the ones that a careful administrator writes: antispoof, then pass. A frame that was flooded
comes from the wrong side, so without a state it never passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import ACK, RST, SYN, Flow, Segment
from gimli.lab.network.simulator.merge import DST, SRC, STALE, merge
from gimli.lab.network.simulator.pf import Peer, PfState, first_peer, track
from gimli.lab.network.simulator.pfsync import DELETE, INSERT
from gimli.lab.network.topology import Binding, Block, Merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.pfsync import Queue, Sync, Update
    from gimli.lab.network.simulator.recorder import Recorder
    from gimli.lab.network.topology import Pf

PURGE_S = 10.0
"""Every so often, states that have expired are removed: pf.conf's interval."""


class PacketFilter:
    """The states of one firewall.

    Args:
        engine: whose time it lives in.
        name: of the firewall.
        config: how it filters.
        index: the firewall's number; its states are numbered from it.
        queue: of pfsync; None when it is off.
        side_of: the name of the interface behind which an address is.
        answer: sends what ``block return`` answers.
        recorder: is told what happens.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        config: Pf,
        index: int,
        queue: Queue | None,
        side_of: Callable[[str], str],
        answer: Callable[[Segment], None],
        recorder: Recorder,
    ) -> None:
        self._engine = engine
        self._name = name
        self._config = config
        self._queue = queue
        self._side_of = side_of
        self._answer = answer
        self._recorder = recorder
        self._is_floating = config.binding is Binding.FLOATING
        self._merging = config.merging
        self._is_old_merge = config.merging in {Merge.WHOLE, Merge.WHOLE_BUT_SRC}
        self._wires: dict[Flow, PfState] = {}
        self._stacks: dict[Flow, PfState] = {}
        self._states: dict[int, PfState] = {}
        self._next_number = (index + 1) << 32
        engine.at(PURGE_S, self._purge)

    def __len__(self) -> int:
        return len(self._states)

    def clear(self) -> None:
        """Forget everything."""
        self._wires.clear()
        self._stacks.clear()
        self._states.clear()

    # Packets.

    def incoming(self, side: str, segment: Segment, *, is_copy: bool) -> Segment | None:
        """The packet as it goes on, translated where it must be; None when it does not.

        Args:
            side: the interface that it came by.
            segment: the packet.
            is_copy: it came in a frame to a group MAC.
        """
        flow = segment.flow
        state = self._wires.get(flow)
        if state is None or not (self._is_floating or state.interface == side):
            return self._by_rules(side, segment, is_copy=is_copy)
        if not self._fits(side, segment, state, is_src=not state.is_out, is_copy=is_copy):
            return None
        return segment if state.is_out or state.stack is flow else translated(segment, state.stack)

    def outgoing(self, side: str, segment: Segment) -> Segment | None:
        """The same for a packet that leaves by an interface."""
        back = segment.flow.reverse
        state = self._stacks.get(back)
        if state is None or not (self._is_floating or state.interface == side):
            if segment.flags & (SYN | ACK) != SYN:
                self._recorder.count(self._recorder.no_state, self._name)
                return None
            self._create(side, segment, back, back, is_out=True)
            return segment
        if not self._fits(side, segment, state, is_src=state.is_out, is_copy=False):
            return None
        return segment if state.wire is back else translated(segment, state.wire.reverse)

    def _fits(self, side: str, segment: Segment, state: PfState, *, is_src: bool, is_copy: bool) -> bool:
        src, dst = (state.src, state.dst) if is_src else (state.dst, state.src)
        failed = track(src, dst, segment)
        recorder = self._recorder
        if failed:
            recorder.dropped(self._name, side, segment, state, failed, is_copy=is_copy, is_from_src=is_src)
            return False
        state.seen_s = self._engine.now_s
        if self._queue is not None:
            self._queue.update(state)
        if segment.flow.connection in recorder.traced:
            recorder.tracked(self._name, side, segment, state, is_copy=is_copy, is_from_src=is_src)
        return True

    def _by_rules(self, side: str, segment: Segment, *, is_copy: bool) -> Segment | None:
        flow = segment.flow
        is_opening = segment.flags & (SYN | ACK | RST) == SYN
        if is_opening and not is_copy and self._side_of(flow.src) == side:
            inner = flow
            redirect = self._config.redirect
            if redirect is not None and redirect[0] == flow.dst:
                inner = flow.redirected(redirect[1])
            self._create(side, segment, flow, inner, is_out=False)
            return segment if inner is flow else translated(segment, inner)
        self._recorder.count(self._recorder.no_state, self._name)
        if self._config.block is Block.RETURN and not segment.flags & RST:
            self._recorder.count(self._recorder.returned, self._name)
            self._answer(reset_of(segment))
        return None

    # States.

    def _create(self, side: str, syn: Segment, wire: Flow, stack: Flow, *, is_out: bool) -> None:
        number = self._next_number
        self._next_number += 1
        state = PfState(number, wire, stack, side, self._name, first_peer(syn), Peer(), is_out=is_out)
        self._insert(state)
        if self._queue is not None:
            self._queue.insert(state)

    def _insert(self, state: PfState) -> None:
        state.seen_s = self._engine.now_s
        self._wires[state.wire] = state
        self._stacks[state.stack] = state
        self._states[state.number] = state

    def _remove(self, state: PfState) -> None:
        self._states.pop(state.number, None)
        if self._wires.get(state.wire) is state:
            del self._wires[state.wire]
        if self._stacks.get(state.stack) is state:
            del self._stacks[state.stack]

    def _purge(self, _: None) -> None:
        now_s = self._engine.now_s
        for state in [one for one in self._states.values() if now_s - one.seen_s > one.expires_s]:
            self._remove(state)
            if state.creator == self._name and self._queue is not None:
                self._queue.delete(state)
        self._engine.at(now_s + PURGE_S, self._purge)

    # What the other firewall says.

    def merge_all(self, sync: Sync) -> None:
        """A packet of pfsync came."""
        assert self._queue is not None
        for update in sync.updates:
            state = self._states.get(update.state.number)
            if update.action == DELETE:
                if state is not None:
                    self._remove(state)
            elif state is not None:
                self._merge(self._queue, state, update)
            elif update.action == INSERT:
                self._import(self._queue, update)
            else:
                self._queue.request(update.state.number)
        for number in sync.requests:
            if number in self._states:
                self._queue.answer(self._states[number])

    def _import(self, queue: Queue, update: Update) -> None:
        theirs = update.state
        state = PfState(
            theirs.number,
            theirs.wire,
            theirs.stack,
            theirs.interface,
            theirs.creator,
            update.src.copy(),
            update.dst.copy(),
            is_out=theirs.is_out,
        )
        state.peer_s = queue.second
        self._insert(state)

    def _merge(self, queue: Queue, state: PfState, update: Update) -> None:
        src, dst = state.src, state.dst
        src_lo, src_hi, dst_lo, dst_hi = src.seqlo, src.seqhi, dst.seqlo, dst.seqhi
        taken = merge(self._merging, state, update.src, update.dst)
        back: tuple[tuple[str, int], ...] = ()
        if src.seqlo < src_lo or src.seqhi < src_hi or dst.seqlo < dst_lo or dst.seqhi < dst_hi:
            moves = (
                ("src.seqlo", src_lo - src.seqlo),
                ("src.seqhi", src_hi - src.seqhi),
                ("dst.seqlo", dst_lo - dst.seqlo),
                ("dst.seqhi", dst_hi - dst.seqhi),
            )
            back = tuple((name, by) for name, by in moves if by > 0)
        is_stale = taken & STALE
        if not is_stale or not self._is_old_merge:
            state.peer_s = queue.second
        if taken & (SRC | DST):
            state.seen_s = self._engine.now_s
        if back or is_stale or self._recorder.traced:
            self._recorder.merged(self._name, update, state, taken, back)
        if is_stale:
            queue.update(state)
            queue.hurry()


def translated(segment: Segment, flow: Flow) -> Segment:
    """The same on the other side of an address translation."""
    return Segment(
        flow,
        segment.flags,
        segment.seq,
        segment.ack,
        segment.length,
        segment.win,
        segment.wscale,
        segment.sack,
        segment.is_again,
    )


def reset_of(segment: Segment) -> Segment:
    """What ``block return`` answers."""
    ack = segment.seq + segment.length + (1 if segment.flags & SYN else 0)
    seq = segment.ack if segment.flags & ACK else 0
    return Segment(segment.flow.reverse, RST | ACK, seq, ack, 0, 0)
