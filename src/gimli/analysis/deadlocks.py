"""Who is in a deadlock, and over which locks?

Pure. Builds the graph of waiting from pthread locks (which name their owner), Python locks (by source and
variables) and the GIL, and words its cycles.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.analysis import pylocks
from gimli.analysis.cause import Cause
from gimli.analysis.stacks import line_of, own_frame
from gimli.analysis.waitgraph import Edge, confidence_of, cycles
from gimli.report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gimli.analysis.evidence import Evidence
    from gimli.report import Thread


def waiting_edges(threads: Iterable[Thread], evidence: Evidence, source: Callable[[str], str]) -> list[Edge]:
    """Every known "this thread waits for what that thread holds".

    Args:
        threads: as they stand, frames merged.
        evidence: what was read of them.
        source: the text of a source file, empty when it cannot be read.
    """
    by_tid = {thread.tid: thread for thread in threads}
    return [
        *_pthread_edges(by_tid, evidence),
        *_python_edges(by_tid, evidence, source),
        *_gil_edges(by_tid, evidence),
    ]


def find_deadlocks(edges: list[Edge], threads: Iterable[Thread], *, first_tid: int | None) -> list[Cause]:
    """A cause for each cycle of waiting, told from ``first_tid`` on when it is part of it."""
    by_tid = {thread.tid: thread for thread in threads}
    found = []
    told: set[frozenset[int]] = set()
    for cycle in cycles(edges):
        members = frozenset(edge.waiter for edge in cycle)
        if members not in told:
            told.add(members)
            found.append(_cause(_rotated(cycle, first_tid), by_tid))
    return found


def _pthread_edges(by_tid: dict[int, Thread], evidence: Evidence) -> list[Edge]:
    edges = []
    for tid, native in evidence.native.items():
        lock = native.lock
        if lock is None or lock.owner_tid not in by_tid or tid not in by_tid:
            continue
        where, function = _standing(by_tid[tid])
        seen = f"thread {tid} is in pthread_{lock.kind}_lock of {lock.name} ({lock.address:#x}) at {where}"
        owner = f"the {lock.kind} names thread {lock.owner_tid} as its owner"
        edges.append(Edge(tid, lock.owner_tid, lock.name, where, function, 0.98, (seen, owner)))
    return edges


def _python_edges(by_tid: dict[int, Thread], evidence: Evidence, source: Callable[[str], str]) -> list[Edge]:
    waits = {
        tid: pylocks.waits(thread.frames, source)
        for tid, thread in evidence.python.items()
        if tid in by_tid and _waits_for_python_lock(by_tid[tid], evidence)
    }
    if not any(waits.values()):
        return []
    holds = {tid: pylocks.holds(thread.frames, source) for tid, thread in evidence.python.items()}
    edges = []
    for waiter, wanted in waits.items():
        for wait in wanted:
            for holder, held in holds.items():
                edges += [
                    _python_edge(waiter, wait, holder, hold) for hold in held if pylocks.same_lock(wait, hold)
                ]
    return [edge for edge in edges if edge.holder in by_tid and not _is_reentrant(edge, evidence)]


def _waits_for_python_lock(thread: Thread, evidence: Evidence) -> bool:
    if thread.tid in evidence.native:
        return pylocks.is_lock_wait(thread.frames)
    # No native frames: in a futex at a line that takes a lock, it is as good as certain that it waits for it.
    kernel = evidence.kernel.get(thread.tid)
    return kernel is not None and kernel.syscall is not None and kernel.syscall.name == "futex"


def _python_edge(waiter: int, wait: pylocks.Sighting, holder: int, hold: pylocks.Sighting) -> Edge:
    same = pylocks.same_lock(wait, hold)
    where = line_of(wait.frame)
    taken = line_of(replace(hold.frame, line=hold.line))
    how = "the same by its name alone" if same <= pylocks.SURE["name"] else "the same object"
    return Edge(
        waiter,
        holder,
        lock=wait.name,
        waits_at=where,
        function=wait.frame.function,
        confidence=min(same, wait.confidence, hold.confidence),
        evidence=(
            f"thread {waiter} waits at {where} for `{wait.name}`",
            f"thread {holder} took `{hold.name}` at {taken} and has not left it ({how})",
        ),
    )


def _is_reentrant(edge: Edge, evidence: Evidence) -> bool:
    """A thread that takes its own RLock again does not wait."""
    if edge.waiter != edge.holder:
        return False
    values = [
        variable.value
        for frame in evidence.python[edge.waiter].frames
        for variable in frame.frame.variables
        if variable.name == edge.lock
    ]
    return any("RLock" in value for value in values)


def _gil_edges(by_tid: dict[int, Thread], evidence: Evidence) -> list[Edge]:
    holder = next(
        (tid for tid, thread in evidence.python.items() if thread.holds_gil and tid in by_tid), None
    )
    if holder is None:
        return []
    edges = []
    for tid, thread in by_tid.items():
        if tid != holder and any(frame.function.startswith("take_gil") for frame in thread.frames[:8]):
            where, function = _standing(thread)
            edges.append(
                Edge(tid, holder, "the GIL", where, function, 0.95, (f"thread {tid} is in take_gil",))
            )
    return edges


def _standing(thread: Thread) -> tuple[str, str]:
    frame = own_frame(thread.frames)
    return (line_of(frame), frame.function) if frame else ("an unknown place", "?")


def _rotated(cycle: tuple[Edge, ...], first_tid: int | None) -> tuple[Edge, ...]:
    at = next((index for index, edge in enumerate(cycle) if edge.waiter == first_tid), 0)
    return cycle[at:] + cycle[:at]


def _cause(cycle: tuple[Edge, ...], by_tid: dict[int, Thread]) -> Cause:
    names = [short_name(edge.lock) for edge in cycle]
    # A lock that is known by its address alone has another one in the next run.
    known = sorted(name for name in names if "0x" not in name or "+0x" in name)
    evidence = tuple(line for edge in cycle for line in edge.evidence)
    return Cause(
        Finding("deadlock", _text(cycle, by_tid), confidence_of(cycle), evidence),
        tids=tuple(edge.waiter for edge in cycle),
        summary=f"deadlock {'/'.join(names)}" if len(known) == len(names) else _who(cycle, by_tid),
        key=("deadlock", *known, *sorted(edge.function for edge in cycle)),
    )


def _who(cycle: tuple[Edge, ...], by_tid: dict[int, Thread]) -> str:
    return f"deadlock of {' and '.join(called(by_tid, edge.waiter) for edge in cycle)}"


def _text(cycle: tuple[Edge, ...], by_tid: dict[int, Thread]) -> str:
    """The circle in words: "a" waits for x, held by "b", which waits for y, held by "a"."""
    first = cycle[0]
    start = called(by_tid, first.waiter)
    text = f"Deadlock: {start} waits for `{first.lock}` ({first.waits_at})"
    if len(cycle) == 1:
        return f"{text}, which it holds itself."
    for edge in cycle[1:]:
        text += f", held by {called(by_tid, edge.waiter)}, which waits for `{edge.lock}` ({edge.waits_at})"
    return f"{text}, held by {start}."


def called(by_tid: dict[int, Thread], tid: int) -> str:
    """A thread by name, as ``"writer-2"``; as ``thread 4711`` when its name does not tell it from others."""
    thread = by_tid.get(tid)
    if thread is None or not thread.name or sum(each.name == thread.name for each in by_tid.values()) > 1:
        return f"thread {tid}"
    return f'"{thread.name}"'


def short_name(lock: str) -> str:
    """The last word of a lock's expression: ``index`` of ``self.index``."""
    return lock.replace("->", ".").rpartition(".")[2] or lock
