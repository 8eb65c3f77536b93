"""Who sent what to whom, on the connection that is told? Its sequence, from what was recorded. Pure.

    the burst before, the copy, the update, the merge, the drop, the retransmissions, the end

Packets that say nothing new are told as one; which are left out altogether is said as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.pf import MAX_ACK_WINDOW
from gimli.lab.network.simulator.record import Dropped, Told, Tracked, Updated
from gimli.lab.network.sketch import role
from gimli.lab.network.topology import Balancer, Client, Server
from gimli.lab.pictures import Lane, Sequence, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gimli.lab.network.evidence import Chain
    from gimli.lab.network.simulator.record import Entry, PacketView, Run
    from gimli.lab.pictures import StepKind

_MASTER, _BACKUP = "master", "backup"
"""Lanes: of the firewall that drops, which is MASTER, and of the other one."""
_HOSTS = {"client": Client, "balancer": Balancer, "server": Server}
_PAUSE_S = 0.3
"""A silence that ends a burst."""
_AGAIN_MAX = 7
"""Retransmissions that are told one by one."""
_LEFT_OUT = "Acknowledgements that passed and the master's own updates are left out."


@dataclass(frozen=True, slots=True)
class _Passage:
    """A packet at the master: in, and out again unless it was dropped."""

    t_s: float
    packet: PacketView
    is_from_src: bool
    dropped: Dropped | None


def of(run: Run, chain: Chain, subject: str) -> Sequence | None:
    """The sequence of a chain, whose connection is named; None when nothing was dropped."""
    drop = chain.drop
    if drop is None:
        return None
    passages = list(_passages(chain.log, drop.where))
    steps = [
        *_bursts(chain, passages),
        *_links(chain),
        *_drops(chain),
        *_ends(chain.ends, passages, drop.t_s),
        *_served(run, chain),
        *_told(run, chain),
    ]
    steps.sort(key=lambda step: step.t_ms)
    return Sequence(subject, tuple(_lanes(run, chain, steps)), tuple(steps), _left_out(chain, drop))


def _left_out(chain: Chain, drop: Dropped) -> str:
    """What is not told: neither what is as always, nor what did no harm."""
    earlier = sum(
        isinstance(entry, Dropped) and not entry.is_copy and entry.t_s < drop.t_s for entry in chain.log
    )
    if not earlier:
        return _LEFT_OUT
    return f"{_LEFT_OUT} Dropped before that, and healed by the next packet: {earlier}."


def _passages(log: Iterable[Entry], where: str) -> Iterator[_Passage]:
    """A packet is tracked when it comes in and when it goes out: of both, one is made."""
    last: _Passage | None = None
    for entry in log:
        if not isinstance(entry, Tracked | Dropped) or entry.is_copy or entry.where != where:
            continue
        dropped = entry if isinstance(entry, Dropped) else None
        if last is not None and (last.t_s, last.packet) == (entry.t_s, entry.packet):
            dropped = last.dropped or dropped
        elif last is not None:
            yield last
        last = _Passage(entry.t_s, entry.packet, entry.is_from_src, dropped)
    if last is not None:
        yield last


def _way(ends: tuple[str, str], *, is_from_src: bool, is_lost: bool = False) -> tuple[str, ...]:
    """Through the master, or as far as it."""
    sender, receiver = ends if is_from_src else ends[::-1]
    return (sender, _MASTER) if is_lost else (sender, _MASTER, receiver)


# Before the drop.


def _bursts(chain: Chain, passages: Iterable[_Passage]) -> Iterator[Step]:
    """The data under way when the window moved back, and what they answer."""
    assert chain.drop is not None
    until_s = chain.merged.t_s if chain.merged is not None else chain.drop.t_s
    copied_s = chain.copy.t_s if chain.copy is not None else until_s
    data = [each for each in passages if each.packet.length and each.dropped is None]
    bursts: list[list[_Passage]] = []
    for before, passage in pairwise([None, *(each for each in data if each.t_s < chain.drop.t_s)]):
        assert passage is not None
        is_next = before is not None and before.is_from_src == passage.is_from_src
        if before is None or not is_next or passage.t_s - before.t_s > _PAUSE_S:
            bursts.append([])
        bursts[-1].append(passage)
    begun = [burst for burst in bursts if burst[0].t_s <= until_s]
    for burst in begun[-2:]:
        for part in (
            [each for each in burst if each.t_s <= copied_s],
            [each for each in burst if each.t_s > copied_s],
        ):
            if part:
                yield _burst(part, chain.ends, goes_on=part[0] is not burst[0])


def _burst(part: list[_Passage], ends: tuple[str, str], *, goes_on: bool) -> Step:
    first, last = part[0], part[-1]
    what = "request" if first.is_from_src else "answer"
    span = f"seq {first.packet.seq}..{last.packet.end}"
    words = f"the {what} goes on" if goes_on else what
    if len(part) > 1:
        words += f", {len(part)} packets"
    path = _way(ends, is_from_src=first.is_from_src)
    kind: StepKind = "request" if first.is_from_src else "answer"
    return Step(first.t_s * 1000, path, kind, f"{words}: {span}")


def _links(chain: Chain) -> Iterator[Step]:
    """Copy, update, merge."""
    copy, update, merged = chain.copy, chain.update, chain.merged
    if copy is not None:
        times = sum(
            isinstance(entry, Tracked)
            and (entry.where, entry.t_s, entry.packet) == (copy.where, copy.t_s, copy.packet)
            for entry in chain.log
        )
        twice = {1: "", 2: ", twice through pf"}.get(times, f", {times} times through pf")
        packet = copy.packet
        what = f"seq {packet.seq}..{packet.end}" if packet.length else f"ack {packet.ack}"
        text = f"flooded copy of {what}{twice}: the replica moves on"
        yield Step(copy.t_s * 1000, (_MASTER, _BACKUP), "copy", text)
    if update is not None:
        text = f"pfsync update: {chain.name} {chain.value(update)}"
        yield Step(update.t_s * 1000, (_BACKUP, _MASTER), "update", text)
    if merged is not None:
        back = dict(merged.back)[chain.field]
        after = chain.value(merged)
        text = f"{chain.name} {after + back} -> {after}: {back:,} bytes BACK"
        yield Step(merged.t_s * 1000, (_MASTER,), "back", text)
    if len(chain.merges) > 1:
        last = chain.merges[-1]
        text = f"{len(chain.merges)} such merges: {chain.back:,} bytes BACK in all, to {chain.value(last)}"
        yield Step(last.t_s * 1000, (_MASTER,), "back", text)


# The drop, and after it.


def _drops(chain: Chain) -> Iterator[Step]:
    """The packet, and each time that it is sent again; acknowledgements among them as one."""
    first = chain.drop
    assert first is not None
    what = "request" if first.is_from_src else "answer"
    why = (
        f"ackskew {first.ackskew:,} < -{MAX_ACK_WINDOW:,}"
        if "3" in first.failed
        else f"ends behind {chain.name} {chain.value(first)}"
    )
    named = (
        f"{what}, seq {first.packet.seq}..{first.packet.end}" if first.packet.length else "acknowledgement"
    )
    value = f" ack {first.packet.ack}" if "3" in first.failed else ""
    text = f"{named}{value}: BAD state, test {first.failed[0]}, {why}: dropped"
    yield _drop_step(first, chain.ends, "drop", text)
    yield from _more(chain)
    yield from _again(chain)


def _more(chain: Chain) -> Iterator[Step]:
    """What else is dropped, of each side: new data, and packets without data; each told as one."""
    assert chain.drop is not None
    after = [entry for entry in chain.after() if not entry.packet.is_reset]
    seen = {(chain.drop.is_from_src, chain.drop.packet.seq)}
    for is_from_src in (True, False):
        here = [entry for entry in after if entry.is_from_src == is_from_src]
        new: list[Dropped] = []
        for entry in here:
            if entry.packet.length and (is_from_src, entry.packet.seq) not in seen:
                seen.add((is_from_src, entry.packet.seq))
                new.append(entry)
        if new:
            least, most = min(entry.packet.seq for entry in new), max(entry.packet.end for entry in new)
            many = f"{len(new)} more packets, " if len(new) > 1 else "the next one, "
            yield _drop_step(new[0], chain.ends, "drop", f"{many}seq {least}..{most}: dropped")
        bare = [entry for entry in here if not entry.packet.length]
        if bare:
            many = f"{len(bare)} packets" if len(bare) > 1 else "a packet"
            text = f"{many} without data dropped, until {bare[-1].t_s:.3f} s"
            yield _drop_step(bare[0], chain.ends, "drop", text)


def _again(chain: Chain) -> Iterator[Step]:
    """Each time that data are sent again."""
    assert chain.drop is not None
    seen = {(chain.drop.is_from_src, chain.drop.packet.seq)}
    again = []
    for entry in chain.after():
        key = (entry.is_from_src, entry.packet.seq)
        if entry.packet.length and not entry.packet.is_reset:
            if key in seen:
                again.append(entry)
            seen.add(key)
    shown = again if len(again) <= _AGAIN_MAX else again[: _AGAIN_MAX - 2]
    for entry in shown:
        what = "" if entry.packet.seq == chain.drop.packet.seq else f"seq {entry.packet.seq} "
        yield _drop_step(entry, chain.ends, "again", f"{what}sent again: dropped")
    if len(shown) < len(again):
        text = f"and {len(again) - len(shown) - 1} more in between: dropped, and this one"
        yield _drop_step(again[-1], chain.ends, "again", text)


def _drop_step(entry: Dropped, ends: tuple[str, str], kind: StepKind, text: str) -> Step:
    path = _way(ends, is_from_src=entry.is_from_src, is_lost=True)
    return Step(entry.t_s * 1000, path, kind, text, is_lost=True)


def _ends(ends: tuple[str, str], passages: Iterable[_Passage], after_s: float) -> Iterator[Step]:
    """How it is closed: the first FIN and the first RST of each side."""
    seen = set()
    for passage in passages:
        packet = passage.packet
        what = "RST" if packet.is_reset else "FIN"
        is_end = packet.is_reset or (packet.is_fin and passage.dropped is None)
        if passage.t_s <= after_s or not is_end or (what, passage.is_from_src) in seen:
            continue
        seen.add((what, passage.is_from_src))
        is_lost = passage.dropped is not None
        path = _way(ends, is_from_src=passage.is_from_src, is_lost=is_lost)
        kind: StepKind = "reset" if packet.is_reset else "close"
        yield Step(passage.t_s * 1000, path, kind, what + (": dropped" if is_lost else ""), is_lost)


def _served(run: Run, chain: Chain) -> Iterator[Step]:
    """How the client's connection ends that this one carried."""
    assert chain.drop is not None
    if chain.fate.serves:
        log = [entry for entry in run.log if entry.connection == chain.fate.serves]
        passages = _passages(log, chain.drop.where)
        for step in _ends(("client", "balancer"), passages, chain.drop.t_s):
            words = f"{step.text}, connection {chain.fate.serves}"
            yield Step(step.t_ms, step.path, step.kind, words, step.is_lost)


