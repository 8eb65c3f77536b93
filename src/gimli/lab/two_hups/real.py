"""What does one real rotation do to a real monitor?

Both monitors live in a cage of their own (``gimli.lab.cage``) and get what the same logrotate sends. What is
observed is facts: the kernel's siginfo of each HUP, processes in /proc, bytes on disk, the fate of a TERM.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from gimli import journal, process
from gimli.control import client
from gimli.errors import GimliError
from gimli.lab import cage
from gimli.lab.pictures import Chart, Curve
from gimli.lab.scenario import Moment
from gimli.lab.two_hups import logrotate, naive_monitor
from gimli.lab.two_hups.model import Hup, Outcome, Setup, Takeover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOG_LIMIT_BYTES = 1_000_000
"""How much a monitor may write: it stands for a full /var, and spares that of whoever tries this."""
_WATCHED_S = 3.0
"""How long a monitor is watched after the rotation, unless its log is full before."""
_SETTLED_S = 0.6
"""Nothing new for so long: all takeovers have ended. Many times what one takes."""
_LOOK_EVERY_S = 0.02
_PATIENCE_S = 20.0
_TERM_WITHIN_S = 1.0
_RESTART_WITHIN_S = 1.0
_NAIVE_MOST_S = 60.0
_SERVICE = "lab"


@dataclass(frozen=True, slots=True)
class Observed:
    """One real run."""

    outcome: Outcome
    story: tuple[Moment, ...]
    charts: tuple[Chart, ...]
    rotation_s: float


def play(setup: Setup, gimli: tuple[str, ...], tell: Callable[[str], None]) -> Observed:
    """Rotate once, watch what happens, send TERM, and clean up.

    Args:
        setup: the stanza; its ``takeover`` says whose monitor it is.
        gimli: the command that is ``gimli``.
        tell: called with what is done now.

    Raises:
        GimliError: logrotate is missing, or a monitor does not start.
    """
    logrotate.find()
    directory = tempfile.mkdtemp(prefix="gimli-lab-")
    make = _Gimli if setup.takeover is Takeover.IN_PLACE else _Naive
    with make(directory, gimli) as subject:
        logrotate.write_logs(setup, directory)
        error_log = _size(setup.log_bytes[0])
        tell(f"{subject.name}: logrotate sends HUP ({setup.script.value}, {error_log} error log)")
        return _watch(subject, setup)


def _watch(subject: _Subject, setup: Setup) -> Observed:
    service = subject.service()
    began_bytes = subject.written_bytes()
    began_s = time.monotonic()
    rotation = logrotate.rotate(setup, subject.directory, subject.environment)
    samples = list(_samples(subject, began_s))
    watched_s = samples[-1][0]
    alive = samples[-1][1]
    written = subject.written_bytes() - began_bytes
    is_kept = subject.service() == service and process.identify(service or 0) is not None
    is_endless = written > LOG_LIMIT_BYTES // 20
    is_watched = subject.is_service_watched()
    is_term_honoured = subject.ends_by_term()
    events = subject.events(rotation)
    origin_ns = min((at_ns for at_ns, _ in events), default=int(began_s * 1e9))
    hups = tuple(Hup((at_ns - origin_ns) / 1e6, sender) for at_ns, sender in subject.hups(rotation))
    took_ms = subject.takeover_ms()
    outcome = Outcome(
        hups=hups,
        monitors_after=alive,
        monitors_most=max(count for _, count, _ in samples),
        is_endless=is_endless,
        log_bytes=written,
        log_bytes_per_s=growth_bytes_per_s(samples) if is_endless else 0.0,
        watched_s=watched_s,
        takeovers=len(took_ms),
        takeover_ms=took_ms,
        is_term_honoured=is_term_honoured,
        is_service_kept=is_kept,
        is_service_watched=is_watched,
    )
    story = tuple(Moment((at_ns - origin_ns) / 1e6, subject.name, words) for at_ns, words in events)
    shift_ms = origin_ns / 1e6 - began_s * 1000
    points = [(at_s * 1000 - shift_ms, count, size) for at_s, count, size in samples]
    charts = (
        _chart(subject.name, "monitors alive", "", [(at_ms, count) for at_ms, count, _ in points]),
        _chart(subject.name, "log", "bytes", [(at_ms, size) for at_ms, _, size in points]),
    )
    return Observed(outcome, story, charts, rotation.took_s)


def _chart(where: str, what: str, unit: str, points: Sequence[tuple[float, int]]) -> Chart:
    curve = Curve(where, what, tuple((at_ms, float(value)) for at_ms, value in points))
    return Chart(f"{where}: {what}", unit, (curve,))


def growth_bytes_per_s(samples: Sequence[tuple[float, int, int]]) -> float:
    """How fast the log grew while it did: between the first and the last sample that found it larger."""
    grew = [(at_s, size) for (_, _, before), (at_s, _, size) in itertools.pairwise(samples) if size > before]
    if len(grew) < 2:
        return 0.0
    return (grew[-1][1] - grew[0][1]) / (grew[-1][0] - grew[0][0])


def _samples(subject: _Subject, began_s: float) -> Iterator[tuple[float, int, int]]:
    """(seconds, monitors alive, bytes written), until nothing happens any more, or the log is full."""
    zero = subject.written_bytes()
    changed_s = time.monotonic()
    last = (0, -1)
    while True:
        now_s = time.monotonic()
        seen = (subject.monitors(), subject.written_bytes())
        if seen != last:
            last, changed_s = seen, now_s
        yield now_s - began_s, *seen
        is_full = seen[1] >= LOG_LIMIT_BYTES * 0.99
        if now_s - changed_s > _SETTLED_S or now_s - began_s > _WATCHED_S or (is_full and zero < seen[1]):
            return
        # A look from outside at programs that do not report: there is nothing to wait on.
        time.sleep(_LOOK_EVERY_S)


class _Subject:
    """A monitor in a cage."""

    name = ""
    limit_bytes = LOG_LIMIT_BYTES

    def __init__(self, directory: str, gimli: tuple[str, ...]) -> None:
        self.directory = directory
        self.environment = os.environ | {"LC_ALL": "C"}
        self._gimli = gimli

    def __enter__(self) -> Self:
        command = (sys.executable, "-I", "-S", cage.__file__, self.directory, str(self.limit_bytes))
        with open(os.path.join(self.directory, "said"), "wb") as said:
            self._cage = subprocess.Popen(
                [*command, *self.command()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=self.environment,
            )
        try:
            self.pid = self._first_pid()
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """The end of its input makes the cage kill all in it and remove the directory."""
        for stream in (self._cage.stdin, self._cage.stdout):
            if stream is not None:
                stream.close()
        self._cage.wait(_PATIENCE_S)

    def _first_pid(self) -> int:
        """What the cage has started."""
        assert self._cage.stdout is not None
        line = self._cage.stdout.readline()
        if not line:
            raise GimliError("the cage of the experiment did not start", why=self._said())
        return int(line)

    def command(self) -> tuple[str, ...]:
        """What runs in the cage."""
        raise NotImplementedError

    def wait_until_ready(self) -> None:
        """Return when it takes HUPs, and the pidfile says which process does."""
        raise NotImplementedError

    def monitors(self) -> int:
        """How many monitors live in the cage."""
        return len(self.monitor_pids())

    def monitor_pids(self) -> list[int]:
        """The living processes with a monitor's image."""
        raise NotImplementedError

    def service(self) -> int | None:
        """The service's pid, if it runs."""
        raise NotImplementedError

    def written_bytes(self) -> int:
        """All that the monitor has written into its logs."""
        raise NotImplementedError

    def hups(self, rotation: logrotate.Rotation) -> list[tuple[int, str]]:
        """The HUPs that it has received: monotonic nanoseconds, and the sender."""
        raise NotImplementedError

    def events(self, rotation: logrotate.Rotation) -> list[tuple[int, str]]:
        """What has happened to it, HUPs and all, in order: monotonic nanoseconds, and words."""
        raise NotImplementedError

    def takeover_ms(self) -> tuple[float, ...]:
        """How long each takeover took."""
        raise NotImplementedError

    def is_service_watched(self) -> bool:
        """Kill the service: is there another soon?"""
        service = self.service()
        if service is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(service, signal.SIGKILL)
        return self.within(_RESTART_WITHIN_S, lambda: self.service() not in {None, service})

    def ends_by_term(self) -> bool:
        """The operator's TERM to the pid in the pidfile: do all monitors end?"""
        with open(os.path.join(self.directory, "monitor.pid"), encoding="ascii") as file:
            pid = int(file.read())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return self.within(_TERM_WITHIN_S, lambda: not self.monitors())

    def within(self, limit_s: float, is_so: Callable[[], bool]) -> bool:
        """Whether something comes true in time; seen from outside, so by looking."""
        until_s = time.monotonic() + limit_s
        while not is_so():
            if time.monotonic() > until_s:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True

    def descendants(self) -> list[int]:
        """Every process in the cage."""
        found: list[int] = []
        waiting = [self._cage.pid]
        while waiting:
            children = cage.children_of(waiting.pop())
            found += children
            waiting += children
        return found

    def must(self, what: str, is_so: Callable[[], bool]) -> None:
        """Wait for it.

        Raises:
            GimliError: it does not come.
        """
        if not self.within(_PATIENCE_S, is_so):
            raise GimliError(f"{what} in {_PATIENCE_S:.0f} s", why=self._said())

    def _said(self) -> str:
        with open(os.path.join(self.directory, "said"), encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:].strip()


