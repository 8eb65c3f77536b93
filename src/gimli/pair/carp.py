"""In which role is a vhid, and what does each event do to it?

``TABLE`` is the whole answer: a row for every pair of role and event, also for those that change nothing,
with the reason. ``step`` applies one row. Which of two nodes outranks the other is decided before, by
``gimli.pair.election``: the machine is told.

    INIT --Enabled--> BACKUP --MasterDownExpired, PeerYields, PeerBowedOut--> MASTER
      ^                 | ^                                                     | |
      |                 | +-- PeerOutranks, Outranked, LeaderLeft, LeaseLapsed -+ |
      +-----------------+------------------- StopWanted, Disabled ----------------+

Addresses are taken on the way to MASTER only, and dropped by every row that leaves it.

A vhid has one dead time for all the paths on which its peer is heard (OpenBSD has one per address family: it
takes over when either is silent).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gimli.clock import format_duration
from gimli.pair.carp_actions import (
    Announce,
    Arm,
    Disarm,
    DropAddresses,
    DropLease,
    SendAdvertisement,
    SendBowOut,
    SendBowOutOverSync,
    TakeAddresses,
    TakeLease,
    Tell,
    TellDeaf,
    Timer,
)
from gimli.pair.carp_events import (
    AdvertiseDue,
    AnnounceDue,
    DemotionChanged,
    Disabled,
    Enabled,
    LeaderLeft,
    LeaseLapsed,
    MasterDownExpired,
    Outranked,
    PeerBowedOut,
    PeerLives,
    PeerOutranks,
    PeerWorse,
    PeerYields,
    SendRecovered,
    StopWanted,
)
from gimli.pair.vhid import (
    Contest,
    Role,
    Vhid,
    advertise_interval_s,
    announce_again_s,
    master_down_interval_s,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from gimli.pair.carp_actions import Action
    from gimli.pair.carp_events import Event

    Effect = Callable[[Vhid, Any], tuple[Vhid, tuple[Action, ...]]]

CONTEST_ADVERTISEMENTS_MAX = 5
"""Advertisements of ours that a lower-ranked MASTER may outlast. It is to yield at the first: more are lost
packets, and this many a path that works in one direction only."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one event does in one role."""

    target: Role
    effect: Effect
    because: str = ""


def step(vhid: Vhid, event: Event) -> tuple[Vhid, tuple[Action, ...]]:
    """Apply one event. Pure: same arguments, same result."""
    row = TABLE[vhid.role][type(event)]
    return row.effect(replace(vhid, role=row.target), event)


def _nothing(vhid: Vhid, _: Event) -> tuple[Vhid, tuple[Action, ...]]:
    return vhid, ()


def _listen(vhid: Vhid, event: Enabled) -> tuple[Vhid, tuple[Action, ...]]:
    patience_s = event.patience_s or master_down_interval_s(vhid.advbase, vhid.advskew)
    return vhid, (
        Arm(Timer.MASTER_DOWN, patience_s),
        Tell(
            Role.BACKUP, f"enabled: takes over after {format_duration(patience_s)} without an advertisement"
        ),
    )


def _note_demotion(vhid: Vhid, event: DemotionChanged) -> tuple[Vhid, tuple[Action, ...]]:
    return replace(vhid, demotion=min(event.total, 255), demoted_because=event.because), ()


def _tell_demotion(vhid: Vhid, event: DemotionChanged) -> tuple[Vhid, tuple[Action, ...]]:
    before = vhid.demotion
    vhid, _ = _note_demotion(vhid, event)
    # At once, as OpenBSD's carp_ifgattr_ioctl() does: a fitter BACKUP takes over at the first one it hears.
    return _advertise(vhid) if event.at_once and vhid.demotion != before else (vhid, ())


def _wait_for(vhid: Vhid, event: PeerLives) -> tuple[Vhid, tuple[Action, ...]]:
    return replace(vhid, peer=event.peer), (Arm(Timer.MASTER_DOWN, event.patience_s),)


def _take_over_silent(vhid: Vhid, event: MasterDownExpired) -> tuple[Vhid, tuple[Action, ...]]:
    return _take_over(replace(vhid, peer=None), f"no advertisement for {format_duration(event.silent_s)}")


def _take_over_worse(vhid: Vhid, event: PeerYields) -> tuple[Vhid, tuple[Action, ...]]:
    return _take_over(replace(vhid, peer=event.peer), event.why)


def _take_over_left(vhid: Vhid, event: PeerBowedOut) -> tuple[Vhid, tuple[Action, ...]]:
    return _take_over(replace(vhid, peer=None), f"{event.peer.source} bowed out")


def _take_over(vhid: Vhid, why: str) -> tuple[Vhid, tuple[Action, ...]]:
    # The advertisement comes before the addresses: whom it outranks lets go while we take. Without the lease
    # it would not get out.
    vhid, advertise = _advertise(vhid)
    return replace(vhid, announcing=True), (
        Disarm(Timer.MASTER_DOWN),
        TakeLease(),
        *advertise,
        TakeAddresses(),
        Announce(),
        Arm(Timer.ANNOUNCE, announce_again_s(vhid.advbase, vhid.advskew)),
        Tell(Role.MASTER, f"took over: {why}"),
    )


