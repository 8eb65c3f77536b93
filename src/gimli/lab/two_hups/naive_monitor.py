"""A monitor as the story describes it, with its faults: for the laboratory only.

Run as ``python -I -S naive_monitor.py DIRECTORY PREDECESSOR SERVICE END_S``; PREDECESSOR and SERVICE are
pids, 0 for the first monitor, which starts the service. Its faults, each of them plausible alone:

1. On HUP it starts a fresh copy of itself, which takes over once it stands. Until then a second HUP starts
   another.
2. A copy that finds the pidfile with another pid than its predecessor's holds that process for an intruder,
   and sends it TERM.
3. TERM from another monitor, its own copy excepted, is answered in kind, because a monitor must be protected:
   a service without one is unwatched.
4. It looks after its service when no signal has come for a while. Under a storm of TERM that is never.

What it writes into ``monitor.log`` is what the story's operators could see. ``observed`` is for the
laboratory: each HUP with its sender, each copy. It ends by itself at END_S on the monotonic clock,
whatever it has got into: alarm(2) survives execve.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time

_SIGNALS = frozenset({signal.SIGHUP, signal.SIGTERM})
_QUIET_S = 0.2
SERVICE = ("/bin/sleep", "120")


class NaiveMonitor:
    """One copy."""

    def __init__(self, directory: str, predecessor: int, service: int, end_s: float) -> None:
        self.directory = directory
        self.end_s = end_s
        self.predecessor = predecessor
        self.service = service
        self.copies: set[int] = set()
        self.intruders: set[int] = set()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.log_fd = os.open(os.path.join(directory, "monitor.log"), flags, 0o600)
        self.observed_fd = os.open(os.path.join(directory, "observed"), flags, 0o600)
        if not self.service:
            self.service = os.posix_spawn(SERVICE[0], SERVICE, os.environ)
        self.take_over()

    def run(self) -> None:
        """Wait for signals; look after the service in between."""
        while True:
            received = signal.sigtimedwait(_SIGNALS, _QUIET_S)
            if received is None:
                self.look_after_service()
            elif received.si_signo == signal.SIGHUP:
                self.observe("HUP", received.si_pid)
                self.log("received HUP, making a copy to take over")
                copy = self.copy()
                self.copies.add(copy)
                self.observe("made", copy)
            else:
                self.log("received TERM, terminating")
                if received.si_pid in self.copies:
                    sys.exit(0)
                self.protect(received.si_pid)

    def take_over(self) -> None:
        """Hold the pidfile; whoever holds it must go, predecessor or not."""
        holder = self.holder()
        with open(os.path.join(self.directory, "monitor.pid.new"), "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        # As the story's: each claims the name in turn, nothing is locked.
        with contextlib.suppress(FileNotFoundError):
            os.rename(file.name, os.path.join(self.directory, "monitor.pid"))
        self.observe("took over", holder)
        self.log("took over")
        for other in {holder, self.predecessor} - {0, os.getpid()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGTERM)

    def protect(self, sender: int) -> None:
        """Intruders that live get TERM; without one the TERM is the operator's, and is honoured."""
        self.intruders |= {sender, self.holder()} - {0, os.getpid()}
        self.intruders = {pid for pid in self.intruders if self.is_monitor(pid)}
        if not self.intruders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.service, signal.SIGTERM)
            sys.exit(0)
        for pid in self.intruders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def copy(self) -> int:
        """A new process with the same program."""
        arguments = (self.directory, str(os.getpid()), str(self.service), str(self.end_s))
        command = (sys.executable, "-I", "-S", os.path.abspath(__file__), *arguments)
        child = os.fork()
        if not child:
            os.execv(command[0], command)
        return child

    def look_after_service(self) -> None:
        """Start it again if it has ended."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.service, os.WNOHANG)
        try:
            os.kill(self.service, 0)
        except ProcessLookupError:
            self.service = os.posix_spawn(SERVICE[0], SERVICE, os.environ)
            self.observe("service started", self.service)

    def holder(self) -> int:
        """The pid in the pidfile; 0 without one."""
        try:
            with open(os.path.join(self.directory, "monitor.pid"), encoding="ascii") as file:
                return int(file.read() or 0)
        except (FileNotFoundError, ValueError):
            return 0

    def is_monitor(self, pid: int) -> bool:
        """Whether that process is a copy of this program."""
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return os.fsencode(__file__) in file.read()
        except OSError:
            return False

    def log(self, words: str) -> None:
        """One line, as long as there is room."""
        with contextlib.suppress(OSError):  # the limit on the file, which stands for a full /var
            stamp = time.strftime("%b %d %H:%M:%S")
            os.write(self.log_fd, f"{stamp} monitor[{os.getpid()}]: {words}\n".encode())

    def observe(self, what: str, pid: int) -> None:
        """What the laboratory reads: the moment, this process, the other, and its name if it is there."""
        now_ns = time.monotonic_ns()
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                comm = file.read().strip()
        except OSError:
            comm = ""
        line = {"monotonic_ns": now_ns, "pid": os.getpid(), "what": what, "other": pid, "comm": comm}
        with contextlib.suppress(OSError):
            os.write(self.observed_fd, json.dumps(line).encode() + b"\n")


def main() -> None:
    """One monitor, from its arguments."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    directory, predecessor, service, end_s = sys.argv[1:]
    signal.alarm(max(1, int(float(end_s) - time.monotonic())))
    NaiveMonitor(directory, int(predecessor), int(service), float(end_s)).run()


if __name__ == "__main__":
    main()