class _Naive(_Subject):
    """The monitor of the story."""

    name = "naive"

    def command(self) -> tuple[str, ...]:
        end_s = time.monotonic() + _NAIVE_MOST_S
        return (
            *(sys.executable, "-I", "-S", naive_monitor.__file__),
            *(self.directory, "0", "0", str(end_s)),
        )

    def wait_until_ready(self) -> None:
        self.must("the naive monitor did not start", lambda: bool(self._observed()))

    def monitor_pids(self) -> list[int]:
        image = naive_monitor.__file__
        return [pid for pid in self.descendants() if image in process.command_line(pid)]

    def service(self) -> int | None:
        found = [pid for pid in self.descendants() if process.command_name(pid) == "sleep"]
        return found[0] if found else None

    def written_bytes(self) -> int:
        return _size_of(os.path.join(self.directory, "monitor.log"))

    def hups(self, rotation: logrotate.Rotation) -> list[tuple[int, str]]:
        return [
            (line["monotonic_ns"], rotation.sender(line["other"], line["comm"]))
            for line in self._observed()
            if line["what"] == "HUP"
        ]

    def events(self, rotation: logrotate.Rotation) -> list[tuple[int, str]]:
        observed = self._observed()[1:]  # the first is the start of the first monitor
        made = iter([line["other"] for line in observed if line["what"] == "made"])
        found = []
        for line in observed:
            match line["what"]:
                case "HUP":
                    sender = rotation.sender(line["other"], line["comm"])
                    words = f"HUP to {line['pid']} from {sender}: it starts copy {next(made, '')}"
                case "took over":
                    words = f"copy {line['pid']} stands; {line['other']} held the pidfile: TERM to it"
                case "service started":
                    words = f"monitor {line['pid']} starts the service again, as {line['other']}"
                case _:
                    continue
            found.append((line["monotonic_ns"], words))
        return found

    def takeover_ms(self) -> tuple[float, ...]:
        """From each fork to the copy's hold of the pidfile."""
        made = {line["other"]: line["monotonic_ns"] for line in self._observed() if line["what"] == "made"}
        stands = [line for line in self._observed() if line["what"] == "took over" and line["pid"] in made]
        return tuple((line["monotonic_ns"] - made[line["pid"]]) / 1e6 for line in stands)

    def _observed(self) -> list[dict[str, Any]]:
        try:
            with open(os.path.join(self.directory, "observed"), encoding="utf-8") as file:
                return [json.loads(line) for line in file if line.endswith("\n")]
        except FileNotFoundError:
            return []