def _advertise_due(vhid: Vhid, _: Event) -> tuple[Vhid, tuple[Action, ...]]:
    return _advertise(vhid)


def _advertise(vhid: Vhid) -> tuple[Vhid, tuple[Action, ...]]:
    contest = vhid.contest
    if contest is not None:
        contest = replace(contest, sent=contest.sent + 1, quiet=contest.quiet + 1)
        if _is_over(vhid, contest):
            vhid = replace(vhid, peer=None)
            contest = None
    return replace(vhid, contest=contest), (
        SendAdvertisement(vhid.advbase, vhid.advskew, vhid.demotion),
        Arm(Timer.ADVERTISE, advertise_interval_s(vhid.advbase, vhid.advskew)),
    )


def _is_over(vhid: Vhid, contest: Contest) -> bool:
    """Whether the other MASTER has missed three advertisements of its own."""
    assert vhid.peer is not None
    theirs_s = advertise_interval_s(vhid.peer.advbase, vhid.peer.advskew)
    # The first of ours may have gone out right after its last one.
    silent_s = (contest.quiet - 1) * advertise_interval_s(vhid.advbase, vhid.advskew)
    return silent_s > 3 * theirs_s


def _announce_again(vhid: Vhid, _: Event) -> tuple[Vhid, tuple[Action, ...]]:
    return replace(vhid, announcing=False), (Announce(),)


def _send_again(vhid: Vhid, _: Event) -> tuple[Vhid, tuple[Action, ...]]:
    """What was lost meanwhile was lost for hosts and switches too."""
    vhid, advertise = _advertise(vhid)
    again_s = announce_again_s(vhid.advbase, vhid.advskew)
    return replace(vhid, announcing=True), (*advertise, Announce(), Arm(Timer.ANNOUNCE, again_s))


def _stand(vhid: Vhid, event: PeerWorse) -> tuple[Vhid, tuple[Action, ...]]:
    """Show a lower-ranked MASTER that we are there, and the link where the addresses belong.

    At once, so that there are not two for as long as our interval; then not more often than announcements are
    repeated, so that nobody makes us send a frame for each of his own.
    """
    is_new = vhid.contest is None
    contest = replace(vhid.contest or Contest(), quiet=0)
    actions: tuple[Action, ...] = ()
    if contest.sent >= CONTEST_ADVERTISEMENTS_MAX and not contest.told:
        contest = replace(contest, told=True)
        why = f"MASTER after {contest.sent} advertisements of ours, though {event.why}: it does not hear us"
        actions = (TellDeaf(event.peer, why),)
    vhid = replace(vhid, peer=event.peer, contest=contest)
    if vhid.announcing and not is_new:
        return vhid, actions
    vhid, sent = _send_again(vhid, event)
    return vhid, (*sent, *actions)


def _yield_outranked(vhid: Vhid, event: PeerOutranks) -> tuple[Vhid, tuple[Action, ...]]:
    vhid, actions = _yield(replace(vhid, peer=event.peer), event.why, event.patience_s)
    # It may have yielded to our epoch at the same moment (Outranked): then it is to be MASTER again at once.
    return vhid, (*actions, SendBowOutOverSync())


def _yield_owner(vhid: Vhid, event: Outranked) -> tuple[Vhid, tuple[Action, ...]]:
    because = f"; ours was a demotion of {vhid.demotion}, because {vhid.demoted_because}"
    why = (
        f"the peer has owned the connections since, in epoch {event.epoch}{because if vhid.demotion else ''}"
    )
    return _yield(vhid, why, master_down_interval_s(vhid.advbase, vhid.advskew))


def _yield_lapsed(vhid: Vhid, event: LeaseLapsed) -> tuple[Vhid, tuple[Action, ...]]:
    why = f"stood still for {format_duration(event.silent_s)}, and the lease in the kernel lapsed"
    vhid, actions = _yield(vhid, why, master_down_interval_s(vhid.advbase, vhid.advskew))
    # Whoever has not taken over yet need not wait any longer; whoever has is not moved by it.
    return vhid, (*actions, SendBowOutOverSync())


def _yield_with_leader(vhid: Vhid, event: LeaderLeft) -> tuple[Vhid, tuple[Action, ...]]:
    why = f"vhid {event.leader} has left, and the connections with it"
    vhid, actions = _yield(vhid, why, master_down_interval_s(vhid.advbase, vhid.advskew))
    return vhid, (*actions, SendBowOutOverSync())


