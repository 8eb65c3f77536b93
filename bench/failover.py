"""How long is an address unanswered when its host dies, and what becomes of the connections through it?

Two hosts in network namespaces, a client, and one observer with the kernel's time stamps (tests/failover).
Ours and its peers stand side by side; their hosts die one after the other, and all of them are waited for.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pairs
from figures import Figure
from pairs import DEAD_S, Gimli, Restless
from workbench import Effort, Unmeasurable, Workbench

from gimli.lab.namespaces import NetworkRefused
from tests.failover import firewall, peers
from tests.failover.firewall import Nat
from tests.failover.flows import Flows
from tests.failover.site import SERVER, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pairs import Pair

    from tests.failover.flows import Fate
    from tests.failover.observer import Observation, Observer

ROUNDS = 20
TAKEOVER_BUDGET_MS = 50.0
"""Over the dead time that CARP itself demands."""
FAST_BUDGET_MS = 100.0
CONNECTIONS = 200
_EVERY_S = 0.01
_FAST_EVERY_S = 0.005
_SETTLE_S = 0.5
_APART_S = 0.4
"""Between two deaths: who takes over at the same moment waits for the others' turn with the kernel's one lock
for the network, for 0.2 s where there are four."""
_LOST_PATIENCE_S = 10.0
_TRIES = 5


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:  # noqa: ARG001 - every subject gets both
    """First how long it takes, then what it costs."""
    try:
        rounds = effort.runs(ROUNDS)
        yield from _takeovers("default timers", rounds, DEAD_S * 1000 + TAKEOVER_BUDGET_MS, fast=False)
        yield from _takeovers("fast mode", rounds, FAST_BUDGET_MS, fast=True)
        yield from _connections(effort)
    except NetworkRefused as error:
        raise Unmeasurable(str(error)) from error
    except AssertionError as error:
        raise Unmeasurable(f"something did not happen: {error}") from error


# ---- how long ------------------------------------------------------------------------------------------


class _Contest:
    """One pair, its observer, and who holds the address."""

    def __init__(self, pair: Pair, every_s: float) -> None:
        self.pair = pair
        self.master, self.other = pair.site.nodes
        pair.start(self.master)
        self.observer: Observer = pair.site.observe(every_s=every_s)
        self.observer.wait_until_answers(self.master.name)
        pair.start(self.other)
        pair.wait_until_backup(self.other)
        self.deaths: list[tuple[str, str, int]] = []

    def kill(self) -> None:
        """The one that answers dies."""
        self.deaths.append((self.master.name, self.other.name, self.pair.cut_off(self.master)))

    def change_over(self) -> None:
        """Wait for the other one, and bring the first back as its backup."""
        self.observer.wait_until_answers(self.other.name)
        self.pair.bring_back(self.master)
        self.master, self.other = self.other, self.master


def _takeovers(what: str, rounds: int, budget_ms: float, *, fast: bool) -> Iterator[Figure]:
    kinds = [kind for kind in pairs.ALL if not kind.program or peers.is_here(kind.program)]
    if fast:
        kinds = [kind for kind in kinds if kind is not pairs.Ucarp]  # it has whole seconds only
    taken: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with contextlib.ExitStack() as stack:
        contests = []
        for kind in kinds:
            pair = kind(stack.enter_context(Site()), fast=fast)
            stack.callback(pair.close)
            contests.append(_Contest(pair, _FAST_EVERY_S if fast else _EVERY_S))
        for _ in range(rounds):
            time.sleep(_SETTLE_S)
            for contest in contests:
                contest.kill()
                if fast:
                    contest.change_over()
                else:
                    time.sleep(_APART_S)
            for contest in [] if fast else contests:
                contest.change_over()
        for contest in contests:
            _account(contest, contest.observer.finish(), taken[contest.pair.name])
    absent = sorted({kind.program for kind in pairs.ALL if kind.program and not peers.is_here(kind.program)})
    note = f"not installed: {', '.join(absent)}" if absent else ""
    ours = taken.pop(Gimli.name)
    for measured, budget in (
        ("last advertisement to first answer", None if fast else budget_ms),
        ("death to first answer", budget_ms if fast else None),
        ("longest silence of the address", budget_ms if fast else None),
    ):
        others = {name: samples[measured] for name, samples in taken.items()}
        yield Figure(f"{what}: {measured}", "ms", ours[measured], budget, others, note=note)


def _account(contest: _Contest, seen: Observation, taken: dict[str, list[float]]) -> None:
    for died, other, at_ns in contest.deaths:
        answered_ns = seen.first_answer_ns(other, at_ns)
        last_ns = seen.last_advert_ns(died, at_ns)
        taken["last advertisement to first answer"].append((answered_ns - last_ns) / 1e6)
        taken["death to first answer"].append((answered_ns - at_ns) / 1e6)
        taken["longest silence of the address"].append(seen.silence_s(at_ns, answered_ns) * 1000)


# ---- what it costs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scenario:
    """A way to fail.

    Args:
        name: of it.
        fail: what is done to the MASTER's site, which is ``a``'s.
        mend: what is done to it when the other one has taken over, while connections go on.
        answerers: who is to answer, one after the other.
    """

    name: str
    fail: Callable[[Pair], None]
    mend: Callable[[Pair], None] = lambda _: None
    answerers: tuple[str, ...] = ("a", "b")


def _die(pair: Pair) -> None:
    pair.cut_off(pair.site.a)


def _kill_both(pair: Pair) -> None:
    for node in pair.site.nodes:
        node.send(signal.SIGKILL)  # both before either is waited for: a lease is 56 ms
    for node in pair.site.nodes:
        pair.kill(node)
    for node in pair.site.nodes:
        pair.start(node)


SCENARIOS = (
    Scenario("host dies", _die),
    Scenario("daemon killed", lambda pair: pair.kill(pair.site.a)),
    Scenario("cable pulled", lambda pair: pair.site.pull(pair.site.a)),
    Scenario(
        "daemon frozen, then thawed",
        lambda pair: pair.site.a.send(signal.SIGSTOP),
        lambda pair: pair.site.a.send(signal.SIGCONT),
    ),
    Scenario("both daemons killed, and back at once", _kill_both, answerers=("a",)),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one failure has cost."""

    fates: tuple[Fate, ...]
    silence_s: float
    answered_twice: int
    changed_back: bool

    @property
    def lost(self) -> int:
        """How many connections."""
        return sum(bool(fate.lost) for fate in self.fates)

    @property
    def gap_s(self) -> float:
        """The longest time in which nothing arrived on a connection that lived, less its own pace."""
        return max((fate.gap_s - fate.step_s for fate in self.fates if not fate.lost), default=0.0)


