"""What happens in a real run of a topology? Programs on its hosts, faults at their times, and a record."""

from __future__ import annotations

import pickle
import select
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.lab.network import topology as model
from gimli.lab.network.real import station
from gimli.lab.network.real.ground import Ground
from gimli.lab.network.real.station import Order
from gimli.lab.network.real.taps import taps
from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.record import COUNTED, Fate, Run, Told
from gimli.lab.network.simulator.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gimli.lab.namespaces import Host
    from gimli.lab.network.simulator.record import Entry

PROGRAM = (sys.executable, "-m", "gimli.lab.network.real")
_PATIENCE_S = 30.0
_LEAD_S = 0.2
"""Between the last program's being ready and the beginning: all know the time before it comes."""
_ORDERS = {
    (model.Kind.POWER, True): Order.OFF,
    (model.Kind.POWER, False): Order.ON,
    (model.Kind.HANG, True): Order.HANG,
    (model.Kind.HANG, False): Order.GO_ON,
}
"""What a firewall's program is told of a fault that begins, or is over."""


class ProgramFailed(GimliError):
    """A program of ours on one of the hosts did not do its part."""


class Program:
    """A program on a host.

    Args:
        host: where.
        part: what it is to play.
    """

    def __init__(self, host: Host, part: station.Part) -> None:
        self.name = host.name
        pipe = subprocess.PIPE
        self._process = host.start(*PROGRAM, stdin=pipe, stdout=pipe, stderr=pipe)
        self._send(part)

    def wait_until_ready(self) -> None:
        """Return when it can begin."""
        self._wait_for(station.READY)

    def begin(self, began_s: float) -> None:
        """Let it begin at that moment."""
        self._send(began_s)

    def order(self, order: Order) -> None:
        """Let something happen to it; it has happened when we return."""
        self._write(order.value)
        self._wait_for(station.DONE)

    def end(self) -> station.Findings:
        """What it saw."""
        try:
            said, errors = self._process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise ProgramFailed(f"the program on {self.name} does not end") from error
        if self._process.returncode:
            raise self._failed(errors)
        findings = pickle.loads(said)  # noqa: S301 - from the program that we have started
        assert isinstance(findings, station.Findings)
        return findings

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _wait_for(self, word: bytes) -> None:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _PATIENCE_S)[0]:
            raise ProgramFailed(f"the program on {self.name} says nothing for {_PATIENCE_S:g} s")
        if self._process.stdout.readline() != word:
            raise self._failed()

    def _send(self, item: object) -> None:
        self._write(pickle.dumps(item))

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def _failed(self, errors: bytes = b"") -> ProgramFailed:
        if not errors and self._process.stderr is not None:
            self._process.kill()
            errors = self._process.stderr.read()
        lines = errors.decode(errors="replace").strip().splitlines()
        return ProgramFailed(f"the program on {self.name} has failed", why=lines[-1] if lines else "")


def play(topology: model.Topology, seed: int, tell: Callable[[str], None], pcap: str = "") -> Run:
    """Play it once.

    Args:
        topology: what there is, and what happens to it.
        seed: of what people ask for; what becomes of it is the kernel's.
        tell: called with what is done now.
        pcap: a directory for what was on the cables.

    Raises:
        GimliError: it cannot be played here; what is missing is named.
    """
    with Ground(topology) as ground, taps(topology, ground, pcap):
        programs: dict[str, Program] = {}
        try:
            _start(topology, ground, seed, programs)
            began_s = time.monotonic() + _LEAD_S
            for program in programs.values():
                program.begin(began_s)
            tell(f"{topology.name}: {len(programs)} hosts, {topology.lasts_s:g} s")
            told = list(_live(topology, ground, programs, began_s))
            counted = {
                "rst_packets": ground.resets(),
                "guarded": ground.guarded(),
                "fenced": ground.fenced(),
            }
            # The firewalls first: without them nobody hears another program end.
            names = sorted(programs, key=lambda name: name not in _firewalls(topology))
            findings = {name: programs[name].end() for name in names}
        finally:
            for program in programs.values():
                program.kill()
    return record(topology, findings, counted, told, began_s)


def _start(topology: model.Topology, ground: Ground, seed: int, programs: dict[str, Program]) -> None:
    """Start all programs, and wait until they can begin.

    Two daemons that are started at once may be further apart than their handicaps: so the one that is to be
    MASTER is, before the other one is started.
    """
    master = station.first_master_of(topology).name
    backups = _firewalls(topology) - {master}
    for name, host in ground.hosts.items():
        if name not in backups:
            programs[name] = Program(host, station.Part(topology, name, seed))
    programs[master].wait_until_ready()
    for name in backups:
        programs[name] = Program(ground.hosts[name], station.Part(topology, name, seed))
    for name, program in programs.items():
        if name != master:
            program.wait_until_ready()


