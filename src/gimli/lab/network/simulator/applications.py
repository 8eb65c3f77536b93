"""What do the programs say to each other? A visitor asks, a relay passes on, a worker answers.

Bytes are counted, not made: what a request is (how much it sends, how much it gets) is known by its
connection's number, and nobody looks before its bytes have come.

Whoever waits for more than the application's time-out gives up: in the middle of a request it resets the
connection, between two it closes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import pair_of_flows
from gimli.lab.network.simulator.sender import State

if TYPE_CHECKING:
    from random import Random

    from gimli.lab.network import topology
    from gimli.lab.network.simulator.balancer import Balancer
    from gimli.lab.network.simulator.host import Host
    from gimli.lab.network.simulator.record import Fate
    from gimli.lab.network.simulator.tcp import End

FREEZE_S = 1.0
"""A connection that does not move for longer, though something is owed, is frozen."""
STUCK_S = 10.0
"""One that does not move for longer when a run is over, is not expected to move again."""
_FIRST_BACKEND = 100_000
"""Connections between balancers and servers are numbered from here."""


@dataclass(slots=True)
class Job:
    """One request, and how far it has come."""

    kind: str
    sends: int
    gets: int
    works_s: float


class Book:
    """Who is in the middle of which request, by connection number; and the next numbers."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self._visits = 0
        self._backends = _FIRST_BACKEND

    def next_visit(self) -> int:
        """For a connection of a client."""
        self._visits += 1
        return self._visits

    def next_backend(self) -> int:
        """For a connection of a balancer."""
        self._backends += 1
        return self._backends


class _Watched:
    """Gives up on connections that do not move."""

    def __init__(self, host: Host, gives_up_s: float) -> None:
        self.name = host.name
        self.engine = host.engine
        self.recorder = host.recorder
        self._gives_up_s = gives_up_s

    def watch(self, end: End) -> None:
        """Look at it when its time-out could have come."""
        self.engine.at(end.progress_s + self._gives_up_s, self._look, end)

    def _look(self, end: End) -> None:
        if end.state in {State.CLOSED, State.TIME_WAIT}:
            return
        if self.engine.now_s - end.progress_s >= self._gives_up_s - 1e-9:
            self.give_up(end)
        else:
            self.watch(end)

    def give_up(self, end: End) -> None:
        """Nothing moved for too long."""
        raise NotImplementedError

    def leave(self, end: End, *, is_busy: bool) -> None:
        """Reset what is in the middle of something, close what is idle."""
        what = "in the middle of a request: resets" if is_busy else "idle: closes"
        words = f"nothing moved for {self._gives_up_s:g} s, {what} the connection"
        self.recorder.tell(self.name, "gives-up", words, end.out.connection)
        if is_busy:
            end.abort()
        else:
            end.close()

    def moved(self, end: End, since_s: float) -> None:
        """Its visitor watches it."""