def _connections(effort: Effort) -> Iterator[Figure]:
    runs = 1 if effort is Effort.QUICK else 3
    ours: list[Outcome] = []
    for scenario in SCENARIOS:
        for nat in Nat:
            outcomes = [_fail(pairs.GimliFirewalls, scenario, nat) for _ in range(runs)]
            others = _peers_outcomes(scenario, nat, runs)
            ours += outcomes
            yield from _costs(f"{scenario.name}{', source NAT' if nat is Nat.SNAT else ''}", outcomes, others)
    twice = [outcome.answered_twice for outcome in ours]
    back = sum(outcome.changed_back for outcome in ours)
    note = f"in {back} of {len(ours)} runs a role changed back by itself as well" if back else ""
    yield Figure("questions that two hosts answered, all runs", "", twice, 0, note=note)
    bare = _fail(pairs.GimliFirewallsWithoutSync, SCENARIOS[0], Nat.NONE)
    yield Figure(f"{CONNECTIONS} connections, host dies, without state sync: lost", "", [bare.lost])


def _peers_outcomes(scenario: Scenario, nat: Nat, runs: int) -> dict[str, list[Outcome]]:
    """The peers' where a host dies; a daemon of theirs that is killed leaves the address behind."""
    kind = pairs.KeepalivedFirewalls
    if scenario is not SCENARIOS[0] or not all(map(peers.is_here, (kind.program, "conntrackd"))):
        return {}
    return {kind.name: [_fail(kind, scenario, nat) for _ in range(runs)]}


def _costs(what: str, outcomes: list[Outcome], others: dict[str, list[Outcome]]) -> Iterator[Figure]:
    what = f"{CONNECTIONS} connections, {what}"
    yield Figure(
        f"{what}: lost",
        "",
        [outcome.lost for outcome in outcomes],
        0,
        {name: [outcome.lost for outcome in theirs] for name, theirs in others.items()},
    )
    yield Figure(
        f"{what}: longest silence of one",
        "ms",
        [outcome.gap_s * 1000 for outcome in outcomes],
        None,
        {name: [outcome.gap_s * 1000 for outcome in theirs] for name, theirs in others.items()},
    )
    yield Figure(
        f"{what}: longest silence of the address",
        "ms",
        [outcome.silence_s * 1000 for outcome in outcomes],
        None,
        {name: [outcome.silence_s * 1000 for outcome in theirs] for name, theirs in others.items()},
    )


def _fail(kind: type[Pair], scenario: Scenario, nat: Nat) -> Outcome:
    """Let it fail, once it has stood still until then."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(Restless):
            return _fail_once(kind, scenario, nat)
    try:
        return _fail_once(kind, scenario, nat)
    except Restless as restless:
        raise Unmeasurable(f"{kind.name}, {_TRIES} times in a row: {restless}") from restless


def _fail_once(kind: type[Pair], scenario: Scenario, nat: Nat) -> Outcome:
    with Site(wan=True, hub=True) as site, contextlib.ExitStack() as stack:
        firewall.prepare(site, nat)
        pair = kind(site, fast=True)
        stack.callback(pair.close)
        pair.start(site.a)
        observer = site.observe(every_s=_FAST_EVERY_S)
        observer.wait_until_answers("a")
        pair.start(site.b)
        pair.wait_until_backup(site.b)
        try:
            flows = Flows(site.client, site.server, SERVER, CONNECTIONS)
            pair.wait_until_replicated(CONNECTIONS)
        except AssertionError as error:
            raise Restless(str(error)) from error
        flows.mark()
        at_ns = time.time_ns()
        scenario.fail(pair)
        if "b" in scenario.answerers:
            observer.wait_until_answers("b")
        flows.wait_until_moved(_LOST_PATIENCE_S)
        scenario.mend(pair)
        fates = flows.finish(_LOST_PATIENCE_S)
        seen = observer.finish()
    return Outcome(
        tuple(fates),
        seen.silence_s(at_ns, time.time_ns()),
        seen.answered_twice(),
        seen.answerers() != list(scenario.answerers),
    )
