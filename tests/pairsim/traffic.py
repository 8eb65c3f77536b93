"""Which connections begin, change and end at whoever answers for the leading address?"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from gimli.pair import ctmessage
from gimli.pair.netlink import attribute, nest

if TYPE_CHECKING:
    from pairsim.conntrack import Attributes, Conntrack
    from pairsim.machine import Machine
    from pairsim.world import World

_CLIENT = bytes((203, 0, 113, 5))
_SERVER = bytes((198, 51, 100, 80))
_CLIENTS = 60
_TCP = 6


class Traffic:
    """Clients of the pair.

    Args:
        world: whose chance decides.
        machines: the two hosts.
        vhid: the leading one, whose address they use.
        pause_s: between two deeds, on the average; 0: there are none.
    """

    def __init__(self, world: World, machines: tuple[Machine, ...], vhid: int, pause_s: float) -> None:
        self._world = world
        self._machines = machines
        self._vhid = vhid
        self._version = 0
        self.pause_s = pause_s
        if pause_s:
            self._go_on()

    def _go_on(self) -> None:
        if not self.pause_s:
            return
        for number in range(self._world.chance.choice((1, 3, 8))):
            # A little more apart than the owner waits for company: datagrams follow each other.
            self._world.after(number * 0.004, "traffic", self.happen)
        delay_s = self._world.chance.expovariate(1 / self.pause_s)
        self._world.after(delay_s, "traffic", self._go_on)

    def happen(self) -> None:
        """One thing, at a host that answers."""
        answering = [machine for machine in self._machines if machine.answers(self._vhid)]
        if not answering:
            return
        chance = self._world.chance
        conntrack = (chance.choice(answering) if len(answering) > 1 else answering[0]).conntrack
        original, reply = tuples(chance.randrange(_CLIENTS))
        self._version += 1
        conntrack.touched.add(original)
        if original not in conntrack.table:
            conntrack.begin(_first(original, reply, self._version))
            return
        self._change(conntrack, original, chance.random())

    def _change(self, conntrack: Conntrack, key: bytes, draw: float) -> None:
        if draw < 0.3:
            conntrack.end(key)
        elif draw < 0.5:
            conntrack.end(key)
            conntrack.begin(_first(key, tuples_reply(key), self._version))
        elif draw < 0.75:
            conntrack.change(key, {ctmessage.MARK: _number(ctmessage.MARK, self._version)})
        else:
            state = nest(ctmessage.PROTOINFO, nest(1, attribute(1, bytes((self._version % 9,)))))
            conntrack.change(key, {ctmessage.PROTOINFO: state})


@functools.cache
def tuples(client: int) -> tuple[bytes, bytes]:
    """The original and the reply tuple of a client's connection."""
    port = (40_000 + client).to_bytes(2, "big")
    return _tuple(ctmessage.TUPLE_ORIG, _CLIENT, _SERVER, port, b"\1\xbb"), _tuple(
        ctmessage.TUPLE_REPLY, _SERVER, _CLIENT, b"\1\xbb", port
    )


@functools.cache
def tuples_reply(original: bytes) -> bytes:
    """The reply tuple that belongs to an original one."""
    return next(reply for found, reply in map(tuples, range(_CLIENTS)) if found == original)


def _tuple(kind: int, source: bytes, destination: bytes, from_port: bytes, to_port: bytes) -> bytes:
    ip = nest(1, attribute(1, source), attribute(2, destination))
    return nest(
        kind, ip, nest(2, attribute(1, bytes((_TCP,))), attribute(2, from_port), attribute(3, to_port))
    )


def _first(original: bytes, reply: bytes, version: int) -> Attributes:
    return {
        ctmessage.TUPLE_ORIG: original,
        ctmessage.TUPLE_REPLY: reply,
        ctmessage.STATUS: _number(ctmessage.STATUS, 0x0E),
        ctmessage.TIMEOUT: _number(ctmessage.TIMEOUT, 432_000),
        ctmessage.MARK: _number(ctmessage.MARK, version),
        ctmessage.PROTOINFO: nest(ctmessage.PROTOINFO, nest(1, attribute(1, b"\3"))),
    }


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(4, "big"))


def content(entry: Attributes) -> dict[int, bytes]:
    """What two kernels must agree on: not the time that is left."""
    return {kind: value for kind, value in entry.items() if kind != ctmessage.TIMEOUT}
