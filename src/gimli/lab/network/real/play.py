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
from gimli.lab.network.real import station
from gimli.lab.network.real.ground import Ground
from gimli.lab.network.real.taps import taps
from gimli.lab.network.simulator.record import COUNTED, Fate, RoleChange, Run, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gimli.lab.namespaces import Host
    from gimli.lab.network import topology as model
    from gimli.lab.network.simulator.record import Entry

PROGRAM = (sys.executable, "-m", "gimli.lab.network.real")
_PATIENCE_S = 30.0
_LEAD_S = 0.2
"""Between the last program's being ready and the beginning: all know the time before it comes."""


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
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _PATIENCE_S)[0]:
            raise ProgramFailed(f"the program on {self.name} is not ready after {_PATIENCE_S:g} s")
        if self._process.stdout.readline() != station.READY:
            raise self._failed()

    def begin(self, began_s: float) -> None:
        """Let it begin at that moment."""
        self._send(began_s)

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

    def _send(self, item: object) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(item, self._process.stdin)
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
        programs: list[Program] = []
        try:
            # The firewalls first, also in the end: without them nobody hears another program end.
            for name in _firewalls_first(topology):
                host = ground.hosts[name]
                programs.append(Program(host, station.Part(topology, name, seed)))
            for program in programs:
                program.wait_until_ready()
            began_s = time.monotonic() + _LEAD_S
            for program in programs:
                program.begin(began_s)
            tell(f"{topology.name}: {len(programs)} hosts, {topology.lasts_s:g} s")
            told = list(_live(topology, ground, began_s))
            counted = {"rst_packets": ground.resets(), "guarded": ground.guarded()}
            findings = {program.name: program.end() for program in programs}
        finally:
            for program in programs:
                program.kill()
    return record(topology, findings, counted, told)


def _firewalls_first(topology: model.Topology) -> list[str]:
    firewalls = [config.name for config in topology.firewalls]
    return firewalls + [config.name for config in topology.hosts if config.name not in firewalls]


def _live(topology: model.Topology, ground: Ground, began_s: float) -> Iterable[Told]:
    """Let time pass, and break what is to break."""
    moments = [(fault.at_s, fault, True) for fault in topology.faults]
    moments += [(fault.until_s, fault, False) for fault in topology.faults if fault.until_s is not None]
    for at_s, fault, is_cut in sorted(moments, key=lambda moment: moment[0]):
        _sleep_until(began_s + at_s)
        ground.cut(fault.what, is_cut=is_cut)
        words = f"{fault.kind.value} {fault.what}{'' if is_cut else ' is over'}"
        yield Told(time.monotonic() - began_s, fault.what, 0, "fault" if is_cut else "mended", words)
    _sleep_until(began_s + topology.lasts_s)


def _sleep_until(until_s: float) -> None:
    time.sleep(max(until_s - time.monotonic(), 0.0))


def record(
    topology: model.Topology,
    findings: Mapping[str, station.Findings],
    counted: Mapping[str, Mapping[str, int]],
    told: Iterable[Entry],
) -> Run:
    """What the programs saw, as the record of one run."""
    counts: dict[str, dict[str, int]] = {what: {} for what in COUNTED}
    for name, found in findings.items():
        for what, count in found.counts.items():
            counts.setdefault(what, {})[name] = count
    for what, by_host in counted.items():
        counts[what] = dict(by_host)
    log: list[Entry] = [*told]
    for found in findings.values():
        log += found.log
    fates = _fates(findings.values())
    master = station.master_of(topology)
    return Run(
        topology=topology,
        log=tuple(sorted(log, key=lambda entry: entry.t_s)),
        fates=tuple(fate for fate in fates if not fate.is_plain),
        fine=sum(fate.is_plain and not fate.is_backend for fate in fates),
        open_at_fault=sum(fate.was_open_at_fault and not fate.is_backend for fate in fates),
        answered=sum(found.answered for found in findings.values()),
        counts=counts,
        back_most=max(found.back_most for found in findings.values()),
        double_s=0.0,
        roles=tuple(RoleChange(0.0, carp.vhid, master.name, True) for carp in master.carp),
        events=sum(found.events for found in findings.values()),
    )


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
