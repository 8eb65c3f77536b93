"""What does a run come to? Figures, and a verdict for each expectation. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gimli.lab.network.simulator.applications import FREEZE_S
from gimli.lab.network.simulator.record import Freeze
from gimli.lab.network.topology import Balancer, Expect, Server
from gimli.lab.scenario import Verdict

if TYPE_CHECKING:
    from gimli.lab.network.simulator.record import Fate, Run
    from gimli.lab.network.topology import Expectation


def frozen(run: Run, limit_s: float = FREEZE_S) -> list[Fate]:
    """Connections of clients that stood still for longer though something was owed."""
    return [fate for fate in run.fates if not fate.is_backend and fate.froze_s > limit_s]


def application_resets(run: Run) -> int:
    """RSTs of balancers and servers."""
    names = [host.name for host in run.topology.hosts if isinstance(host, Balancer | Server)]
    return sum(run.count("resets", name) for name in names)


def metrics(run: Run) -> dict[str, Any]:
    """A run as figures."""
    stood_still = frozen(run)
    kinds = [fate.freeze for fate in run.fates]
    return {
        "connections": run.topology.traffic.connections,
        "answered": run.answered,
        "frozen": len(stood_still),
        "lost": sum(fate.is_lost for fate in run.fates if not fate.is_backend),
        "open_at_fault": run.open_at_fault,
        "lost_at_fault": sum(
            fate.is_lost and fate.was_open_at_fault for fate in run.fates if not fate.is_backend
        ),
        "frozen_after_fault": _frozen_after_fault(run, stood_still),
        "longest_freeze_s": round(max((fate.froze_s for fate in run.fates), default=0.0), 3),
        "application_resets": application_resets(run),
        "bad_state_drops": run.count("bad_state"),
        "frozen_by": {kind.value: kinds.count(kind) for kind in Freeze},
        "copies_on_backup": run.count("copies"),
        "backward_moves": run.count("backwards"),
        "backward_bytes_most": run.back_most,
        "stale_updates": run.count("stale_updates"),
        "forwarded_by_backup": run.count("forwarded"),
        "guard_drops": run.count("guarded"),
        "no_state_drops": run.count("no_state"),
        "returned_resets": run.count("returned"),
        "ttl_ended": run.count("ttl_ended"),
        "two_masters_s": round(run.double_s, 3),
        "events": run.events,
    }


def _frozen_after_fault(run: Run, stood_still: list[Fate]) -> int:
    """Of them, those that stood still only when the first fault was over a second old."""
    if not run.topology.faults:
        return 0
    after_s = run.topology.faults[0].at_s + FREEZE_S
    return sum(fate.frozen_at_s > after_s for fate in stood_still)


def verdicts(run: Run) -> tuple[Verdict, ...]:
    """One for each expectation of the topology."""
    return tuple(_verdict(run, expected) for expected in run.topology.expects)


def _verdict(run: Run, expected: Expectation) -> Verdict:
    words = expected.expect.value
    limit_s = expected.limit_s
    match expected.expect:
        case Expect.FREEZE:
            stood_still = frozen(run, limit_s)
            longest_s = max((fate.froze_s for fate in stood_still), default=0.0)
            figure = f"{len(stood_still)} of {run.topology.traffic.connections} froze"
            if stood_still:
                figure += f", the longest for {longest_s:.1f} s"
            return Verdict(f"{words} {limit_s:g} s", not stood_still, figure)
        case Expect.BAD_STATE:
            dropped = run.count("bad_state")
            return Verdict(words, not dropped, f"{dropped} dropped")
        case Expect.RESETS:
            resets = application_resets(run)
            return Verdict(words, not resets, f"{resets} RSTs")
        case Expect.BACKUP_FORWARDS:
            forwarded = run.count("forwarded")
            return Verdict(words, not forwarded, f"{forwarded} forwarded")
        case Expect.UNTRACKED:
            tracked = run.count("copies")
            return Verdict(words, not tracked, f"{tracked} tracked")
        case Expect.FAILOVER:
            took_s = failover_s(run)
            figure = "there was none" if took_s is None else f"{took_s:.2f} s"
            return Verdict(f"{words} {limit_s:g} s", took_s is not None and took_s < limit_s, figure)
        case Expect.ONE_MASTER:
            return Verdict(f"{words} {limit_s:g} s", run.double_s <= limit_s, f"{run.double_s:.2f} s")


def failover_s(run: Run) -> float | None:
    """From the first fault until every virtual address that lost its MASTER has another one.

    Returns:
        None when no address went over, or when one is left without a MASTER at the end.
    """
    if not run.topology.faults:
        return None
    at_s = run.topology.faults[0].at_s
    holders: dict[int, set[str]] = {}
    before: dict[int, set[str]] = {}
    taken_s: dict[int, float] = {}
    for change in run.roles:
        here = holders.setdefault(change.vhid, set())
        if change.t_s >= at_s:
            had = before.setdefault(change.vhid, set(here))
            if change.is_master and change.where not in had:
                taken_s.setdefault(change.vhid, change.t_s)
        if change.is_master:
            here.add(change.where)
        else:
            here.discard(change.where)
    if not taken_s or not all(holders.values()):
        return None
    return max(taken_s.values()) - at_s