def _told(run: Run, chain: Chain) -> Iterator[Step]:
    """What applications say of it."""
    assert chain.drop is not None
    wanted = {chain.fate.number, chain.fate.serves} - {0}
    kinds = {host.name: kind for kind, of_kind in _HOSTS.items() for host in _of(run, of_kind)}
    for entry in run.log:
        if (
            isinstance(entry, Told)
            and entry.what in {"gives-up", "fails"}
            and entry.connection in wanted
            and entry.where in kinds
            and entry.t_s > chain.drop.t_s
        ):
            yield Step(entry.t_s * 1000, (kinds[entry.where],), "note", entry.words)


# Lanes.


def _lanes(run: Run, chain: Chain, steps: list[Step]) -> Iterator[Lane]:
    """Client, MASTER, BACKUP, balancer, server, as far as they take part."""
    assert chain.drop is not None
    used = {name for step in steps for name in step.path} | {_MASTER, _BACKUP}
    master = chain.drop.where
    others = [host.name for host in run.topology.firewalls if host.name != master]
    backup = chain.update.where if chain.update is not None else "".join(others[:1])
    firewalls = {_MASTER: master, _BACKUP: backup}
    for name in ("client", _MASTER, _BACKUP, "balancer", "server"):
        if name not in used:
            continue
        if name in firewalls:
            yield Lane(name, _role(run, chain, firewalls[name]), firewalls[name])
        else:
            yield Lane(name, name, _host(run, chain, name))