class Visitor:
    """A client's connection: requests one after another, a pause between them.

    Args:
        host: of the client.
        source: address and port it comes from.
        traffic: what it does.
        book: where its requests are written down.
        chance: for its requests and pauses.
    """

    def __init__(
        self, host: Host, source: tuple[str, int], traffic: topology.Traffic, book: Book, chance: Random
    ) -> None:
        self._host = host
        self._engine = host.engine
        self._recorder = host.recorder
        self._traffic = traffic
        self._book = book
        self._chance = chance
        self._left = chance.randint(*traffic.requests)
        self._owed = 0
        self._asked_s = 0.0
        self._end: End | None = None
        self.number = book.next_visit()
        self.fate: Fate
        self._out = pair_of_flows(*source, traffic.target, traffic.port, self.number)

    def begin(self, _: None = None) -> None:
        """Connect."""
        self.fate = self._recorder.opened(self._out, is_backend=False)
        self.fate.unanswered = self._left
        self._asked_s = self._engine.now_s
        self._owed = 1
        self._end = self._host.connect(self._out, self)
        self._engine.at(self._asked_s + self._traffic.patience_s, self._look)

    def connected(self, end: End) -> None:
        """Ask at once."""
        self._end = end
        self._note(self._asked_s)
        self._ask()

    def got(self, end: End, length: int) -> None:
        """Part of the answer, or its end."""
        self._owed -= length
        if self._owed > 0:
            return
        self.fate.answered += 1
        self.fate.unanswered -= 1
        self._recorder.answered += 1
        self._book.jobs.pop(self.number, None)
        self._left -= 1
        if self._left > 0:
            pause_s = self._chance.uniform(*self._traffic.thinks_s)
            self._engine.at(self._engine.now_s + pause_s, self._ask)
        else:
            end.close()

    def moved(self, end: End, since_s: float) -> None:
        """It moves again."""
        if self._owed > 0:
            self._note(max(since_s, self._asked_s))

    def peer_closed(self, end: End) -> None:
        """The other side is done; so are we."""
        end.close()

    def ended(self, end: End, why: str) -> None:
        """It is over."""
        if self._owed > 0:
            self._note(max(end.progress_s, self._asked_s))
        self._left = 0
        self._book.jobs.pop(self.number, None)
        self._recorder.ended(self.number, self._host.name, why)
        self._host.forget(end)

    def settle(self) -> None:
        """The run is over: what stands still now is frozen as well."""
        if self._end is not None and self._owed > 0 and not self.fate.ended:
            since_s = max(self._end.progress_s, self._asked_s)
            self._note(since_s)
            self.fate.is_stuck = self._engine.now_s - since_s > STUCK_S

    def _ask(self, _: None = None) -> None:
        end = self._end
        assert end is not None
        if end.state is not State.ESTABLISHED or self.fate.ended:
            return
        kinds = self._traffic.mix
        kind = self._chance.choices(kinds, [one.weight for one in kinds])[0]
        job = Job(
            kind.name,
            self._chance.randint(*kind.sends),
            self._chance.randint(*kind.gets),
            self._chance.uniform(*kind.works_s),
        )
        self._book.jobs[self.number] = job
        self._owed = job.gets
        self._asked_s = self._engine.now_s
        end.write(job.sends)

    def _look(self, _: None) -> None:
        end = self._end
        if end is None or self.fate.ended:
            return
        now_s = self._engine.now_s
        waited_s = now_s - max(end.progress_s, self._asked_s)
        if self._owed > 0 and waited_s >= self._traffic.patience_s - 1e-9:
            end.abort()
        else:
            self._engine.at(now_s + self._traffic.patience_s / 4, self._look)

    def _note(self, since_s: float) -> None:
        still_s = self._engine.now_s - since_s
        if still_s > FREEZE_S and still_s > self.fate.froze_s:
            self.fate.froze_s, self.fate.frozen_at_s = still_s, since_s


@dataclass(slots=True)
class _Passage:
    """One connection of a client, as a balancer has it."""

    front: End
    back: End | None = None
    job: Job | None = None
    asked: int = 0
    answered: int = 0