def _firewalls(topology: model.Topology) -> set[str]:
    return {config.name for config in topology.firewalls}


def _live(
    topology: model.Topology, ground: Ground, programs: Mapping[str, Program], began_s: float
) -> Iterator[Told]:
    """Let time pass, and break what is to break."""
    moments = [(fault.at_s, fault, True) for fault in topology.faults]
    moments += [(fault.until_s, fault, False) for fault in topology.faults if fault.until_s is not None]
    for at_s, fault, is_broken in sorted(moments, key=lambda moment: moment[0]):
        _sleep_until(began_s + at_s)
        words = f"{fault.kind.value} {fault.what}{'' if is_broken else ' is over'}"
        happens_s = time.monotonic() - began_s
        order = _ORDERS.get((fault.kind, is_broken))
        if order is not None and fault.what in _firewalls(topology):
            programs[fault.what].order(order)
        _break(ground, fault, is_broken=is_broken)
        yield Told(happens_s, fault.what, 0, "fault" if is_broken else "mended", words)
    _sleep_until(began_s + topology.lasts_s)


def _break(ground: Ground, fault: model.Fault, *, is_broken: bool) -> None:
    """What happens to cables."""
    match fault.kind:
        case model.Kind.CUT | model.Kind.POWER:
            ground.cut(fault.what, is_cut=is_broken)
        case model.Kind.CUT_TO | model.Kind.CUT_FROM:
            ground.cut_one_way(fault.what, fault.kind, is_cut=is_broken)
        case model.Kind.HANG:
            pass


def _sleep_until(until_s: float) -> None:
    time.sleep(max(until_s - time.monotonic(), 0.0))


def record(
    topology: model.Topology,
    findings: Mapping[str, station.Findings],
    counted: Mapping[str, Mapping[str, int]],
    told: Sequence[Told],
    began_s: float,
) -> Run:
    """What the programs saw, as the record of one run that began at that moment of the monotonic clock."""
    counts: dict[str, dict[str, int]] = {what: {} for what in COUNTED}
    for name, found in findings.items():
        for what, count in found.counts.items():
            counts.setdefault(what, {})[name] = count
    for what, by_host in counted.items():
        counts[what] = dict(by_host)
    faults = [entry.t_s for entry in told if entry.what == "fault"]
    roles = [
        (max(change.at_s - began_s, 0.0), name, change)
        for name, found in findings.items()
        for change in found.roles
        if change.at_s - began_s <= topology.lasts_s  # what comes of its end is no part of it
    ]
    log: list[Entry] = [*told]
    log += [Told(at_s, name, 0, "role", change.words) for at_s, name, change in roles]
    for found in findings.values():
        log += found.log
    fates = _fates(findings.values())
    if faults:
        for fate in fates:
            fate.was_open_at_fault = fate.opened_s < faults[0] and not 0.0 < fate.ended_s < faults[0]
    held = _held(roles, topology.lasts_s)
    return Run(
        topology=topology,
        log=tuple(sorted(log, key=lambda entry: entry.t_s)),
        fates=tuple(fate for fate in fates if not fate.is_plain),
        fine=sum(fate.is_plain and not fate.is_backend for fate in fates),
        open_at_fault=sum(fate.was_open_at_fault and not fate.is_backend for fate in fates),
        answered=sum(found.answered for found in findings.values()),
        counts=counts,
        back_most=max(found.back_most for found in findings.values()),
        double_s=held.double_s,
        roles=tuple(held.roles),
        events=sum(found.events for found in findings.values()),
    )


def _held(roles: Iterable[tuple[float, str, station.RoleTold]], until_s: float) -> Recorder:
    """Who was MASTER of what, and when, as the simulator's recorder notes it."""
    clock = Engine()
    held = Recorder(clock)
    for at_s, name, change in sorted(roles, key=lambda role: role[0]):
        clock.now_s = at_s
        held.role_changed(change.vhid, name, is_master=change.is_master)
    clock.now_s = until_s
    return held


def _fates(findings: Iterable[station.Findings]) -> list[Fate]:
    """One per connection: how it went by its client, what was dropped of it by the firewalls."""
    by_number: dict[int, list[Fate]] = defaultdict(list)
    for found in findings:
        for fate in found.fates:
            by_number[fate.number].append(fate)
    return [_joined(parts) for _, parts in sorted(by_number.items())]


def _joined(parts: list[Fate]) -> Fate:
    # The client's own word comes first: it alone knows what it was owed.
    parts = sorted(parts, key=lambda part: not (part.ended or part.answered or part.froze_s))
    fate = replace(parts[0])
    for part in parts[1:]:
        fate.back += part.back
        fate.dropped += part.dropped
        fate.dropped_first = max(fate.dropped_first, part.dropped_first, key=lambda one: one[1])
        fate.freeze = fate.freeze or part.freeze
    return fate
