"""Machines of one vhid on a virtual link and virtual time.

Carries their actions out as a node does, without a kernel: advertisements reach the others after the link's
latency, addresses are a flag, timers a heap. Everything is told with its time.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from gimli.pair import carp, carp_actions, carp_events
from gimli.pair.carp_actions import Timer
from gimli.pair.election import judge_advertisement
from gimli.pair.packet import BOW_OUT, GROUP4, Advertisement, Heard
from gimli.pair.vhid import Role, Vhid

if TYPE_CHECKING:
    from collections.abc import Callable

LATENCY_S = 0.0002


@dataclass
class Node:
    """One machine, and what its kernel would hold."""

    name: str
    vhid: Vhid
    has_addresses: bool = False
    has_lease: bool = False
    armed: dict[Timer, tuple[float, float]] = field(default_factory=dict)
    """When each timer was armed, and when it runs out."""
    announced: int = 0


class VirtualLink:
    """Every node hears every other one, unless the path is cut."""

    def __init__(self, *vhids: Vhid) -> None:
        self.now_s = 0.0
        self.nodes = [Node("abc"[i], vhid) for i, vhid in enumerate(vhids)]
        self.cuts: set[tuple[str, str]] = set()
        self.told: list[tuple[float, str, str]] = []
        self.masters_s = 0.0
        """For how long there was more than one MASTER."""
        self.changed_s = 0.0
        """When a role changed last."""
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    def node(self, name: str) -> Node:
        """A node by its name."""
        return next(node for node in self.nodes if node.name == name)

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        """Let something happen."""
        self._sequence += 1
        heapq.heappush(self._queue, (when_s, self._sequence, what))

    def give(self, node: Node, event: carp_events.Event) -> None:
        """Let an event happen to a node, now."""
        before = node.vhid.role
        node.vhid, actions = carp.step(node.vhid, event)
        if node.vhid.role is not before:
            self.changed_s = self.now_s
        for action in actions:
            self._carry_out(node, action)
        assert node.has_addresses == node.has_lease == (node.vhid.role is Role.MASTER)

    def run_until(self, until_s: float) -> None:
        """Let everything happen that is due until then."""
        while self._queue and self._queue[0][0] <= until_s:
            when_s, _, what = heapq.heappop(self._queue)
            self._pass(when_s)
            what()
        self._pass(until_s)

    def masters(self) -> list[str]:
        """Who is MASTER."""
        return [node.name for node in self.nodes if node.vhid.role is Role.MASTER]

    def _pass(self, until_s: float) -> None:
        if len(self.masters()) > 1:
            self.masters_s += until_s - self.now_s
        self.now_s = until_s

    def _carry_out(self, node: Node, action: carp_actions.Action) -> None:
        match action:
            case carp_actions.TakeLease():
                node.has_lease = True
            case carp_actions.DropLease():
                node.has_lease = False
            case carp_actions.SendAdvertisement(advbase, advskew, demotion):
                assert node.has_lease, "behind the fence nothing gets out"
                self._send(node, Advertisement(node.vhid.vhid, advbase, advskew, demotion, 0, b""))
            case carp_actions.SendBowOut():
                self._send(node, Advertisement(node.vhid.vhid, BOW_OUT, BOW_OUT, BOW_OUT, 0, b""))
            case carp_actions.Arm(timer, after_s):
                armed = node.armed[timer] = (self.now_s, self.now_s + after_s)
                self.at(armed[1], lambda: self._run_out(node, timer, armed))
            case carp_actions.Disarm(timer):
                node.armed.pop(timer, None)
            case carp_actions.TakeAddresses():
                assert node.has_lease
                assert not node.has_addresses, "they are taken once"
                node.has_addresses = True
            case carp_actions.DropAddresses():
                node.has_addresses = False
            case carp_actions.Announce():
                assert node.has_addresses, "only what it has is announced"
                node.announced += 1
            case carp_actions.Tell(role, why):
                self.told.append((self.now_s, node.name, f"{role.value}: {why}"))
            case carp_actions.TellDeaf(peer, why):
                self.told.append((self.now_s, node.name, f"deaf {peer.source}: {why}"))

    def _run_out(self, node: Node, timer: Timer, armed: tuple[float, float]) -> None:
        if node.armed.get(timer) is not armed:
            return
        del node.armed[timer]
        events: dict[Timer, Any] = {
            Timer.MASTER_DOWN: carp_events.MasterDownExpired(self.now_s - armed[0]),
            Timer.ADVERTISE: carp_events.AdvertiseDue(),
            Timer.ANNOUNCE: carp_events.AnnounceDue(),
        }
        self.give(node, events[timer])

    def _send(self, sender: Node, advertisement: Advertisement) -> None:
        heard = Heard(sender.vhid.source, GROUP4, advertisement)
        for other in self.nodes:
            if other is not sender and (sender.name, other.name) not in self.cuts:
                self.at(self.now_s + LATENCY_S, lambda other=other: self._hear(other, heard))  # type: ignore[misc]  # a default binds it

    def _hear(self, node: Node, heard: Heard) -> None:
        self.give(node, judge_advertisement(node.vhid, heard))


def vhid(number: int = 1, *, advbase: int = 1, advskew: int = 0, preempt: bool = False, **more: Any) -> Vhid:
    """The vhid of node ``number``, whose address is 192.0.2.NUMBER."""
    return replace(Vhid(1, advbase, advskew, preempt, IPv4Address(f"192.0.2.{number}")), **more)
