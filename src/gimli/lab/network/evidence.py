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
    from collections.abc import Iterable, Iterator

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


@dataclass(frozen=True, slots=True)
class Chain:
    """What made one connection stand still, link by link; None where nothing such was recorded.

    Args:
        fate: what became of the connection.
        log: everything that was recorded of it.
        drop: the first good packet that was dropped for good, or the first of all.
        field: of the state, what the test looks at that it failed.
        merges: those that took the field back, since it stood highest.
        back: by how much they did, in all.
        merged: the one that took it back furthest.
        update: what it merged.
        copy: the copy that moved the replica of which that update tells.
    """

    fate: Fate
    log: tuple[Entry, ...]
    drop: Dropped | None = None
    field: str = ""
    merges: tuple[Merged, ...] = ()
    back: int = 0
    merged: Merged | None = None
    update: Updated | None = None
    copy: Tracked | None = None

    @property
    def ends(self) -> tuple[str, str]:
        """What whoever opened the connection is called, and the other one."""
        return _ENDS[self.fate.is_backend]

    def value(self, entry: Merged | Tracked | Dropped | Updated) -> int:
        """Of the field, after an entry."""
        return _value(entry, self.field)

    @property
    def name(self) -> str:
        """Of the field, in words."""
        peer, _, what = self.field.partition(".")
        return f"{_name(peer, self.ends)}.{what}"

    def after(self) -> Iterator[Dropped]:
        """Good packets dropped after the first one, by the same firewall."""
        first = self.drop
        if first is None:
            return
        good = (entry for entry in self.log if isinstance(entry, Dropped) and not entry.is_copy)
        yield from (entry for entry in good if entry.where == first.where and entry.t_s > first.t_s)


def find(run: Run, number: int) -> Chain:
    """The chain of one connection, of a run that has traced it."""
    fate = next(fate for fate in run.fates if fate.number == number)
    log = tuple(entry for entry in run.log if entry.connection == number)
    drop = _first_lasting(log, fate)
    if drop is None:
        return Chain(fate, log)
    field = _field(drop)
    top, merges = _merges_back(log, drop, field)
    if not merges:
        return Chain(fate, log, drop, field)
    merged = max(merges, key=lambda entry: dict(entry.back)[field])
    update = _update_of(log, merged)
    copy = None if update is None else _copy_before(log, update)
    return Chain(fate, log, drop, field, merges, top - _value(drop, field), merged, update, copy)


def tell(run: Run, number: int) -> tuple[Moment, ...]:
    """The story of one connection, of a run that has traced it."""
    chain = find(run, number)
    moments = [
        *_before(chain),
        *_after(chain),
        *evidence_linux.tell(run.log, number),
        *_endings(run, chain.fate),
    ]
    return tuple(sorted(moments, key=lambda moment: moment.t_ms))


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


def _merges_back(log: Iterable[Entry], drop: Dropped, field: str) -> tuple[int, tuple[Merged, ...]]:
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
        return 0, ()
    top = len(heights) - 1 - heights[::-1].index(max(heights))
    return heights[top], tuple(
        entry
        for entry in here[top + 1 :]
        if isinstance(entry, Merged) and any(name == field for name, _ in entry.back)
    )


def _update_of(log: Iterable[Entry], merged: Merged) -> Updated | None:
    """What was merged, as it was sent."""
    found = None
    for entry in log:
        if isinstance(entry, Updated) and entry.where != merged.where and entry.serial == merged.serial:
            found = entry
    return found


def _copy_before(log: Iterable[Entry], update: Updated) -> Tracked | None:
    """The last copy that moved the state of which an update tells."""
    found = None
    for entry in log:
        if (
            isinstance(entry, Tracked)
            and entry.is_copy
            and (entry.where, entry.state) == (update.where, update.state)
            and entry.t_s <= update.t_s
        ):
            found = entry
    return found


def _before(chain: Chain) -> Iterator[Moment]:
    """From the copy to the merge that took the field back furthest, and how often that happened."""
    if chain.merged is None:
        return
    if chain.update is not None:
        if chain.copy is not None:
            yield _told_copy(chain.copy, chain.ends)
        yield _told_update(chain.update, chain.merged.where)
    yield _told_merge(chain.merged, chain.field, chain.ends)
    if len(chain.merges) > 1:
        last = chain.merges[-1]
        name = chain.name.replace(".", " ")
        text = f"{len(chain.merges)} such merges: {name} is {chain.back} bytes BACK in all"
        yield Moment(last.t_s * 1000, last.where, text, "merges", {"back": chain.back})


def _value(entry: Merged | Tracked | Dropped | Updated, field: str) -> int:
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


def _after(chain: Chain) -> Iterator[Moment]:
    """The packet that was dropped, why, and how many more."""
    drop = chain.drop
    if drop is None:
        return
    again = list(chain.after())
    if "3" in drop.failed:
        why = f"ackskew {drop.ackskew} < -{MAX_ACK_WINDOW}"
    else:
        sender = drop.src if drop.is_from_src else drop.dst
        why = f"ends behind the sender's seqhi {sender.seqhi}"
    text = f"BAD state, test {drop.failed[0]}: {why}: {drop.packet} dropped"
    if again:
        text += f"; {len(again)} more dropped until {again[-1].t_s:.3f} s"
    fields = _fields(drop.src, drop.dst, state=drop.state, failed=drop.failed, ackskew=drop.ackskew)
    yield Moment(drop.t_s * 1000, drop.where, text, "drop", fields)


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


def _fields(src: PeerView, dst: PeerView, **more: object) -> dict[str, object]:
    return {**more, "src": asdict(src), "dst": asdict(dst)}
