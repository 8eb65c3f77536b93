"""How late is a hang noticed, after its deadline has passed?

A program that beats a pulse of 200 ms stops doing so, and says when it did last. The deadline is that time
and 200 ms; the hang is noticed when the monitor writes it into its journal.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from crashes import Victim
from figures import Figure
from workbench import Effort, Up, Workbench, service_table

if TYPE_CHECKING:
    from collections.abc import Iterator

BUDGET_MS = 10
_SILENCE_ALLOWED_NS = 200_000_000  # SILENCE_ALLOWED_MS of programs/victim.c


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """A service per hang, one after the other, each after the analysis of the last."""
    command = [bench.compiled("victim"), "hang"]
    victims = {f"victim-{n}": Victim(bench.place("victim"), command) for n in range(effort.runs(15))}
    tables = {name: service_table(victim.command, 'watchdog_stop = "1s"') for name, victim in victims.items()}
    with Up(bench.place("up"), tables) as up:
        late_ms = tuple(_hang(up, name, victim) for name, victim in victims.items())
    yield Figure("hang noticed after its deadline", "ms", late_ms, BUDGET_MS)


def _hang(up: Up, name: str, victim: Victim) -> float:
    victim.wait_for("main", 1)
    time.sleep(0.1)
    victim.tell()
    deadline_ns = victim.wait_for("hang", 1)[-1] + _SILENCE_ALLOWED_NS
    noticed = up.wait_for_event(name, "hang")
    up.wait_for_event(name, "analysed", "analysis-failed", "snapshot-failed")
    return (int(noticed["monotonic_ns"]) - deadline_ns) / 1e6
