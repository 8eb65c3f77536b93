"""Does everything hold, at every moment? Seen from outside: /proc, the logs, the journal.

A thread of its own looks every few milliseconds while the storm goes on. What it finds is judged by the
moments at which the storm did something that explains it.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, Self

from gimli import journal
from gimli.control import client
from gimli.errors import GimliError
from tests.chaos import witness
from tests.chaos.stage import EXTRA, LOG_CAP_BYTES, SERVICES, Stage, is_alive, zombies_of
from tests.chaos.tail import Tail
from tests.chaos.timeline import Breach, Timeline

if TYPE_CHECKING:
    from gimli.process import ProcessId

_POLL_S = 0.02
_SCAN_S = 0.25
_ZOMBIE_S_MAX = 3.0
_MONITORS_S_MAX = 1.5
_JOURNAL_BYTES_MAX = 8_000_000
_LINE_BYTES_MAX = 65_536
_MARGIN_MS = 1500
"""A line may wait in the FIFO between its time stamp and what happened to it."""


class Watch:
    """The rules, and what broke them."""

    def __init__(self, stage: Stage) -> None:
        self.timeline = Timeline()
        self.descriptors_max = 0
        self.blind = 0
        self.full_ms: list[tuple[int, int]] = []
        """When the disk was full, and until when."""
        self.killed_ms: list[int] = []
        self.monitor_may_end = threading.Event()
        self.monitor_is_stopped = threading.Event()
        self._stage = stage
        self._journal = Tail(stage.journal_path)
        self._journal_rest = b""
        self._accounts = {name: witness.Account() for name in (*SERVICES, EXTRA)}
        self._logs = {name: Tail(stage.log_path(name)) for name in self._accounts}
        self._alarms: dict[str, int] = {}
        self._zombies: dict[int, float] = {}
        self._doubles: dict[frozenset[ProcessId], float] = {}
        self._dead_monitor: ProcessId | None = None
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def breaches(self) -> list[Breach]:
        """All that were seen."""
        return self.timeline.breaches

    def breach(self, what: str) -> None:
        """Somebody else has seen one."""
        with self._lock:
            self.timeline.breach(what)

    def lines(self) -> int:
        """How many lines of output arrived."""
        return sum(account.lines for account in self._accounts.values())

    def close(self) -> None:
        """Judge the output, when all witnesses have ended and their lines have arrived."""
        self._poll()
        for name, account in self._accounts.items():
            written = {} if self.blind else witness.counts(self._stage.place(name))
            seen = set()
            for fault in account.close(written):
                if not self._is_excused(fault) and (fault.instance, fault.what) not in seen:
                    seen.add((fault.instance, fault.what))
                    self.breach(f"{name} {fault.instance}: {fault.what} ({self._near(fault)})")
        for tail in (self._journal, *self._logs.values()):
            tail.close()

    def _is_excused(self, fault: witness.Fault) -> bool:
        """A full disk takes output; and a pipe that nobody holds any more, the end of it."""
        if "the last lines" in fault.what and int(fault.instance.partition(".")[0]) in self.timeline.unseen:
            return True
        since_ms, until_ms = fault.since_ms - _MARGIN_MS, fault.until_ms + _MARGIN_MS
        return any(begin <= until_ms and since_ms <= end for begin, end in self.full_ms)

    def _near(self, fault: witness.Fault) -> str:
        kills = [at_ms - fault.since_ms for at_ms in self.killed_ms]
        nearest = min(kills, key=abs, default=None)
        return f"after {fault.since_ms} ms, before {fault.until_ms} ms, nearest kill -9 at {nearest} ms"

    def _run(self) -> None:
        scan_s = 0.0
        while not self._ends.wait(_POLL_S):
            self._poll()
            if time.monotonic() >= scan_s:
                self._scan()
                scan_s = time.monotonic() + _SCAN_S

    def _poll(self) -> None:
        with self._lock:
            self._read_journal()
            for name, tail in self._logs.items():
                data = tail.poll()
                if tail.is_blind:
                    self.blind += 1
                    self._accounts[name].forget()
                self._accounts[name].feed(data)

    def _read_journal(self) -> None:
        data = self._journal_rest + self._journal.poll()
        if self._journal.is_blind:
            self.blind += 1
            self.timeline.forget()
        *lines, self._journal_rest = data.split(b"\n")
        for line in lines:
            entry = journal.parse_line(line)
            if entry is not None:
                if entry["event"] == "monitor-started" and self._is_full_lately():
                    self.timeline.forget()  # the count of lost lines died with the monitor that had it
                self.timeline.feed(entry)
            elif not self._is_full_lately():
                self.timeline.breach(f"a line of the journal is none: {line[:100]!r}")

    def _is_full_lately(self) -> bool:
        now_ms = time.monotonic_ns() // 1_000_000
        return any(begin <= now_ms <= end + _MARGIN_MS for begin, end in self.full_ms)

    def _scan(self) -> None:
        self._look_for_doubles()
        self._look_at_monitor()
        self._look_at_disk()
        for name in self._accounts:
            alarms = witness.alarms(self._stage.place(name))
            for alarm in alarms[self._alarms.get(name, 0) :]:
                self.breach(alarm)
            self._alarms[name] = len(alarms)

    def _look_for_doubles(self) -> None:
        for name, copies in self._stage.services().items():
            # One may have ended while we looked for the other: what counts is who lives now.
            living = [copy for copy in copies if is_alive(copy)]
            if len(living) > 1 and all(is_alive(copy) for copy in living):
                self.breach(f"two copies of {name}: {living}")
        monitors = frozenset(self._stage.monitors())
        now_s = time.monotonic()
        if len(monitors) > 1:
            since_s = self._doubles.setdefault(monitors, now_s)
            # Less than that: a child of the monitor between fork and exec, or a start that is refused.
            if now_s - since_s > _MONITORS_S_MAX:
                self.breach(f"two monitors for {now_s - since_s:.1f} s: {sorted(m.pid for m in monitors)}")
                self._doubles[monitors] = now_s + 3600
        else:
            self._doubles.clear()

    def _look_at_monitor(self) -> None:
        monitor = self._stage.monitor
        if monitor is None or self.monitor_may_end.is_set():
            return
        if not is_alive(monitor):
            if self._stage.monitor == monitor and not self.monitor_may_end.is_set():
                if self._dead_monitor != monitor:
                    self.breach(f"the monitor {monitor.pid} has ended, and nobody had ended it")
                self._dead_monitor = monitor
            return
        try:
            self.descriptors_max = max(self.descriptors_max, len(os.listdir(f"/proc/{monitor.pid}/fd")))
        except OSError:
            return
        zombies = zombies_of(monitor.pid)
        now_s = time.monotonic()
        if self.monitor_is_stopped.is_set():
            self._zombies.clear()
        self._zombies = {pid: self._zombies.get(pid, now_s) for pid in zombies}
        for pid, since_s in self._zombies.items():
            if now_s - since_s > _ZOMBIE_S_MAX:
                self.breach(f"the monitor's child {pid} is a zombie for {now_s - since_s:.1f} s")
                self._zombies[pid] = now_s + 3600

    def _look_at_disk(self) -> None:
        if self._stage.is_disk_full():  # by us, or by cores
            now_ms = time.monotonic_ns() // 1_000_000
            self.full_ms.append((now_ms - round(_SCAN_S * 1000), now_ms))
        limits = {self._stage.log_path(name): LOG_CAP_BYTES + _LINE_BYTES_MAX for name in self._accounts}
        limits[self._stage.journal_path] = _JOURNAL_BYTES_MAX
        for path, limit in limits.items():
            for each in (path, path + ".1"):
                try:
                    size = os.stat(each).st_size
                except OSError:
                    continue
                if size > limit:
                    self.breach(f"{each} has {size} bytes, its cap is {limit}")


def cpu_ns(who: ProcessId) -> int:
    """CPU time that a process has used."""
    with open(f"/proc/{who.pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


def descriptors(who: ProcessId) -> list[str]:
    """What its descriptors are, without the numbers of sockets and pipes."""
    directory = f"/proc/{who.pid}/fd"
    found = []
    for fd in os.listdir(directory):
        try:
            target = os.readlink(os.path.join(directory, fd))
        except OSError:
            continue
        found.append(re.sub(r":\[\d+\]", "", target))
    return sorted(found)


def service_states(stage: Stage) -> dict[str, str]:
    """The state of each service, by the monitor's own word; empty when it does not answer."""
    try:
        answer = client.call(stage.socket_path, "ps")
    except GimliError:
        return {}
    return {service["name"]: service["state"] for service in answer["services"]}
