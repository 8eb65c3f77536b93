"""Which virtual addresses does a firewall have? The machines of ``gimli.pair`` on virtual time.

The roles, the election and the timers are those of ``gimli pair``; here their actions are carried out on NICs
that do not exist. The lease, which is ours and not OpenBSD's, has nothing to do here.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import BROADCAST, CARP_GROUP_MAC, Arp, Carp, Frame
from gimli.pair import carp, carp_actions, carp_events
from gimli.pair.carp_actions import Timer
from gimli.pair.election import judge_advertisement
from gimli.pair.packet import BOW_OUT, GROUP4, Advertisement, Heard, virtual_mac
from gimli.pair.vhid import Role, Vhid

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network import topology
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.host import Nic


class Seat:
    """One vhid of one firewall.

    Args:
        engine: whose time it lives in.
        config: what it is.
        nic: where its addresses are.
        tell: called with each new role, and why.
    """

    def __init__(
        self, engine: Engine, config: topology.Carp, nic: Nic, tell: Callable[[Role, str], None]
    ) -> None:
        self._engine = engine
        self._tell = tell
        self._armed: dict[Timer, float] = {}
        self.nic = nic
        self.address = config.address
        self.mac = int.from_bytes(virtual_mac(config.vhid), "big")
        source = IPv4Address(nic.address)
        self.vhid = Vhid(config.vhid, config.advbase, config.advskew, config.preempt, source)

    @property
    def is_master(self) -> bool:
        """Whether it has the address."""
        return self.vhid.role is Role.MASTER

    def enable(self) -> None:
        """Take part."""
        self._give(carp_events.Enabled())

    def disable(self, why: str) -> None:
        """Take part no more, for now."""
        self._give(carp_events.Disabled(why))

    def demote(self, total: int, because: str) -> None:
        """Be that unfit."""
        self._give(carp_events.DemotionChanged(total, because))

    def hear(self, heard: Heard) -> None:
        """An advertisement came."""
        if heard.advertisement.vhid == self.vhid.vhid:
            self._give(judge_advertisement(self.vhid, heard))

    def _give(self, event: carp_events.Event) -> None:
        self.vhid, actions = carp.step(self.vhid, event)
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: carp_actions.Action) -> None:
        match action:
            case carp_actions.SendAdvertisement(advbase, advskew, demotion):
                self._send(Advertisement(self.vhid.vhid, advbase, advskew, demotion, 0, b""))
            case carp_actions.SendBowOut():
                self._send(Advertisement(self.vhid.vhid, BOW_OUT, BOW_OUT, BOW_OUT, 0, b""))
            case carp_actions.Arm(timer, after_s):
                due_s = self._armed[timer] = self._engine.now_s + after_s
                self._engine.at(due_s, self._expire, (timer, due_s, self._engine.now_s))
            case carp_actions.Disarm(timer):
                self._armed.pop(timer, None)
            case carp_actions.TakeAddresses():
                self.nic.accepts.add(self.mac)
            case carp_actions.DropAddresses():
                self.nic.accepts.discard(self.mac)
            case carp_actions.Announce():
                unasked = Arp(self.address, self.mac, self.address, is_request=True)
                self.nic.lane.send(Frame(BROADCAST, self.mac, unasked))
            case carp_actions.Tell(role, why):
                self._tell(role, why)
            case carp_actions.TellDeaf(_, why):
                self._tell(self.vhid.role, why)
            case carp_actions.TakeLease() | carp_actions.DropLease():
                pass

    def _send(self, advertisement: Advertisement) -> None:
        heard = Heard(self.vhid.source, GROUP4, advertisement)
        self.nic.lane.send(Frame(CARP_GROUP_MAC, self.mac, Carp(heard)))

    def _expire(self, expired: tuple[Timer, float, float]) -> None:
        timer, due_s, armed_s = expired
        if self._armed.get(timer) != due_s:
            return
        del self._armed[timer]
        match timer:
            case Timer.MASTER_DOWN:
                self._give(carp_events.MasterDownExpired(due_s - armed_s))
            case Timer.ADVERTISE:
                self._give(carp_events.AdvertiseDue())
            case Timer.ANNOUNCE:
                self._give(carp_events.AnnounceDue())
