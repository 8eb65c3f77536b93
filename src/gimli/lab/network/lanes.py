"""Who sent what to whom, on the connection that is told? What all its sequences have in common. Pure.

A sequence ends alike whatever the filter is: a good packet is dropped, what is sent again is dropped too,
somebody gives up. How it came to that is told by ``lanes_pf`` and ``lanes_linux``. Packets that say nothing
new are told as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.record import Dropped, Judged, Told, Tracked
from gimli.lab.network.topology import Balancer, Client, Server
from gimli.lab.pictures import Lane, Sequence, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gimli.lab.network.simulator.record import Entry, Fate, PacketView, Run
    from gimli.lab.pictures import StepKind

MASTER, BACKUP = "master", "backup"
"""Lanes of the firewalls, by what they are when the story begins."""
_ENDS = {False: ("client", "balancer"), True: ("balancer", "server")}
_HOSTS = {"client": Client, "balancer": Balancer, "server": Server}
_ORDER = ("client", MASTER, BACKUP, "balancer", "server")
_AGAIN_MAX = 7
"""Retransmissions that are told one by one."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A packet at a firewall: in, and out again unless it was dropped."""

    t_s: float
    packet: PacketView
    is_from_src: bool
    is_dropped: bool

    @property
    def key(self) -> tuple[bool, int]:
        """The same for a packet that is sent again."""
        return self.is_from_src, self.packet.seq


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a story is told.

    Args:
        run: in which the connection was traced.
        fate: of the connection.
        firewalls: hosts by lane, ``MASTER`` and ``BACKUP``.
        roles: what they were, by lane.
        via: the lane of the firewall that drops.
        passages: what went by there, from the first packet on.
        first: the one of them that is dropped for good.
    """

    run: Run
    fate: Fate
    firewalls: Mapping[str, str]
    roles: Mapping[str, str]
    via: str
    passages: tuple[Passage, ...]
    first: Passage

    @property
    def ends(self) -> tuple[str, str]:
        """Lanes of whoever opened the connection, and of the other one."""
        return _ENDS[self.fate.is_backend]

    @property
    def connections(self) -> set[int]:
        """The one that is told, and the client's that it carried."""
        return {self.fate.number, self.fate.serves} - {0}

    @property
    def lost(self) -> list[Passage]:
        """What was dropped after the first one, but for RSTs."""
        return [
            each
            for each in self.passages
            if each.is_dropped and each.t_s > self.first.t_s and not each.packet.is_reset
        ]

    def way(self, *, is_from_src: bool, is_lost: bool = False) -> tuple[str, ...]:
        """Through the firewall, or as far as it."""
        return _way(self.ends, self.via, is_from_src=is_from_src, is_lost=is_lost)


def passages(log: Iterable[Entry], where: str) -> Iterator[Passage]:
    """What went by: a packet is tracked when it comes in and when it goes out, of both one is made."""
    last: Passage | None = None
    for entry in log:
        if not isinstance(entry, Tracked | Dropped | Judged) or entry.is_copy or entry.where != where:
            continue
        if isinstance(entry, Judged):
            is_from_src, is_dropped = entry.is_original, bool(entry.wrong)
        else:
            is_from_src, is_dropped = entry.is_from_src, isinstance(entry, Dropped)
        if last is not None and (last.t_s, last.packet) == (entry.t_s, entry.packet):
            is_dropped = last.is_dropped or is_dropped
        elif last is not None:
            yield last
        last = Passage(entry.t_s, entry.packet, is_from_src, is_dropped)
    if last is not None:
        yield last


def sequence(stage: Stage, subject: str, steps: Iterable[Step], left_out: str) -> Sequence:
    """The whole: what is told of the beginning, and how it ends."""
    every = [*steps, *_more(stage), *_again(stage), *_ends(stage), *_told(stage)]
    every.sort(key=lambda step: step.t_ms)
    return Sequence(subject, tuple(_lanes(stage, every)), tuple(every), left_out)


def dropped(stage: Stage, passage: Passage, kind: StepKind, text: str) -> Step:
    """A step that ends at the firewall."""
    path = stage.way(is_from_src=passage.is_from_src, is_lost=True)
    return Step(passage.t_s * 1000, path, kind, text, is_lost=True)


def named(passage: Passage) -> str:
    """A packet by what is in it."""
    packet = passage.packet
    if not packet.length:
        return "acknowledgement"
    what = "request" if passage.is_from_src else "answer"
    return f"{what}, seq {packet.seq}..{packet.end}"


def contents(packet: PacketView) -> str:
    """Its data, or what it acknowledges."""
    return f"seq {packet.seq}..{packet.end}" if packet.length else f"ack {packet.ack}"


def _way(ends: tuple[str, str], via: str, *, is_from_src: bool, is_lost: bool) -> tuple[str, ...]:
    sender, receiver = ends if is_from_src else ends[::-1]
    return (sender, via) if is_lost else (sender, via, receiver)


# After the drop.


