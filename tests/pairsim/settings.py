"""What were the two hosts told? Drawn by chance, and such that ``gimli pair check`` would take it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING

from gimli.pair.config import Carp, Guard, Mac, Mode, Pair, Sync, Track
from gimli.pair.guard import lease_length_s
from gimli.pair.vhid import advertise_interval_s, master_down_interval_s
from pairsim.machine import LAN, SYNC

if TYPE_CHECKING:
    from random import Random

    from gimli.pair.packet import Address


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one story.

    Args:
        pairs: what each of the two hosts was told.
        rates: how fast their clocks run.
        hz: jiffies in a second, of each.
        delays_s: of the LAN and of the sync link.
        traffic_pause: between two times at which clients do something, in dead times; 0: they do nothing.
        events_size: how many events a socket holds before the kernel drops some.
    """

    pairs: tuple[Pair, Pair]
    rates: tuple[float, float]
    hz: tuple[int, int]
    delays_s: tuple[float, float]
    traffic_pause: float
    events_size: int

    def sources(self, number: int) -> tuple[Address, ...]:
        """Own addresses of a host's LAN interface."""
        return (ip_address(f"192.0.2.{number}"), ip_address(f"fe80::{number}"))

    @property
    def dead_s(self) -> float:
        """The longest silence after which somebody takes over, by the slowest clock."""
        carps = [carp for pair in self.pairs for carp in pair.carp]
        longest_s = max(
            max(
                master_down_interval_s(carp.advbase_s, carp.advskew),
                3 * advertise_interval_s(carp.advbase_s, carp.advskew) + carp.advskew / 256,
            )
            for carp in carps
        )
        return longest_s / min(self.rates)

    @property
    def is_safe(self) -> bool:
        """Whether each host's lease ends before the other's patience: not in the fast mode with two skews."""
        (one, other), slack = self.pairs, max(self.rates) / min(self.rates) * 1.05
        return all(
            lease_length_s(mine.advbase_s, mine.advskew) * slack
            < master_down_interval_s(theirs.advbase_s, theirs.advskew)
            for first, second in ((one, other), (other, one))
            for mine, theirs in zip(first.carp, second.carp, strict=True)
        )


def draw(chance: Random) -> Settings:
    """Settings of a story."""
    advbase_s = chance.choice((0, 1, 1, 1, 1, 2))
    skews = _skews(chance, advbase_s)
    preempts = chance.choice(((True, True), (True, True), (False, False), (True, False), (False, True)))
    mac = chance.choice((Mac.VIRTUAL, Mac.VIRTUAL, Mac.REAL))
    addresses = [("192.0.2.100/24",), ("192.0.2.101/24", "2001:db8::101/64"), ("2001:db8::100/64",)]
    chance.shuffle(addresses)
    count = chance.choice((1, 1, 2))
    strict_replay = chance.random() < 0.25
    mode = chance.choice((None, Mode.CACHE, Mode.CACHE, Mode.KERNEL, Mode.KERNEL))
    pairs = []
    for index in range(2):
        carps = tuple(
            Carp(
                vhid,
                LAN,
                tuple(ip_interface(text) for text in addresses[vhid - 1]),
                b"correct horse",
                advbase_s,
                skews[index if vhid == 1 else 1 - index],  # each is to have one of two
                preempt=preempts[index],
                mac=mac,
                strict_replay=strict_replay,
            )
            for vhid in range(1, count + 1)
        )
        sync = (
            Sync(SYNC, ip_address(f"198.51.100.{2 - index}"), b"battery staple", mode=mode) if mode else None
        )
        pairs.append(Pair(carps, Guard((LAN,)), sync, Track(("web",))))
    rates = [1.0, 1.0]
    if chance.random() < 0.5:
        rates[chance.randrange(2)] += chance.uniform(0.001, 0.05)
    return Settings(
        (pairs[0], pairs[1]),
        (rates[0], rates[1]),
        (chance.choice((100, 250, 1000)), chance.choice((100, 250, 1000))),
        (chance.uniform(0.00005, 0.001), chance.uniform(0.00005, 0.001)),
        chance.choice((0.0, 0.5, 1.5)) if mode else 0.0,
        chance.choice((20, 1000, 1000)),
    )


def _skews(chance: Random, advbase_s: int) -> tuple[int, int]:
    if advbase_s == 0:
        first = chance.choice((4, 10, 26, 64))
        return (first, first) if chance.random() < 0.7 else (first, min(first + 20, 80))
    first, second = chance.sample((0, 10, 50, 100, 200, 254), 2)
    return (first, first) if chance.random() < 0.35 else (first, second)
