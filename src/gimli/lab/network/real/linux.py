"""What runs on a firewall with Linux? Only ``gimli pair``: the kernel itself tracks, passes and drops.

The kernel counts what it passes on, in any role. What a backup has passed on is what was added between two
looks, at both of which it was no MASTER: never too much, and too little by half a second at a takeover.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from typing import TYPE_CHECKING

from gimli.lab.network.real import station
from gimli.lab.network.real.elector import Elector
from gimli.lab.network.real.rules import FORWARDED, INVALID, TRACKED

if TYPE_CHECKING:
    from gimli.lab.network import topology as model

_LOOK_EVERY_S = 0.5


class LinuxFirewall:
    """One firewall.

    Args:
        elector: its part in the election.
    """

    def __init__(self, elector: Elector) -> None:
        self._elector = elector
        self._by_backup = 0
        self._forwarded = 0
        self._was_master = True

    def run(self) -> station.Findings:
        """Play until our input ends."""
        while True:
            ready, _, _ = select.select([sys.stdin.fileno(), *self._elector.watched()], [], [], _LOOK_EVERY_S)
            self._elector.look()
            counted = self._count()
            if sys.stdin.fileno() in ready:
                orders = station.orders()
                if not orders:
                    return self._findings(counted)
                for order in orders:
                    self._elector.obey(order)
                    station.say_done()

    def _count(self) -> dict[str, int]:
        counted = _counters()
        is_master = self._elector.is_master
        if not is_master and not self._was_master:
            self._by_backup += counted[FORWARDED] - self._forwarded
        self._forwarded, self._was_master = counted[FORWARDED], is_master
        return counted

    def _findings(self, counted: dict[str, int]) -> station.Findings:
        return station.Findings(
            counts={
                "copies": counted[TRACKED],
                "no_state": counted[INVALID],
                "forwarded": self._by_backup,
            },
            roles=self._elector.changes,
            events=counted[FORWARDED],
        )


def _counters() -> dict[str, int]:
    asked = ["nft", "-j", "list", "counters", "table", "ip", "lab"]
    told = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    counters = [each["counter"] for each in told["nftables"] if "counter" in each]
    return {each["name"]: int(each["packets"]) for each in counters}


def main(part: station.Part, config: model.Firewall) -> None:
    """Play a firewall."""
    elector = Elector(part.topology, config)
    try:
        station.wait_for_begin()
        station.give(LinuxFirewall(elector).run())
    finally:
        elector.close()