def _more(stage: Stage) -> Iterator[Step]:
    """What else is dropped, of each side: new data, and packets without data; each told as one."""
    seen = {stage.first.key}
    for is_from_src in (True, False):
        here = [each for each in stage.lost if each.is_from_src == is_from_src]
        new: list[Passage] = []
        for each in here:
            if each.packet.length and each.key not in seen:
                seen.add(each.key)
                new.append(each)
        if new:
            least, most = min(each.packet.seq for each in new), max(each.packet.end for each in new)
            many = f"{len(new)} more packets, " if len(new) > 1 else "the next one, "
            yield dropped(stage, new[0], "drop", f"{many}seq {least}..{most}: dropped")
        bare = [each for each in here if not each.packet.length]
        if bare:
            many = f"{len(bare)} packets" if len(bare) > 1 else "a packet"
            text = f"{many} without data dropped, until {bare[-1].t_s:.3f} s"
            yield dropped(stage, bare[0], "drop", text)


def _again(stage: Stage) -> Iterator[Step]:
    """Each time that data are sent again."""
    seen = {stage.first.key}
    again = []
    for each in stage.lost:
        if each.packet.length:
            if each.key in seen:
                again.append(each)
            seen.add(each.key)
    shown = again if len(again) <= _AGAIN_MAX else again[: _AGAIN_MAX - 2]
    for each in shown:
        what = "" if each.key == stage.first.key else f"seq {each.packet.seq} "
        yield dropped(stage, each, "again", f"{what}sent again: dropped")
    if len(shown) < len(again):
        text = f"and {len(again) - len(shown) - 1} more in between: dropped, and this one"
        yield dropped(stage, again[-1], "again", text)


def _ends(stage: Stage) -> Iterator[Step]:
    """How the connection is closed, and the client's that it carried."""
    yield from _closing(stage, stage.ends, stage.passages)
    if stage.fate.serves:
        log = [entry for entry in stage.run.log if entry.connection == stage.fate.serves]
        served = passages(log, stage.firewalls[stage.via])
        for step in _closing(stage, _ENDS[False], served):
            words = f"{step.text}, connection {stage.fate.serves}"
            yield Step(step.t_ms, step.path, step.kind, words, step.is_lost)


def _closing(stage: Stage, ends: tuple[str, str], went_by: Iterable[Passage]) -> Iterator[Step]:
    """The first FIN and the first RST of each side."""
    seen = set()
    for passage in went_by:
        packet = passage.packet
        what = "RST" if packet.is_reset else "FIN"
        is_end = packet.is_reset or (packet.is_fin and not passage.is_dropped)
        if passage.t_s <= stage.first.t_s or not is_end or (what, passage.is_from_src) in seen:
            continue
        seen.add((what, passage.is_from_src))
        is_lost = passage.is_dropped
        path = _way(ends, stage.via, is_from_src=passage.is_from_src, is_lost=is_lost)
        kind: StepKind = "reset" if packet.is_reset else "close"
        yield Step(passage.t_s * 1000, path, kind, what + (": dropped" if is_lost else ""), is_lost)


def _told(stage: Stage) -> Iterator[Step]:
    """What applications say of it."""
    kinds = {host.name: kind for kind, of_kind in _HOSTS.items() for host in _of(stage.run, of_kind)}
    for entry in stage.run.log:
        if (
            isinstance(entry, Told)
            and entry.what in {"gives-up", "fails"}
            and entry.connection in stage.connections
            and entry.where in kinds
            and entry.t_s > stage.first.t_s
        ):
            yield Step(entry.t_s * 1000, (kinds[entry.where],), "note", entry.words)


# Lanes.


def _lanes(stage: Stage, steps: Iterable[Step]) -> Iterator[Lane]:
    """Both firewalls, and of the others those who take part."""
    used = {name for step in steps for name in step.path} | {MASTER, BACKUP}
    for name in _ORDER:
        if name in stage.firewalls:
            yield Lane(name, stage.roles[name], stage.firewalls[name])
        elif name in used:
            yield Lane(name, name, _host(stage, name))


def _host(stage: Stage, kind: str) -> str:
    """Which host it was: who said so, or whose address it is; else all that it may have been."""
    run, fate = stage.run, stage.fate
    hosts = _of(run, _HOSTS[kind])
    said = {
        entry.where for entry in run.log if isinstance(entry, Told) and entry.connection in stage.connections
    }
    said |= {each.ended_by for each in run.fates if each.number in stage.connections}
    found = [host.name for host in hosts if host.name in said]
    if len(found) == 1:
        return found[0]
    addresses = {end.rpartition(":")[0] for end in fate.flow.split(" -> ")}
    found = [host.name for host in hosts if host.interface.address.partition("/")[0] in addresses]
    return " ".join(found or [host.name for host in hosts])


def _of(run: Run, kind: type[Client | Balancer | Server]) -> list[Client | Balancer | Server]:
    return [host for host in run.topology.hosts if isinstance(host, kind)]