def _yield(vhid: Vhid, why: str, patience_s: float) -> tuple[Vhid, tuple[Action, ...]]:
    return _forget(vhid), (
        DropLease(),  # at once: the other one has the addresses already
        DropAddresses(),
        Disarm(Timer.ADVERTISE),
        Disarm(Timer.ANNOUNCE),
        Arm(Timer.MASTER_DOWN, patience_s),
        Tell(Role.BACKUP, f"yielded: {why}"),
    )


def _disable(vhid: Vhid, event: Disabled) -> tuple[Vhid, tuple[Action, ...]]:
    return _leave_backup(vhid, f"disabled: {event.why}")


def _stop(vhid: Vhid, event: StopWanted) -> tuple[Vhid, tuple[Action, ...]]:
    return _leave_backup(vhid, f"stopped: {event.because}")


def _leave_backup(vhid: Vhid, why: str) -> tuple[Vhid, tuple[Action, ...]]:
    return replace(vhid, peer=None), (Disarm(Timer.MASTER_DOWN), Tell(Role.INIT, why))


def _disable_master(vhid: Vhid, event: Disabled) -> tuple[Vhid, tuple[Action, ...]]:
    return _leave_master(vhid, f"disabled: {event.why}")


def _stop_master(vhid: Vhid, event: StopWanted) -> tuple[Vhid, tuple[Action, ...]]:
    return _leave_master(vhid, f"stopped: {event.because}")


def _leave_master(vhid: Vhid, why: str) -> tuple[Vhid, tuple[Action, ...]]:
    # First ours are gone, then the peer is asked to take them. The link may be down: another path may not.
    return replace(_forget(vhid), peer=None), (
        DropAddresses(),
        Disarm(Timer.ADVERTISE),
        Disarm(Timer.ANNOUNCE),
        SendBowOut(),
        DropLease(),
        Tell(Role.INIT, why),
    )


def _forget(vhid: Vhid) -> Vhid:
    """What only a MASTER has."""
    return replace(vhid, announcing=False, contest=None)


def _ignored(role: Role, *events: type, because: str) -> dict[type, Row]:
    """Rows for events that change nothing in ``role``, and why."""
    return {event: Row(role, _nothing, because) for event in events}


_HEARD = (PeerOutranks, PeerWorse, PeerLives, PeerYields, PeerBowedOut)
_MASTERS = (AdvertiseDue, AnnounceDue, LeaseLapsed, Outranked, LeaderLeft, SendRecovered)

TABLE: Mapping[Role, Mapping[type, Row]] = {
    Role.INIT: {
        Enabled: Row(Role.BACKUP, _listen),
        DemotionChanged: Row(Role.INIT, _note_demotion),
        **_ignored(Role.INIT, Disabled, StopWanted, because="it takes no part already"),
        **_ignored(Role.INIT, *_HEARD, because="it takes no part"),
        **_ignored(Role.INIT, MasterDownExpired, *_MASTERS, because="disarmed; a late one means nothing"),
    },
    Role.BACKUP: {
        Disabled: Row(Role.INIT, _disable),
        StopWanted: Row(Role.INIT, _stop),
        MasterDownExpired: Row(Role.MASTER, _take_over_silent),
        PeerYields: Row(Role.MASTER, _take_over_worse),
        PeerBowedOut: Row(Role.MASTER, _take_over_left),
        PeerLives: Row(Role.BACKUP, _wait_for),
        DemotionChanged: Row(Role.BACKUP, _note_demotion, "the MASTER's next advertisement is judged by it"),
        **_ignored(Role.BACKUP, Enabled, because="it is enabled"),
        **_ignored(
            Role.BACKUP, PeerOutranks, PeerWorse, because="judged as MASTER; the next one is judged as BACKUP"
        ),
        **_ignored(Role.BACKUP, *_MASTERS, because="a MASTER's; it has nothing to give up or to send"),
    },
    Role.MASTER: {
        Disabled: Row(Role.INIT, _disable_master),
        StopWanted: Row(Role.INIT, _stop_master),
        AdvertiseDue: Row(Role.MASTER, _advertise_due),
        AnnounceDue: Row(Role.MASTER, _announce_again),
        SendRecovered: Row(Role.MASTER, _send_again),
        PeerOutranks: Row(Role.BACKUP, _yield_outranked),
        PeerWorse: Row(Role.MASTER, _stand),
        Outranked: Row(Role.BACKUP, _yield_owner),
        LeaderLeft: Row(Role.BACKUP, _yield_with_leader),
        LeaseLapsed: Row(Role.BACKUP, _yield_lapsed),
        DemotionChanged: Row(Role.MASTER, _tell_demotion),
        **_ignored(Role.MASTER, Enabled, because="it is enabled"),
        **_ignored(Role.MASTER, MasterDownExpired, because="disarmed; a late one means nothing"),
        **_ignored(Role.MASTER, PeerYields, because="judged as BACKUP; the next one is judged as MASTER"),
        **_ignored(
            Role.MASTER, PeerLives, because="an equal; the address that ranks the two is not this one's"
        ),
        **_ignored(Role.MASTER, PeerBowedOut, because="it goes, and we stay"),
    },
}