class _Gimli(_Subject):
    """Ours: ``gimli run``, as anybody would start it."""

    name = "gimli"
    limit_bytes = 64_000_000  # its library and its cores are no log

    def __init__(self, directory: str, gimli: tuple[str, ...]) -> None:
        super().__init__(directory, gimli)
        self._state = os.path.join(directory, "state")
        self._socket = os.path.join(directory, "run", f"run.{_SERVICE}", client.SOCKET_NAME)
        self._journal = os.path.join(self._state, "journal", f"run.{_SERVICE}.jsonl")
        self.environment |= {
            "GIMLI_STATE_DIR": self._state,
            "GIMLI_RUNTIME_DIR": os.path.join(directory, "run"),
        }

    def command(self) -> tuple[str, ...]:
        options = ("--name", _SERVICE, "--restart", "always")
        return (*self._gimli, "run", *options, "--", *naive_monitor.SERVICE)

    def wait_until_ready(self) -> None:
        self.must("gimli run did not start", lambda: self.service() is not None)
        with open(os.path.join(self.directory, "monitor.pid"), "w", encoding="ascii") as file:
            file.write(f"{self.pid}\n")

    def monitor_pids(self) -> list[int]:
        """A child of a monitor is none: its trial of a new image, or one that has yet to execute."""
        image = os.path.join("gimli", "monitor", "__main__.py")
        found = {pid for pid in self.descendants() if _is_monitor(process.command_line(pid), image)}
        return [pid for pid in found if process.parent_of(pid) not in found]

    def service(self) -> int | None:
        try:
            services = client.call(self._socket, "ps")["services"]
        except GimliError:
            return None
        return next((item["pid"] for item in services if item["state"] in {"running", "starting"}), None)

    def written_bytes(self) -> int:
        files = (
            os.path.join(where, name)
            for part in ("journal", "logs")
            for where, _, names in os.walk(os.path.join(self._state, part))
            for name in names
        )
        return sum(_size_of(path) for path in files)

    def hups(self, rotation: logrotate.Rotation) -> list[tuple[int, str]]:
        """From the journal alone; a folded line counts as often as it says."""
        found = []
        for entry in self._entries("signal"):
            if entry.get("signal") != "SIGHUP":
                continue
            sender = entry.get("sender") or {}
            who = rotation.sender(int(sender.get("pid") or 0), str(sender.get("comm") or ""))
            found += [(int(entry["monotonic_ns"]), who)] * int(entry.get("repeats") or 1)
        return found

    def events(self, rotation: logrotate.Rotation) -> list[tuple[int, str]]:
        found = [(at_ns, f"HUP from {sender}") for at_ns, sender in self.hups(rotation)]
        for entry in self._entries("takeover"):
            took = f" in {entry['took_ms']:.0f} ms" if "took_ms" in entry else ""
            found.append((int(entry["monotonic_ns"]), f"takeover in place, same pid{took}"))
        return sorted(found)

    def takeover_ms(self) -> tuple[float, ...]:
        return tuple(float(entry.get("took_ms") or 0) for entry in self._entries("takeover"))

    def _entries(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in journal.read(self._journal) if entry["event"] == event]


def _is_monitor(command: list[str], image: str) -> bool:
    return any(argument.endswith(image) for argument in command)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _size(size_bytes: int) -> str:
    if not size_bytes:
        return "empty"
    return f"{size_bytes / 1e6:g} MB" if size_bytes >= 1_000_000 else f"{size_bytes} byte"