def _role(run: Run, chain: Chain, firewall: str) -> str:
    """MASTER or BACKUP before the drop, as its last update says: there may be two MASTERs."""
    assert chain.drop is not None
    said = [
        entry.is_master
        for entry in chain.log
        if isinstance(entry, Updated) and entry.where == firewall and entry.t_s <= chain.drop.t_s
    ]
    if said:
        return "MASTER" if said[-1] else "BACKUP"
    return role(run, firewall, chain.drop.t_s)


def _host(run: Run, chain: Chain, kind: str) -> str:
    """Which host it was: who said so, or whose address it is; else all that it may have been."""
    hosts = _of(run, _HOSTS[kind])
    wanted = {chain.fate.number, chain.fate.serves} - {0}
    said = {entry.where for entry in run.log if isinstance(entry, Told) and entry.connection in wanted}
    said |= {fate.ended_by for fate in run.fates if fate.number in wanted}
    named = [host.name for host in hosts if host.name in said]
    if len(named) == 1:
        return named[0]
    addresses = {end.rpartition(":")[0] for end in chain.fate.flow.split(" -> ")}
    named = [host.name for host in hosts if host.interface.address.partition("/")[0] in addresses]
    return " ".join(named or [host.name for host in hosts])


def _of(run: Run, kind: type[Client | Balancer | Server]) -> list[Client | Balancer | Server]:
    return [host for host in run.topology.hosts if isinstance(host, kind)]