class Relay(_Watched):
    """A balancer's program: mod_proxy_balancer in short. It keeps connections to servers for later."""

    def __init__(self, host: Balancer, traffic: topology.Traffic, book: Book) -> None:
        super().__init__(host, traffic.gives_up_s)
        self._host = host
        self._traffic = traffic
        self._book = book
        self._idle: list[End] = []
        self._next_server = 0

    def connected(self, end: End) -> None:
        """A client's connection stands, or one to a server."""
        if end.out.dport == self._traffic.backend_port:
            return
        end.data = _Passage(end)
        self.watch(end)

    def got(self, end: End, length: int) -> None:
        """Pass it on."""
        passage = end.data
        if not isinstance(passage, _Passage):
            return  # nobody waits for it any more
        if end is passage.front:
            self._pass_request(passage, length)
        else:
            self._pass_answer(passage, length)

    def peer_closed(self, end: End) -> None:
        """A side is done: so is the other one. A server that is done too early has failed its client."""
        passage = end.data
        end.close()
        if isinstance(passage, _Passage) and end is passage.back:
            end.data = passage.back = None
            self._fail(passage, "the server has closed in the middle of a request")

    def ended(self, end: End, why: str) -> None:
        """A side is over: the other one has lost its half."""
        self.recorder.ended(end.out.connection, self._host.name, why)
        self._host.forget(end)
        if end in self._idle:
            self._idle.remove(end)
        passage, end.data = end.data, None
        if not isinstance(passage, _Passage):
            return
        if end is passage.front:
            if passage.back is not None:
                passage.back.data = None
                passage.back.abort()
        else:
            passage.back = None
            self._fail(passage, f"the connection to the server is over ({why})")

    def _fail(self, passage: _Passage, why: str) -> None:
        number = passage.front.out.connection
        self.recorder.tell(self._host.name, "fails", f"{why}: closes the client's connection", number)
        passage.front.close()

    def give_up(self, end: End) -> None:
        """Nothing moved for too long."""
        passage = end.data
        is_busy = end.is_sending or (isinstance(passage, _Passage) and passage.job is not None)
        self.leave(end, is_busy=is_busy)

    def _pass_request(self, passage: _Passage, length: int) -> None:
        if passage.job is None:
            job = self._book.jobs.get(passage.front.out.connection)
            if job is None:
                return
            passage.job, passage.asked, passage.answered = job, 0, 0
            passage.back = self._backend()
            passage.back.data = passage
            self._book.jobs[passage.back.out.connection] = job
            if fate := self.recorder.fates.get(passage.back.out.connection):
                fate.serves = passage.front.out.connection
        passage.asked += length
        if passage.back is not None:
            passage.back.write(length)

    def _pass_answer(self, passage: _Passage, length: int) -> None:
        job, back = passage.job, passage.back
        if job is None or back is None:
            return
        passage.answered += length
        if passage.answered >= job.gets:
            self._book.jobs.pop(back.out.connection, None)
            back.data = passage.back = passage.job = None
            self._idle.append(back)
        passage.front.write(length)

    def _backend(self) -> End:
        while self._idle:
            end = self._idle.pop()
            if end.state is State.ESTABLISHED and not end.is_sending:
                return end
        config = self._host.config
        server = config.servers[self._next_server % len(config.servers)]
        self._next_server += 1
        number = self._book.next_backend()
        out = pair_of_flows(
            config.address, self._host.next_port(), server, self._traffic.backend_port, number
        )
        self.recorder.opened(out, is_backend=True)
        return self._host.connect(out, self)


class Worker(_Watched):
    """A server's program: takes a request, works, answers."""

    def __init__(self, host: Host, traffic: topology.Traffic, book: Book) -> None:
        super().__init__(host, traffic.gives_up_s)
        self._host = host
        self._traffic = traffic
        self._book = book

    def connected(self, end: End) -> None:
        """A balancer's connection stands."""
        end.data = 0
        self.watch(end)

    def got(self, end: End, length: int) -> None:
        """Part of a request, or its end."""
        job = self._book.jobs.get(end.out.connection)
        if job is None or not isinstance(end.data, int):
            return
        end.data += length
        if end.data >= job.sends:
            end.data = 0
            self.engine.at(self.engine.now_s + job.works_s, self._answer, (end, job.gets))

    def peer_closed(self, end: End) -> None:
        """The balancer is done; so are we."""
        end.close()

    def ended(self, end: End, why: str) -> None:
        """It is over."""
        self.recorder.ended(end.out.connection, self._host.name, why)
        self._host.forget(end)

    def give_up(self, end: End) -> None:
        """Nothing moved for too long."""
        self.leave(end, is_busy=end.is_sending or bool(end.data))

    def _answer(self, answer: tuple[End, int]) -> None:
        end, length = answer
        if end.state is State.ESTABLISHED:
            end.write(length)
