"""How did a window of pf move back, in steps? The burst, the copy, the update, the merge, the drop. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network import lanes
from gimli.lab.network.lanes import BACKUP, MASTER, Stage
from gimli.lab.network.simulator.pf import MAX_ACK_WINDOW
from gimli.lab.network.simulator.record import Tracked, Updated
from gimli.lab.network.sketch import role
from gimli.lab.pictures import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gimli.lab import pictures
    from gimli.lab.network.evidence import Chain
    from gimli.lab.network.lanes import Passage
    from gimli.lab.network.simulator.record import Run

_PAUSE_S = 0.3
"""A silence that ends a burst."""
_LEFT_OUT = "Acknowledgements that passed and the master's own updates are left out."


def of(run: Run, chain: Chain, subject: str) -> pictures.Sequence | None:
    """The sequence of a chain, whose connection is named; None when nothing was dropped."""
    drop = chain.drop
    if drop is None:
        return None
    others = [host.name for host in run.topology.firewalls if host.name != drop.where]
    firewalls = {MASTER: drop.where, BACKUP: chain.update.where if chain.update else "".join(others[:1])}
    went_by = tuple(lanes.passages(chain.log, drop.where))
    stage = Stage(
        run=run,
        fate=chain.fate,
        firewalls=firewalls,
        roles={lane: _role(run, chain, host) for lane, host in firewalls.items()},
        via=MASTER,
        passages=went_by,
        first=next(each for each in went_by if (each.t_s, each.packet) == (drop.t_s, drop.packet)),
    )
    steps = [*_bursts(stage, chain), *_links(chain), _drop(stage, chain)]
    earlier = sum(each.is_dropped and each.t_s < drop.t_s for each in went_by)
    healed = f" Dropped before that, and healed by the next packet: {earlier}." if earlier else ""
    return lanes.sequence(stage, subject, steps, _LEFT_OUT + healed)


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


def _bursts(stage: Stage, chain: Chain) -> Iterator[Step]:
    """The data under way when the window moved back, and what they answer."""
    until_s = chain.merged.t_s if chain.merged is not None else stage.first.t_s
    copied_s = chain.copy.t_s if chain.copy is not None else until_s
    bursts: list[list[Passage]] = []
    for passage in stage.passages:
        if passage.is_dropped or not passage.packet.length or passage.t_s >= stage.first.t_s:
            continue
        before = bursts[-1][-1] if bursts else None
        is_next = before is not None and before.is_from_src == passage.is_from_src
        if before is None or not is_next or passage.t_s - before.t_s > _PAUSE_S:
            bursts.append([])
        bursts[-1].append(passage)
    for burst in [each for each in bursts if each[0].t_s <= until_s][-2:]:
        parts = (
            [each for each in burst if each.t_s <= copied_s],
            [each for each in burst if each.t_s > copied_s],
        )
        for part in parts:
            if part:
                yield _burst(stage, part, goes_on=part[0] is not burst[0])


def _burst(stage: Stage, part: Sequence[Passage], *, goes_on: bool) -> Step:
    first, last = part[0], part[-1]
    kind: pictures.StepKind = "request" if first.is_from_src else "answer"
    words = f"the {kind} goes on" if goes_on else kind
    if len(part) > 1:
        words += f", {len(part)} packets"
    path = stage.way(is_from_src=first.is_from_src)
    return Step(first.t_s * 1000, path, kind, f"{words}: seq {first.packet.seq}..{last.packet.end}")


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
        text = f"flooded copy of {lanes.contents(copy.packet)}{twice}: the replica moves on"
        yield Step(copy.t_s * 1000, (MASTER, BACKUP), "copy", text)
    if update is not None:
        text = f"pfsync update: {chain.name} {chain.value(update)}"
        yield Step(update.t_s * 1000, (BACKUP, MASTER), "update", text)
    if merged is not None:
        back = dict(merged.back)[chain.field]
        after = chain.value(merged)
        text = f"{chain.name} {after + back} -> {after}: {back:,} bytes BACK"
        yield Step(merged.t_s * 1000, (MASTER,), "back", text)
    if len(chain.merges) > 1:
        last = chain.merges[-1]
        text = f"{len(chain.merges)} such merges: {chain.back:,} bytes BACK in all, to {chain.value(last)}"
        yield Step(last.t_s * 1000, (MASTER,), "back", text)


def _drop(stage: Stage, chain: Chain) -> Step:
    """The first packet that is dropped for good, and why."""
    drop = chain.drop
    assert drop is not None
    if "3" in drop.failed:
        why = f"ackskew {drop.ackskew:,} < -{MAX_ACK_WINDOW:,}"
        value = f" ack {drop.packet.ack}"
    else:
        why = f"ends behind {chain.name} {chain.value(drop)}"
        value = ""
    text = f"{lanes.named(stage.first)}{value}: BAD state, test {drop.failed[0]}, {why}: dropped"
    return lanes.dropped(stage, stage.first, "drop", text)
