"""What must hold, whatever happens?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gimli.pair import ctmessage, netlink
from gimli.pair.carp_actions import Timer
from gimli.pair.config import Mode
from gimli.pair.syncreceiver import DOUBT_S
from gimli.pair.vhid import Role, interval_256ths, master_down_interval_s
from pairsim.conntrack import packed
from pairsim.machine import LAN, SYNC
from pairsim.traffic import content
from pairsim.watched import attributes_of
from simulation.world import SECOND_NS, Violated

if TYPE_CHECKING:
    from pairsim.daemon import Daemon
    from pairsim.machine import Machine
    from pairsim.settings import Settings
    from pairsim.story import Story

_LET_GO_S = 1.3
"""What could not be let go of is tried again after a second."""
_MEETING_S = 2.5
"""Over the sync link, peers have to introduce themselves first."""
_FOR_EVER_NS = 1 << 62
_ARMED = {Role.INIT: set(), Role.BACKUP: {Timer.MASTER_DOWN}, Role.MASTER: {Timer.ADVERTISE}}


@dataclass(slots=True)
class Stretch:
    """A time in which a host answers for an address."""

    since_ns: int
    until_ns: int


@dataclass(slots=True)
class _Known:
    """What a process was seen to be when it last slept."""

    roles: dict[int, Role] = field(default_factory=dict)
    journal: int = 0


class Invariants:
    """What is looked at while a story goes on, and at its end.

    Args:
        story: that is told.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self._world = story.world
        self._settings: Settings = story.settings
        self._stretches: dict[tuple[str, int], Stretch] = {}
        self._known: dict[str, _Known] = {}
        self._unsound_ns = {LAN: 0, SYNC: 0}
        self._forbidden: dict[tuple[str, int], str] = {}
        """Why a takeover that has begun may not be one by silence."""

    # Two hosts.

    def answers_changed(self, machine: Machine, vhid: int) -> None:
        """A lease or an address has changed on a host."""
        now_ns = self._world.now_ns
        key = machine.name, vhid
        stretch = self._stretches.get(key)
        if not machine.answers(vhid):
            self._stretches.pop(key, None)
            return
        until_ns = machine.held_until_ns(vhid) or _FOR_EVER_NS
        is_new = stretch is None or now_ns >= stretch.until_ns
        if stretch is None or is_new:
            stretch = self._stretches[key] = Stretch(now_ns, until_ns)
        stretch.until_ns = until_ns
        other = self._story.other(machine)
        if (beside := self._stretches.get((other.name, vhid))) and now_ns < beside.until_ns:
            if not other.answers(vhid):
                del self._stretches[other.name, vhid]
            elif is_new:
                self._two_begin(machine, vhid, beside)
            else:
                self._two_go_on(vhid, max(stretch.since_ns, beside.since_ns))

    def _two_begin(self, machine: Machine, vhid: int, beside: Stretch) -> None:
        """A takeover by silence comes after the other's time, when nothing is worse than standing still."""
        other = self._story.other(machine)
        self._world.say(f"two answer for {vhid}: {machine.name} beside {other.name}")
        process = machine.process
        if process is None or not (self._story.is_strict and self._settings.is_safe):
            return
        vhid_now = process.node.vhid(vhid)
        silent_s = master_down_interval_s(vhid_now.advbase, vhid_now.advskew) / machine.rate
        held_s = (self._world.now_ns - beside.since_ns) / SECOND_NS
        if self._known[machine.name].roles[vhid] is Role.MASTER:
            # It stood still, and was preempted meanwhile: it may answer for the time that it has advertised.
            is_late = not process.host.presences[vhid].tenure.has_time
        else:
            is_late = held_s >= silent_s
        if is_late:
            self._forbidden[machine.name, vhid] = (
                f"{machine.name} answers for vhid {vhid}, and {other.name}, which has for "
                f"{held_s:.3f} s, still does, for {(beside.until_ns - self._world.now_ns) / 1e9:.3f} s"
            )

    def _two_go_on(self, vhid: int, since_ns: int) -> None:
        """Not for longer than the dead time, when they can hear each other."""
        self.links_change()
        now_ns, dead_s = self._world.now_ns, self._settings.dead_s * 1.05 + 0.05
        apart_s = {
            LAN: (now_ns - max(since_ns, self._unsound_ns[LAN])) / SECOND_NS - dead_s,
            SYNC: (now_ns - max(since_ns, self._unsound_ns[SYNC])) / SECOND_NS - dead_s - _MEETING_S,
        }
        if not self._story.has_sync:
            del apart_s[SYNC]
        for path, over_s in apart_s.items():
            if over_s > 0:
                raise Violated(
                    f"two answer for vhid {vhid}, {over_s:.3f} s longer than the dead time in which they "
                    f"could hear each other by {path}"
                )

    def _look_at_links(self) -> None:
        story = self._story
        if story.weather.sending or not all(machine.is_guard_whole for machine in story.machines):
            self._unsound_ns[LAN] = self._world.now_ns
        if not all(machine.is_guard_whole for machine in story.machines):
            self._unsound_ns[SYNC] = self._world.now_ns

    def links_change(self) -> None:
        """To be called before and after something of a link changes."""
        for name, link in self._story.links.items():
            if not link.is_sound:
                self._unsound_ns[name] = self._world.now_ns
        self._look_at_links()

    # One process, whenever it sleeps.

    def settled(self, process: Daemon) -> None:
        """It has nothing to do at the moment."""
        if process.is_ending:
            return
        known = self._known.get(process.machine.name)
        if known is None:
            return
        for carp in process.pair.carp:
            self._role_fits(process, carp.vhid)
            self._role_is_told(process, carp.vhid, known)
        known.journal = len(process.machine.journal)
        sync = process.sync
        if sync and sync.is_owner != (process.node.leader.role is Role.MASTER):
            raise Violated(
                f"{process.machine.name} is {process.node.leader.role.value}, and owner: {sync.is_owner}"
            )
        if sync and sync.owed and sync.is_owner and sync.next_due_s() > 0:
            self._owed_is_there(process)
        if process.calls % 16 == 0:
            self._nothing_grows(process)

    def began(self, process: Daemon) -> None:
        """A process starts."""
        roles = {carp.vhid: Role.INIT for carp in process.pair.carp}
        self._known[process.machine.name] = _Known(roles, len(process.machine.journal))

    def _role_fits(self, process: Daemon, vhid: int) -> None:
        if process.is_behind:
            return
        machine, role = process.machine, process.node.vhid(vhid).role
        timers = process.runtime._timers
        now_ns = process.loop.now_ns()
        armed = {
            timer
            for (number, timer), deadline in timers.items()
            if number == vhid
            and timer is not Timer.ANNOUNCE
            and deadline.callback
            and deadline.at_ns >= now_ns
        }
        if armed != _ARMED[role]:
            raise Violated(f"{machine.name} is {role.value} of vhid {vhid}, and waits for {armed}")
        has_address = vhid in machine.addresses
        if role is Role.MASTER:
            is_waiting = process.sync is not None and process.sync.is_taking_over
            if not has_address and not is_waiting:
                raise Violated(f"{machine.name} is MASTER of vhid {vhid} without its address")
            return
        holds = machine.holds(f"lease_{vhid}")
        if (holds or has_address) and not self._is_being_let_go(process):
            what = "lease" if holds else "address"
            raise Violated(f"{machine.name} is {role.value} of vhid {vhid}, and has its {what}")

    def _is_being_let_go(self, process: Daemon) -> bool:
        for at_ns, event, _ in reversed(process.machine.journal):
            if at_ns < self._world.now_ns - (_LET_GO_S + process.late_s) * SECOND_NS:
                return False
            if event == "not-let-go":
                return True
        return False

    def _role_is_told(self, process: Daemon, vhid: int, known: _Known) -> None:
        role, name = process.node.vhid(vhid).role, process.machine.name
        wrong = self._forbidden.pop((name, vhid), "")
        if role is known.roles[vhid] and not wrong:
            return
        told = [
            details
            for _, event, details in process.machine.journal[known.journal :]
            if event == "role" and details["vhid"] == vhid
        ]
        if wrong and role is Role.MASTER and not told:
            raise Violated(f"{wrong}: it has not taken over")
        if wrong and role is Role.MASTER and told[-1]["why"].startswith("took over: no advertisement"):
            raise Violated(f"{wrong}: it has taken over after a silence")
        is_right = told and told[-1]["role"] == role.value and all(details["why"] for details in told)
        if role is not known.roles[vhid] and not is_right:
            raise Violated(f"{name} becomes {role.value} of vhid {vhid}, and tells {told}")
        known.roles[vhid] = role

    def _owed_is_there(self, process: Daemon) -> None:
        sync, conntrack = process.sync, process.machine.conntrack
        assert sync
        owed, sync.owed = sync.owed, {}
        for key, message in owed.items():
            if key in conntrack.touched:
                continue
            found = conntrack.table.get(key)
            if found is None or content(found) != attributes_of(message):
                told = attributes_of(message)
                raise Violated(f"{process.machine.name} took over with {told}, and its kernel has {found}")

    def _nothing_grows(self, process: Daemon) -> None:
        sizes = {"deadlines": (len(process.loop._deadlines), 400)}
        if process.sync:
            sizes |= {
                "early datagrams": (len(process.sync._receiver._early), 1024),
                "the window": (len(process.sync._sender._window), 256),
                "pending changes": (len(process.sync._sender._pending), 200),
                "leaving changes": (len(process.sync._sender._leaving), 200),
                "kinds of refusals": (len(process.sync.refused), 20),
            }
        for what, (size, most) in sizes.items():
            if size > most:
                raise Violated(f"{process.machine.name}: {what} grow to {size}, {most} were expected at most")

    # At the end.

    def differences(self) -> str:
        """What is not yet as it is to be once nothing goes wrong any more; empty when all is well."""
        daemons = [machine.process for machine in self._story.machines]
        one, other = daemons
        if one is None or other is None:
            return "a daemon does not run"
        for carp in one.pair.carp:
            if wrong := self._wrong_master(carp.vhid, one, other):
                return wrong
        return self._wrong_connections(one, other) if self._story.has_sync else ""

    def _wrong_master(self, vhid: int, one: Daemon, other: Daemon) -> str:
        masters = [each for each in (one, other) if each.node.vhid(vhid).role is Role.MASTER]
        if len(masters) != 1:
            return f"vhid {vhid} has {len(masters)} MASTERs"
        (master,) = masters
        backup = other if master is one else one
        if backup.node.vhid(vhid).role is not Role.BACKUP:
            return f"vhid {vhid} has no BACKUP"
        if not master.machine.answers(vhid) or backup.machine.answers(vhid):
            return f"vhid {vhid}: the MASTER does not answer, or the BACKUP does"
        better = self._better(vhid, one, other)
        if better and better is not master:
            return f"vhid {vhid}: {master.machine.name} is MASTER, and {better.machine.name} is better"
        return ""

    def _better(self, vhid: int, one: Daemon, other: Daemon) -> Daemon | None:
        """Who must be MASTER; None when it may be either."""
        demotions = one.node.ledger.total, other.node.ledger.total
        if demotions[0] != demotions[1]:
            return one if demotions[0] < demotions[1] else other
        vhids = one.node.vhid(vhid), other.node.vhid(vhid)
        intervals = [interval_256ths(each.advbase, each.advskew) for each in vhids]
        if intervals[0] == intervals[1]:
            return None
        better = 0 if intervals[0] < intervals[1] else 1
        return (one, other)[better] if vhids[better].preempt else None

    def _wrong_connections(self, one: Daemon, other: Daemon) -> str:
        assert one.sync
        assert other.sync
        owner, replica = (one, other) if one.sync.is_owner else (other, one)
        assert owner.sync
        assert replica.sync
        if not owner.sync.is_owner or replica.sync.is_owner:
            return "there is no owner, or there are two"
        if not replica.sync.is_synchronised:
            return "the replica is not synchronised"
        held = {key: attributes_of(message) for key, message in replica.sync.connections.items()}
        if held != _canonical(owner.machine):
            return "the replica holds something else than the owner has"
        if replica.sync.mode is Mode.KERNEL:
            there = {key: content(entry) for key, entry in replica.machine.conntrack.table.items()}
            if any(there.get(key) != wanted for key, wanted in held.items()):
                return "the replica's kernel has not what it holds"
            others = [entry for key, entry in replica.machine.conntrack.table.items() if key not in held]
            if any(int.from_bytes(entry[ctmessage.TIMEOUT][4:8], "big") > DOUBT_S for entry in others):
                return "the replica's kernel keeps what its owner does not have"
        return ""


def _canonical(machine: Machine) -> dict[bytes, dict[int, bytes]]:
    """A kernel's table, as it is told to a peer."""
    found = (
        ctmessage.canonical(packed(ctmessage.NEW, netlink.MULTI, entry))
        for entry in machine.conntrack.table.values()
    )
    return {key: attributes_of(message) for key, message in found}
