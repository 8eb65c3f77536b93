"""How did the told connection's window move, as each firewall held it? Charts of one peer of one state. Pure.

Two times: the moment in which the window moved back, and everything from there until somebody gave up. Values
are bytes of the stream, counted from the first one that was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network.simulator.pf import MAX_ACK_WINDOW
from gimli.lab.network.simulator.record import Merged, Tracked
from gimli.lab.network.thinning import in_ms, thinned
from gimli.lab.pictures import Chart, Curve, Mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gimli.lab.network.evidence import Chain
    from gimli.lab.network.simulator.record import Run
    from gimli.lab.pictures import CurveStyle

_MARGIN = 0.2
"""Of the span that matters, shown before and behind it."""


def of(run: Run, chain: Chain) -> tuple[Chart, ...]:
    """The moment, and the whole; nothing when no window moved back."""
    drop = chain.drop
    if drop is None or not chain.merges:
        return ()
    peer, _, what = chain.field.partition(".")
    held = {
        host.name: list(_held(chain, host.name, peer))
        for host in sorted(run.topology.firewalls, key=lambda host: host.name != drop.where)
    }
    base = min((lo for _, lo, _ in held[drop.where]), default=0)
    firsts = [chain.merges[0].t_s, *([chain.copy.t_s] if chain.copy is not None else [])]
    begin_s, end_s = min(firsts), chain.merges[-1].t_s
    margin_s = max((end_s - begin_s) * _MARGIN, 0.0002)
    moment = (begin_s - margin_s, min(end_s + margin_s, drop.t_s))
    last_s = max([entry.t_s for entry in chain.after()] + [drop.t_s + 1.0])
    whole = (begin_s - (last_s - begin_s) * 0.02, last_s + (last_s - begin_s) * 0.1)
    name = chain.name.partition(".")[0]
    return (
        Chart(
            f"window of the {name} as each firewall holds it, while it moves back",
            "bytes",
            tuple(_curves(held, what, base, moment)),
            tuple(_steps_back(chain, base)),
        ),
        Chart(
            f"the same for longer: {what} stays behind, and what comes is dropped",
            "bytes",
            (*_curves(held, what, base, whole), *_limit(chain, base, whole[1])),
            (_step_in_all(chain, base), *_dropped(chain, base)),
        ),
    )


def _held(chain: Chain, where: str, peer: str) -> Iterator[tuple[float, int, int]]:
    """Time, seqlo and seqhi of the peer, as a firewall held it."""
    assert chain.drop is not None
    for entry in chain.log:
        if isinstance(entry, Tracked | Merged) and entry.where == where and entry.state == chain.drop.state:
            view = entry.src if peer == "src" else entry.dst
            if view.seqlo:  # else nothing of it has been seen
                yield entry.t_s, view.seqlo, view.seqhi


def _curves(
    held: Mapping[str, Sequence[tuple[float, int, int]]], what: str, base: int, span: tuple[float, float]
) -> Iterator[Curve]:
    """Both ends of the window by firewall; the one that moved back is the line, the other one its edge."""
    for where, values in held.items():
        ends = {
            "seqlo": thinned([(at_s, lo - base) for at_s, lo, _ in values], span),
            "seqhi": thinned([(at_s, hi - base) for at_s, _, hi in values], span),
        }
        for end, points in ends.items():
            if points:
                style: CurveStyle = "line" if end == what else "edge"
                yield Curve(where, end, in_ms(points), style, is_stepped=True)


def _steps_back(chain: Chain, base: int) -> Iterator[Mark]:
    for merged in chain.merges:
        after = chain.value(merged) - base
        back = dict(merged.back)[chain.field]
        text = f"{back:,} bytes back" if merged is chain.merged else ""
        yield Mark(merged.t_s * 1000, after, "back", after + back, text)


def _step_in_all(chain: Chain, base: int) -> Mark:
    last = chain.merges[-1]
    after = chain.value(last) - base
    return Mark(last.t_s * 1000, after, "back", after + chain.back, f"{chain.back:,} bytes back")


def _limit(chain: Chain, base: int, until_s: float) -> Iterator[Curve]:
    """How far ahead of seqlo an acknowledgement may be."""
    drop = chain.drop
    assert drop is not None
    if "3" in drop.failed:
        limit = chain.value(drop) - base + MAX_ACK_WINDOW
        points = in_ms([(drop.t_s, limit), (until_s, limit)])
        yield Curve(drop.where, f"seqlo + {MAX_ACK_WINDOW:,}: what pf accepts", points, style="limit")


def _dropped(chain: Chain, base: int) -> Iterator[Mark]:
    """Where a dropped packet acknowledges to, or ends, by the test that it failed."""
    first = chain.drop
    assert first is not None
    for number, drop in enumerate([first, *chain.after()]):
        if drop.failed[0] == first.failed[0] and drop.is_from_src == first.is_from_src:
            value = drop.packet.ack if "3" in first.failed else drop.packet.end
            what = "acknowledges" if "3" in first.failed else "ends at"
            text = f"dropped: {what} {value - base:,}" if number == 0 else ""
            yield Mark(drop.t_s * 1000, value - base, "drop", text=text)
