"""How did a replica of a Linux pair lose its connection, in steps? Copies, takeover, the drop. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network import lanes
from gimli.lab.network.lanes import BACKUP, MASTER, Stage
from gimli.lab.network.simulator.record import Judged, Told
from gimli.lab.network.sketch import role
from gimli.lab.network.thinning import in_ms, thinned
from gimli.lab.pictures import Chart, Curve, Mark, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gimli.lab import pictures
    from gimli.lab.network.simulator.record import Fate, Run


def of(run: Run, fate: Fate, subject: str) -> tuple[pictures.Sequence | None, tuple[Chart, ...]]:
    """The sequence of a connection, and what the replica believed against what was true; or nothing."""
    judged = [entry for entry in run.log if isinstance(entry, Judged) and entry.connection == fate.number]
    first = next((entry for entry in judged if entry.wrong and not entry.is_copy), None)
    others = [host.name for host in run.topology.firewalls if first and host.name != first.where]
    if first is None or not others:
        return None, ()
    here = [entry for entry in judged if entry.where == first.where]
    copies = [entry for entry in here if entry.is_copy and entry.t_s <= first.t_s]
    begin_s = copies[0].t_s if copies else first.t_s
    firewalls = {MASTER: others[0], BACKUP: first.where}
    went_by = tuple(lanes.passages(here, first.where))
    stage = Stage(
        run=run,
        fate=fate,
        firewalls=firewalls,
        roles={lane: role(run, host, begin_s) for lane, host in firewalls.items()},
        via=BACKUP,
        passages=went_by,
        first=next(each for each in went_by if (each.t_s, each.packet) == (first.t_s, first.packet)),
    )
    text = f"{lanes.named(stage.first)} is INVALID: {first.wrong}: dropped"
    steps = [
        *_copies(copies),
        *_takeover(stage),
        lanes.dropped(stage, stage.first, "drop", text),
    ]
    left_out = "What passed is left out: before the takeover it went through the other firewall."
    return lanes.sequence(stage, subject, steps, left_out), (_beliefs(here, first),)


def _copies(copies: Sequence[Judged]) -> Iterator[Step]:
    """The first one, and the first one that did not fit any more."""
    if not copies:
        return
    first = copies[0]
    known = first.reply if first.is_original else first.original
    belief = f"the replica takes its windows from it; the other way, nothing behind {known.end}"
    text = f"flooded copy of {lanes.contents(first.packet)}: {belief}"
    yield Step(first.t_s * 1000, (MASTER, BACKUP), "copy", text)
    misfits = [entry for entry in copies if entry.wrong]
    if misfits:
        text = f"{len(misfits)} of {len(copies)} copies do not fit, the first: {misfits[0].wrong}"
        yield Step(misfits[0].t_s * 1000, (MASTER, BACKUP), "copy", text)


def _takeover(stage: Stage) -> Iterator[Step]:
    """The last fault before the drop, and the last role of the firewall that drops."""
    told = [entry for entry in stage.run.log if isinstance(entry, Told) and entry.t_s <= stage.first.t_s]
    faults = [entry for entry in told if entry.what == "fault"]
    roles = [entry for entry in told if entry.what == "role" and entry.where == stage.firewalls[BACKUP]]
    places = {host: lane for lane, host in stage.firewalls.items()}
    for entry in (*faults[-1:], *roles[-1:]):
        lane = places.get(entry.where.partition(".")[0])
        if lane is not None:
            yield Step(entry.t_s * 1000, (lane,), "note", entry.words)


def _beliefs(here: Sequence[Judged], first: Judged) -> Chart:
    """How far the other side had sent, as the replica believed; and how far it was acknowledged."""
    same = [entry for entry in here if entry.is_original == first.is_original]
    base = min(_known(entry) for entry in same)
    known = [(entry.t_s, _known(entry) - base) for entry in same]
    acked = [(entry.t_s, entry.packet.ack - base) for entry in same]
    drops = [entry for entry in same if entry.wrong and not entry.is_copy]
    marks = tuple(
        Mark(
            entry.t_s * 1000,
            entry.packet.ack - base,
            "drop",
            text=f"dropped: acknowledges {entry.packet.ack - base:,}" if entry is first else "",
        )
        for entry in drops
    )
    span = (same[0].t_s, same[-1].t_s)
    return Chart(
        f"what {first.where} believes was sent, and what is acknowledged",
        "bytes",
        (
            Curve(first.where, "believes", in_ms(thinned(known, span)), is_stepped=True),
            Curve("the other side", "acknowledges", in_ms(thinned(acked, span)), is_stepped=True),
        ),
        marks,
    )


def _known(entry: Judged) -> int:
    return entry.reply.end if entry.is_original else entry.original.end
