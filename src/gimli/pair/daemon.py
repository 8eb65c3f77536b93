"""One host of a pair as a process: what is it made of, when does it end, and what does it answer?

What happens, and what is to be done about it, goes between the node and the kernel in ``runtime``. What may
block is elsewhere: looks at services in a thread (``track``), commands of ``up`` and ``down`` in processes
that are not waited for. The loop beats (``gimli.client``), so that a monitor that runs this daemon sees it
hang; the kernel sees it by itself, when the lease is not renewed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from typing import TYPE_CHECKING, Any

from gimli import client, clock, lock, paths, process
from gimli.control.server import Server
from gimli.errors import GimliError
from gimli.journal import Journal
from gimli.loop import Loop
from gimli.pair import punctuality
from gimli.pair.address import remove_leftovers
from gimli.pair.hooks import Hooks
from gimli.pair.host import Host
from gimli.pair.nft import GuardRefused
from gimli.pair.node import Node, rising
from gimli.pair.replication import Replication, load_epoch, save_epoch
from gimli.pair.runtime import Runtime
from gimli.pair.statesync import StateSync
from gimli.pair.status import describe
from gimli.pair.track import Tracker
from gimli.signals import SignalReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.control.server import Connection
    from gimli.pair.config import Pair

INSTANCE = "pair"
SOCKET_NAME = "status.sock"
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_BEAT_S = 0.5


class Daemon:
    """One host of a pair.

    Args:
        pair: what it was told.
        tell: called with each journal entry, for a person who watches.

    Raises:
        GimliError: it cannot take part; nothing is left behind.
    """

    def __init__(self, pair: Pair, tell: Callable[[dict[str, Any]], None]) -> None:
        self._pair = pair
        self._loop = Loop()
        self._is_ending = False
        self._began = clock.now_rfc3339()
        self._runtime_dir = paths.make_private_dir(os.path.join(paths.runtime_dir(), INSTANCE))
        state_dir = paths.make_private_dir(os.path.join(paths.state_dir(), INSTANCE))
        journal_dir = paths.make_private_dir(os.path.join(paths.state_dir(), "journal"))
        self._lock_path = os.path.join(self._runtime_dir, "lock")
        self._lock_fd, lost_pid = lock.hold_instance(
            self._lock_path, "this host's part of the pair", "see: gimli pair status"
        )
        self._signals = SignalReader((*_ENDING, signal.SIGHUP))
        self._journal = Journal(os.path.join(journal_dir, f"{INSTANCE}.jsonl"))
        self._journal.subscribers.append(tell)
        epoch_path = os.path.join(state_dir, "epoch")
        self._memory = _Memory(epoch_path, os.path.join(self._runtime_dir, "owner"))
        self._host = Host(pair, self._runtime_dir)
        for words in remove_leftovers(self._host.places):
            self._journal.record("leftover-removed", what=words, of=lost_pid)
        self._hooks = Hooks(self._loop, self._journal)
        self._sync = _make_sync(pair, epoch_path)
        cookie = secrets.randbits(62)
        if any(carp.strict_replay for carp in pair.carp):
            cookie = rising(time.time_ns(), cookie)
        self._node = Node(pair, self._host.sources(), cookie, self._sync)
        self._runtime = Runtime(
            pair, self._node, self._loop, self._host, self._journal, self._hooks, self._memory
        )
        self._tracker: Tracker | None = None
        self._server: Server | None = None

    def run(self) -> None:
        """Take part until a signal ends it, in order.

        Raises:
            GimliError: it cannot take part.
        """
        try:
            self._begin()
            while not self._is_ending:
                self._loop.run_once()
        finally:
            self._close()

    def _begin(self) -> None:
        self._journal.record("pair-started", pid=os.getpid(), vhids=[carp.vhid for carp in self._pair.carp])
        runtime = self._runtime
        self._host.open(self._loop, runtime.heard, runtime.links_changed, runtime.guard_changed)
        if self._sync and self._pair.sync:
            runtime.replication = Replication(
                self._pair.sync,
                self._sync,
                self._loop,
                runtime.received,
                runtime.sync_due,
                runtime.sync_ordered,
                self._host.own_addresses(),
            )
        track = self._pair.track
        if track.services or track.default_route or track.command:
            self._tracker = Tracker(track)
            self._loop.watch(self._tracker.fileno(), self._found)
        self._server = Server(self._loop, os.path.join(self._runtime_dir, SOCKET_NAME), self._asked)
        self._loop.watch(self._signals.fd, self._signalled)
        client.attach()
        for why in filter(None, (punctuality.run_first(), punctuality.stay_in_memory())):
            self._journal.record("not-punctual", why=why)
        runtime.begin(is_heir=self._memory.is_heir)
        self._beat()
        client.running()

    # From this host.

    def _found(self, _: int) -> None:
        assert self._tracker is not None
        self._runtime.found(self._tracker.take())

    def _signalled(self, _: int) -> None:
        for received in self._signals.read():
            name = process.signal_name(received.signo)
            sender = process.describe_sender(received.pid, received.uid)
            self._journal.record("signal", signal=name, sender=sender)
            if received.signo == signal.SIGHUP:
                self._journal.reopen()
            elif not self._is_ending:
                self._is_ending = True
                client.stopping()
                self._runtime.stop(f"received {name}")

    def _beat(self) -> None:
        client.beat()
        if self._tracker:
            self._runtime.found([self._tracker.late()])
        self._loop.after(_BEAT_S, self._beat)

    # Questions.

    def _asked(self, request: dict[str, Any], _: Connection) -> dict[str, Any] | None:
        if request["call"] != "pair":
            raise GimliError(f"the pair does not know {request['call']}", fix="see: gimli pair --help")
        try:
            counts = self._host.guard_counts()
        except GuardRefused:
            counts = None
        about = {"pid": os.getpid(), "started": self._began}
        return about | describe(self._node, self._pair.carp, counts, _now_s())

    def _close(self) -> None:
        """Leave nothing behind but the guard, which keeps a host that takes no part silent."""
        if self._server:
            self._server.close()
        if self._tracker:
            self._loop.forget(self._tracker.fileno())
            self._tracker.close()
        if self._runtime.replication:
            self._runtime.replication.close()
        for words in self._host.close():
            self._journal.record("not-let-go", why=words)
        self._hooks.finish()
        self._journal.record("pair-ended", pid=os.getpid())
        paths.unlink_if_there(self._lock_path)
        os.close(self._lock_fd)


class _Memory:
    """What outlives the daemon.

    Args:
        epoch_path: on the disk, where it outlives the boot.
        owner_path: in the runtime directory, which ends with the boot, as the kernel's connections do.
    """

    def __init__(self, epoch_path: str, owner_path: str) -> None:
        self._epoch_path = epoch_path
        self._owner_path = owner_path

    @property
    def is_heir(self) -> bool:
        """Whether the highest epoch that this host knows was its own, in this boot."""
        return os.path.exists(self._owner_path)

    def remember_epoch(self, epoch: int, *, is_owner: bool) -> None:
        """As :class:`gimli.pair.runtime.Memory`."""
        save_epoch(self._epoch_path, epoch)
        with contextlib.suppress(OSError):  # then the other node takes over, in its time
            if is_owner:
                os.close(os.open(self._owner_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            else:
                os.unlink(self._owner_path)


def _make_sync(pair: Pair, epoch_path: str) -> StateSync | None:
    told = pair.sync
    if told is None:
        return None
    return StateSync(secrets.randbits(63) + 1, told.password, told.mode, load_epoch(epoch_path))


def _now_s() -> float:
    return clock.monotonic_ns() / clock.NANOSECONDS
