"""Which designs fail, and what is the least of each that still does? A random search, repeatable by its seed.

    draw -> play once -> does it fail? -> over several seeds -> fewer changes -> a smaller network

Design number N of a search is drawn from the seed and N alone, and first played with N for a seed. Whatever
is shrunk is played over the seeds that ``gimli lab explain`` takes, so that what is left fails there as well.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gimli.errors import GimliError
from gimli.lab.network import play, space
from gimli.lab.network.causes import Kind
from gimli.lab.network.goal import LOUD, STORM, Goal, Judgement
from gimli.lab.network.play import Job
from gimli.lab.network.search import shrink, without_needless
from gimli.lab.network.smaller import REDUCERS, sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gimli.lab.network.causes import Switched
    from gimli.lab.network.play import Outcome
    from gimli.lab.network.space import Pick
    from gimli.lab.network.topology import Topology
    from gimli.lab.scenario import Verdict

    Tell = Callable[[str], None]

SEEDS = (1, 2, 3, 4)
ENOUGH = 3
"""Of them must fail, the first one, which is a run's default, among them: what is left is not to hang on one
draw of chance, and shows itself at once."""
OTHER_SEEDS = tuple(range(5, 21))
"""By which nothing was shrunk: they say how much of it is chance."""
_BATCH = 32
_TELL_EVERY = 25


@dataclass(slots=True)
class Found:
    """What is left of a design that fails.

    Args:
        design: its number.
        drawn: how it differs from the plain one.
        left: what of that is needed: it fails with these, and with none of them less.
        drawn_metrics: of its first run.
        drawn_verdicts: of the same run.
        drawn_sizes: how large it was.
        topology: what was left when that was made smaller as well.
        metrics: of its run with the first seed.
        failed: how many of the other seeds fail as well.
        designs: how many failing designs have all of ``left``.
    """

    design: int
    drawn: tuple[Pick, ...]
    left: tuple[Pick, ...]
    drawn_metrics: dict[str, Any]
    drawn_verdicts: tuple[Verdict, ...]
    drawn_sizes: dict[str, float]
    topology: Topology
    metrics: dict[str, Any]
    failed: int
    designs: int = 1


@dataclass(slots=True)
class Hunted:
    """What a search has come to.

    Args:
        judged: designs by what their first run was.
        rare: those that failed once, and not with enough of the other seeds.
        by_harm: those that were explained by what broke.
    """

    judged: Counter[Judgement] = field(default_factory=Counter)
    rare: int = 0
    by_harm: int = 0
    found: list[Found] = field(default_factory=list)

    @property
    def designs(self) -> int:
        """How many were tried."""
        return self.judged.total()

    @property
    def loud(self) -> dict[str, int]:
        """Failures that were not looked for, by their kind."""
        return {kind.value: self.judged[kind] for kind in LOUD if self.judged[kind]}


class Hunt:
    """A search.

    Args:
        plain: where it begins; what is looked for must not be found there.
        drawn_from: what a design may have.
        goal: what is looked for.
        seed: of the designs.
        tell: is called with what is done now.
    """

    def __init__(
        self, plain: Topology, drawn_from: Sequence[Switched], goal: Goal, seed: int, tell: Tell
    ) -> None:
        self._plain = goal.of(plain)
        self._space = drawn_from
        self._goal = goal
        self._seed = seed
        self._tell = tell
        self._events_max: int | None = None
        self._known: dict[Topology, bool] = {}
        self.hunted = Hunted()

    def search(self, designs: int, is_over: Callable[[], bool], *, is_first_enough: bool) -> Hunted:
        """Try designs until there are no more, or no more time, or one has been found.

        Raises:
            GimliError: the plain design fails by itself.
        """
        self._begin()
        for first in range(1, designs + 1, _BATCH):
            numbers = range(first, min(first + _BATCH, designs + 1))
            drawn = [self.draw(number) for number in numbers]
            jobs = [
                Job(space.build(self._plain, picks), number, self._events_max)
                for number, picks in zip(numbers, drawn, strict=True)
            ]
            for number, picks, outcome in zip(numbers, drawn, play.play_all(jobs), strict=True):
                self._consider(number, picks, outcome)
                if is_over() or (is_first_enough and self.hunted.found):
                    return self.hunted
        return self.hunted

    def draw(self, number: int) -> tuple[Pick, ...]:
        """The design with that number."""
        chance = random.Random(f"{self._seed}/design {number}")  # noqa: S311 - repeatable, not secret
        return space.draw(self._plain, self._space, chance)

    def _begin(self) -> None:
        outcomes = self._play(self._plain, SEEDS)
        self._events_max = STORM * max(outcome.metrics["events"] for outcome in outcomes)
        if any(self._judge(outcome) is not Judgement.FINE for outcome in outcomes):
            name = self._plain.name
            raise GimliError(
                f"{name} fails as it is",
                why="a search looks for changes that make a network fail which works without them",
                fix=f"find its causes: gimli lab explain {name}",
            )

    def _consider(self, number: int, picks: tuple[Pick, ...], outcome: Outcome) -> None:
        hunted = self.hunted
        judgement = self._judge(outcome)
        hunted.judged[judgement] += 1
        if judgement is Judgement.FAILS and not self._is_known(picks):
            self._look_into(number, picks, outcome)
        if number % _TELL_EVERY == 0:
            self._tell(f"{number} designs, {hunted.judged[Judgement.FAILS]} fail")

    def _is_known(self, picks: tuple[Pick, ...]) -> bool:
        """Whether it has all that was enough before, in whatever ways that came about."""
        kinds = {pick.kind for pick in picks}
        for found in self.hunted.found:
            if kinds >= {pick.kind for pick in found.left}:
                found.designs += 1
                return True
        return False

    def _look_into(self, number: int, picks: tuple[Pick, ...], first: Outcome) -> None:
        if not self._fails_with(picks):
            self.hunted.rare += 1
            return
        self._tell(f"design {number} fails, with {len(picks)} changes; which of them are needed?")
        left = without_needless(picks, self._fails_with)
        names = " + ".join(pick.name for pick in left)
        if _is_explained_by_harm(left):
            self.hunted.by_harm += 1
            self._tell(f"{names}: explained by what broke")
            return
        self._tell(f"{len(left)} are needed: {names}; making it smaller")
        whole = space.build(self._plain, left)
        topology = shrink(whole, REDUCERS, self._fails)
        (shown,) = self._play(topology, SEEDS[:1])
        others = [self._judge(outcome) for outcome in self._play(topology, OTHER_SEEDS)]
        self.hunted.found.append(
            Found(
                design=number,
                drawn=picks,
                left=left,
                drawn_metrics=first.metrics,
                drawn_verdicts=first.verdicts,
                drawn_sizes=sizes(space.build(self._plain, picks)),
                topology=replace(topology, about=f"{names}: found by a search"),
                metrics=shown.metrics,
                failed=others.count(Judgement.FAILS),
            )
        )

    def _fails_with(self, picks: tuple[Pick, ...]) -> bool:
        return self._fails(space.build(self._plain, picks))

    def _fails(self, topology: Topology) -> bool:
        """With enough of the seeds; no more of them are played than it takes to say so."""
        if topology not in self._known:
            failed = 0
            for left, seed in zip(reversed(range(len(SEEDS))), SEEDS, strict=True):
                (outcome,) = self._play(topology, (seed,))
                failed += self._judge(outcome) is Judgement.FAILS
                if not failed or failed == ENOUGH or failed + left < ENOUGH:
                    break
            self._known[topology] = failed >= ENOUGH
        return self._known[topology]

    def _play(self, topology: Topology, seeds: Sequence[int]) -> list[Outcome]:
        return list(play.play_all([Job(topology, seed, self._events_max) for seed in seeds]))

    def _judge(self, outcome: Outcome) -> Judgement:
        return self._goal.judge(outcome, self._events_max)


def _is_explained_by_harm(left: tuple[Pick, ...]) -> bool:
    """Something broke, and all the rest is traffic and cables: nothing that could be done otherwise."""
    kinds = {pick.switched.kind for pick in left}
    return Kind.HARM in kinds and kinds <= {Kind.HARM, Kind.CONDITION}
