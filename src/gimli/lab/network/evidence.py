"""How did one connection come to stand still? The chain of what happened, with times and values. Pure.

    a copy reached the backup -> its replica was moved on -> it sent an update -> the master merged it, and a
    field went back -> a good packet was dropped -> its retransmissions were dropped -> somebody gave up

The chain is found from its end: the first packet that was dropped for good names the tests that it failed,
those name the field, the field names the merge, the merge names the update. Nothing is told that was not
recorded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from gimli.lab.network import evidence_linux
from gimli.lab.network.simulator.pf import MAX_ACK_WINDOW
from gimli.lab.network.simulator.record import Dropped, Freeze, Merged, Told, Tracked, Updated
from gimli.lab.network.topology import Balancer, Client
from gimli.lab.scenario import Moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.lab.network.simulator.record import Entry, Fate, PeerView, Run

_ENDS = {False: ("client", "balancer"), True: ("balancer", "server")}
_ENDING = frozenset({"gives-up", "fails", "refused"})
_ENDINGS = 4
_ORDER = (
    (Freeze.F2, False),
    (Freeze.F4, False),
    (Freeze.F2, True),
    (Freeze.F4, True),
    (Freeze.F1, False),
    (Freeze.F1, True),
    (Freeze.INVALID, False),
    (Freeze.INVALID, True),
)
"""Which way of freezing is told rather, of a client's connection or of one behind a balancer."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A connection to be told of.

    Args:
        number: its number.
        flow: from who opened it.
        serves: the client's connection that it carried, where it is one between a balancer and a server.
    """

    number: int
    flow: str
    serves: int

    @property
    def traced(self) -> frozenset[int]:
        """What a run must trace for it."""
        return frozenset({self.number, self.serves} - {0})

    def __str__(self) -> str:
        carried = f", which carries connection {self.serves}" if self.serves else ""
        return f"connection {self.number}, {self.flow}{carried}"


def choose(run: Run) -> tuple[tuple[int, ...], Subject] | None:
    """The connection whose story says most, with its rank; None when no window that moved back froze one.

    One that somebody has given up before one that got over it.
    """
    ranked = [
        (
            (_ORDER.index((fate.freeze, fate.is_backend)), int(fate.ended != "aborted"), fate.number),
            Subject(fate.number, fate.flow, fate.serves),
        )
        for fate in run.fates
        if fate.freeze is not None
    ]
    return min(ranked, key=lambda found: found[0], default=None)


def tell(run: Run, number: int) -> tuple[Moment, ...]:
    """The story of one connection, of a run that has traced it."""
    fate = next(fate for fate in run.fates if fate.number == number)
    log = [entry for entry in run.log if entry.connection == number]
    chain: list[Moment] = []
    drop = _first_lasting(log, fate)
    if drop is not None:
        chain += _before(log, drop, fate)
        chain += _after(log, drop)
    chain += evidence_linux.tell(run.log, number)
    chain += _endings(run, fate)
    return tuple(sorted(chain, key=lambda moment: moment.t_ms))


def _first_lasting(log: Iterable[Entry], fate: Fate) -> Dropped | None:
    """The first good packet dropped after which none of its kind got through for a second."""
    good = [entry for entry in log if isinstance(entry, Dropped) and not entry.is_copy]
    passed = [entry for entry in log if isinstance(entry, Tracked) and not entry.is_copy]
    for drop in good:
        healed_s = min(
            (
                entry.t_s
                for entry in passed
                if entry.where == drop.where
                and entry.state == drop.state
                and entry.is_from_src == drop.is_from_src
                and entry.t_s > drop.t_s
            ),
            default=fate.ended_s or drop.t_s + 2.0,
        )
        last_s = max(entry.t_s for entry in good if entry.t_s <= healed_s)
        if last_s - drop.t_s >= 0.5:
            return drop
    return good[0] if good else None


def _field(drop: Dropped) -> str:
    """The field of the state that the failed test looks at."""
    sender, other = ("src", "dst") if drop.is_from_src else ("dst", "src")
    if "3" in drop.failed:
        return f"{other}.seqlo"
    return f"{sender}.seqhi"


def _before(log: list[Entry], drop: Dropped, fate: Fate) -> list[Moment]:
    """From the copy to the merge that took the field back furthest, and how often that happened."""
    field = _field(drop)
    top, merges = _merges_back(log, drop, field)
    if not merges:
        return []
    merged = max(merges, key=lambda entry: dict(entry.back)[field])
    ends = _ENDS[fate.is_backend]
    moments = [_told_merge(merged, field, ends)]
    update = _last(
        entry
        for entry in log
        if isinstance(entry, Updated) and entry.where != drop.where and entry.serial == merged.serial
    )
    if isinstance(update, Updated):
        moments.insert(0, _told_update(update, drop.where))
        copy = _last(
            entry
            for entry in log
            if isinstance(entry, Tracked)
            and entry.where == update.where
            and entry.state == drop.state
            and entry.is_copy
            and entry.t_s <= update.t_s
        )
        if isinstance(copy, Tracked):
            moments.insert(0, _told_copy(copy, ends))
    if len(merges) > 1:
        peer, _, what = field.partition(".")
        below = top - _value(drop, field)
        text = f"{len(merges)} such merges: {_name(peer, ends)} {what} is {below} bytes BACK in all"
        moments.append(Moment(merges[-1].t_s * 1000, drop.where, text, "merges", {"back": below}))
    return moments


def _merges_back(log: list[Entry], drop: Dropped, field: str) -> tuple[int, list[Merged]]:
    """Where the field stood highest before the drop, and the merges that have taken it back since."""
    here = [
        entry
        for entry in log
        if isinstance(entry, Merged | Tracked)
        and entry.where == drop.where
        and entry.state == drop.state
        and entry.t_s <= drop.t_s
    ]
    heights = [_value(entry, field) for entry in here]
    if not heights:
        return 0, []
    top = len(heights) - 1 - heights[::-1].index(max(heights))
    return heights[top], [
        entry
        for entry in here[top + 1 :]
        if isinstance(entry, Merged) and any(name == field for name, _ in entry.back)
    ]


def _value(entry: Merged | Tracked | Dropped, field: str) -> int:
    peer, _, what = field.partition(".")
    value = getattr(entry.src if peer == "src" else entry.dst, what)
    assert isinstance(value, int)
    return value


def _name(peer: str, ends: tuple[str, str]) -> str:
    return ends[0] if peer == "src" else ends[1]


def _told_copy(copy: Tracked, ends: tuple[str, str]) -> Moment:
    sender, other = ends if copy.is_from_src else ends[::-1]
    text = (
        f"copy of {copy.packet} on {copy.interface}: {sender}.seqlo, {other}.seqhi advance; "
        f"{other}.seqlo stays at {(copy.dst if copy.is_from_src else copy.src).seqlo}"
    )
    return Moment(copy.t_s * 1000, copy.where, text, "copy", _fields(copy.src, copy.dst, state=copy.state))


def _told_update(update: Updated, to: str) -> Moment:
    role = "MASTER" if update.is_master else "BACKUP"
    text = f"-> {to} pfsync update ({update.where} is {role}, the state was made by {update.creator})"
    fields = _fields(update.src, update.dst, state=update.state, serial=update.serial)
    return Moment(update.t_s * 1000, update.where, text, "update", fields)


def _told_merge(merged: Merged, field: str, ends: tuple[str, str]) -> Moment:
    peer, _, what = field.partition(".")
    name = _name(peer, ends)
    back = dict(merged.back)[field]
    if f"{peer} stale" in merged.taken:
        text = f"{name} peer judged stale, copied all the same: {what} {back} bytes BACK"
    else:
        text = f"{name} peer taken, {what} is not compared: {back} bytes BACK"
    fields = _fields(merged.src, merged.dst, state=merged.state, serial=merged.serial, back=dict(merged.back))
    return Moment(merged.t_s * 1000, merged.where, text, "merge", fields)


def _after(log: list[Entry], drop: Dropped) -> list[Moment]:
    again = [
        entry
        for entry in log
        if isinstance(entry, Dropped)
        and not entry.is_copy
        and entry.where == drop.where
        and entry.t_s > drop.t_s
    ]
    if "3" in drop.failed:
        why = f"ackskew {drop.ackskew} < -{MAX_ACK_WINDOW}"
    else:
        sender = drop.src if drop.is_from_src else drop.dst
        why = f"ends behind the sender's seqhi {sender.seqhi}"
    text = f"BAD state, test {drop.failed[0]}: {why}: {drop.packet} dropped"
    if again:
        text += f"; {len(again)} more dropped until {again[-1].t_s:.3f} s"
    fields = _fields(drop.src, drop.dst, state=drop.state, failed=drop.failed, ackskew=drop.ackskew)
    return [Moment(drop.t_s * 1000, drop.where, text, "drop", fields)]


def _endings(run: Run, fate: Fate) -> list[Moment]:
    """Who gave up, on the connection itself or on the one that it carried, and who sent RST."""
    wanted = {fate.number, fate.serves} - {0}
    told = [
        entry
        for entry in run.log
        if isinstance(entry, Told) and entry.connection in wanted and entry.what in _ENDING
    ]
    moments = [Moment(entry.t_s * 1000, entry.where, entry.words, entry.what) for entry in told[:_ENDINGS]]
    hosts = {host.name: host for host in run.topology.hosts}
    for one in run.fates:
        if one.number in wanted and one.ended == "aborted":
            is_opener = isinstance(hosts[one.ended_by], Client) or (
                one.is_backend and isinstance(hosts[one.ended_by], Balancer)
            )
            text = f"RST to the {_ENDS[one.is_backend][int(is_opener)]}"
            moments.append(Moment(one.ended_s * 1000, one.ended_by, text, "reset"))
    return moments


def _last(entries: Iterable[Entry]) -> Entry | None:
    found = None
    for found in entries:  # noqa: B007 - the last one is what is wanted
        pass
    return found


def _fields(src: PeerView, dst: PeerView, **more: object) -> dict[str, object]:
    return {**more, "src": asdict(src), "dst": asdict(dst)}
