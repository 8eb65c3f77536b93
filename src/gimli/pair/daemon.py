"""One host of a pair, on this kernel: facts to the node, its orders carried out.

    packet sockets, netlink, timers, tracker, sync, signals --> Node --> presence, replication, journal, hooks

Nothing is decided here. What may block is elsewhere: looks at services in a thread (``track``), commands of
``up`` and ``down`` in processes that are not waited for. The loop beats (``gimli.client``), so that a monitor
that runs this daemon sees it hang; the kernel sees it by itself, when the lease is not renewed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from gimli import client, clock, lock, paths, process
from gimli.control.server import Server
from gimli.errors import GimliError
from gimli.journal import Journal
from gimli.loop import Loop
from gimli.pair import carp_actions, punctuality, syncactions
from gimli.pair.address import AddressRefused, remove_leftovers
from gimli.pair.hooks import Hooks
from gimli.pair.host import Host
from gimli.pair.lease import LeaseLapsed
from gimli.pair.linkwatch import AddressWent
from gimli.pair.nft import GuardRefused
from gimli.pair.node import Emit, Node, Note, Order
from gimli.pair.replication import Replication, load_epoch, save_epoch
from gimli.pair.statesync import StateSync
from gimli.pair.status import describe
from gimli.pair.track import Tracker
from gimli.pair.vhid import Role
from gimli.signals import SignalReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.control.server import Connection
    from gimli.loop import Deadline
    from gimli.pair.config import Pair
    from gimli.pair.linkwatch import LinkEvent
    from gimli.pair.warden import Look

T = TypeVar("T")

INSTANCE = "pair"
SOCKET_NAME = "status.sock"
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_BEAT_S = 0.5
_TRY_AGAIN_S = 1.0


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
        self._timers: dict[tuple[int, carp_actions.Timer], Deadline] = {}
        self._orders: deque[Order | Emit | Note | syncactions.Action] = deque()
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
        # It ends with the boot, as the kernel's connections do.
        self._owner_path = os.path.join(self._runtime_dir, "owner")
        self._epoch_path = os.path.join(state_dir, "epoch")
        self._host = Host(pair, self._runtime_dir)
        for words in remove_leftovers(self._host.places):
            self._journal.record("leftover-removed", what=words, of=lost_pid)
        self._hooks = Hooks(self._loop, self._journal)
        self._sync = self._make_sync()
        rising = any(carp.strict_replay for carp in pair.carp)  # also over a restart
        cookie = time.time_ns() if rising else secrets.randbits(62)
        self._node = Node(pair, self._host.sources(), cookie, self._sync)
        self._replication: Replication | None = None
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
        self._host.open(self._loop, self._heard, self._links_changed, self._guard_changed)
        if self._sync and self._pair.sync:
            self._replication = Replication(
                self._pair.sync,
                self._sync,
                self._loop,
                self._received,
                self._sync_due,
                self._sync_ordered,
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
        self._node.begin(_now_s(), is_heir=os.path.exists(self._owner_path))
        self._links_changed([])
        self._beat()
        client.running()

    # Facts, to the node.

    def _heard(self, interface: str, ip_packet: bytes) -> None:
        self._node.heard(interface, ip_packet, _now_s())
        self._carry_out()

    def _received(self, datagram: bytes) -> None:
        self._node.received(datagram, _now_s())
        self._carry_out()

    def _sync_due(self) -> None:
        self._node.sync_due(_now_s())
        self._carry_out()

    def _sync_ordered(self, actions: list[syncactions.Action]) -> None:
        self._node.sync_ordered(actions, _now_s())
        self._carry_out()

    def _links_changed(self, events: list[LinkEvent]) -> None:
        now_s = _now_s()
        for event in events:
            if isinstance(event, AddressWent):
                self._have_again(event)
        for vhid, why in self._host.obstacles().items():
            if why:
                self._node.obstructed(vhid, "link", why, now_s)
            else:
                self._node.freed(vhid, "link", now_s)
        self._node.found(self._host.look_at_links(), now_s)
        if self._replication:
            self._replication.filter.own = self._host.own_addresses()
        self._carry_out()

    def _guard_changed(self, looks: list[Look]) -> None:
        """The rules were looked at, for somebody else had changed them: without them nobody takes part."""
        for look in looks:
            for words in look.altered or look.wrong:
                self._journal.record("guard-altered", what=words, mended=not look.wrong)
            for carp in self._pair.carp:
                if look.wrong:
                    why = f"the guard is not in place: {look.wrong[0]}"
                    self._node.obstructed(carp.vhid, "guard", why, _now_s())
                    continue
                self._node.freed(carp.vhid, "guard", _now_s())
                if self._is_master(carp.vhid):
                    self._hold(carp.vhid, self._host.presences[carp.vhid].keep_lease)
        self._carry_out()

    def _found(self, _: int) -> None:
        assert self._tracker is not None
        self._node.found(self._tracker.take(), _now_s())
        self._carry_out()

    def _have_again(self, event: AddressWent) -> None:
        """Somebody else has removed an address of a MASTER: it is taken again, and told."""
        for place in self._host.places:
            is_ours = event.address in {text.partition("/")[0] for text in place.addresses}
            if place.device == event.interface and is_ours and self._is_master(place.vhid):
                self._journal.record("address-removed", vhid=place.vhid, address=event.address)
                self._try(place.vhid, "addresses", self._host.presences[place.vhid].take_addresses)

    def _is_master(self, vhid: int) -> bool:
        return self._node.vhid(vhid).role is Role.MASTER

    def _expired(self, vhid: int, timer: carp_actions.Timer) -> None:
        self._node.expired(vhid, timer, _now_s())
        self._carry_out()
        if timer is carp_actions.Timer.ADVERTISE:
            self._host.ask_for_carriers()

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
                self._node.stop(f"received {name}", _now_s())
                self._carry_out()

    def _beat(self) -> None:
        client.beat()
        if self._tracker:
            self._node.found([self._tracker.late()], _now_s())
            self._carry_out()
        self._loop.after(_BEAT_S, self._beat)

    # Orders, to the kernel.

    def _carry_out(self) -> None:
        """All that is ordered, and what the kernel's answers to it cause, in order."""
        self._orders.extend(self._node.take_orders())
        while self._orders:
            self._do(self._orders.popleft())
            self._orders.extend(self._node.take_orders())
        if self._replication:
            self._replication.settle()

    def _do(self, order: Order | Emit | Note | syncactions.Action) -> None:
        match order:
            case Emit():
                self._emit(order)
            case Order(vhid, action):
                self._do_for(vhid, action)
            case Note(event, details):
                self._note(event, dict(details))
            case syncactions.Tell(event, details):
                self._note(event, dict(details))
            case syncactions.RememberEpoch(epoch):
                self._loop.after(0.0, lambda: self._remember(epoch))  # not before the addresses
            case _:
                assert self._replication is not None
                self._replication.carry_out(order)

    def _emit(self, order: Emit) -> None:
        presence = self._host.presences[order.vhid]
        if order.advertisement.is_bow_out:
            presence.bow_out(order.advertisement)
        else:
            errors = self._hold(order.vhid, lambda: presence.advertise(order.advertisement))
            if errors is None:
                return
            self._node.sent(order.vhid, errors, _now_s())
        for action in order.also:
            assert self._replication is not None
            self._replication.carry_out(action)

    def _hold(self, vhid: int, keep: Callable[[], T]) -> T | None:
        """Do what needs the lease; None when that was not possible. What follows from it the node knows."""
        presence = self._host.presences[vhid]
        try:
            return keep()
        except LeaseLapsed:
            self._node.lease_lapsed(vhid, presence.silent_s(), _now_s())
        except GuardRefused as refused:
            self._host.look_at_guard()
            if presence.has_time:
                return None  # until that is over it may be mended, and then nothing has happened
            self._node.obstructed(vhid, "guard", str(refused), _now_s())
        self._withdraw(vhid)
        return None

    def _withdraw(self, vhid: int) -> None:
        """What a MASTER was about to do for a vhid is void: it is none any more."""
        self._orders = deque(order for order in self._orders if not _is_masters(order, vhid))

    def _do_for(self, vhid: int, action: carp_actions.Action) -> None:
        presence = self._host.presences[vhid]
        match action:
            case carp_actions.Arm(timer, after_s):
                self._disarm(vhid, timer)
                self._timers[vhid, timer] = self._loop.after(after_s, lambda: self._expired(vhid, timer))
            case carp_actions.Disarm(timer):
                self._disarm(vhid, timer)
            case carp_actions.TakeLease():
                self._try(vhid, "guard", presence.take_lease)
            case carp_actions.DropLease():
                self._let_go(vhid, presence.drop_lease)
            case carp_actions.TakeAddresses():
                self._try(vhid, "addresses", presence.take_addresses)
            case carp_actions.DropAddresses():
                self._let_go(vhid, presence.drop_addresses)
            case carp_actions.Announce():
                if error := presence.announce():
                    self._journal.record("announce-failed", vhid=vhid, why=error)
            case _:
                raise AssertionError(f"the node keeps {action} to itself")

    def _disarm(self, vhid: int, timer: carp_actions.Timer) -> None:
        if deadline := self._timers.pop((vhid, timer), None):
            deadline.cancel()

    def _try(self, vhid: int, subject: str, take: Callable[[], None]) -> None:
        """Take something; where the kernel refuses, the vhid is out for a moment."""
        try:
            take()
        except (GuardRefused, AddressRefused) as refused:
            self._node.obstructed(vhid, subject, str(refused), _now_s())
            self._withdraw(vhid)
            self._loop.after(_TRY_AGAIN_S, lambda: self._free(vhid, subject))

    def _free(self, vhid: int, subject: str) -> None:
        self._node.freed(vhid, subject, _now_s())
        self._carry_out()

    def _let_go(self, vhid: int, drop: Callable[[], None]) -> None:
        """Let go of something, again and again until it is gone."""
        try:
            drop()
        except (GuardRefused, AddressRefused) as refused:
            self._journal.record("not-let-go", vhid=vhid, why=str(refused))
            self._loop.after(_TRY_AGAIN_S, lambda: self._let_go_unless_master(vhid, drop))

    def _let_go_unless_master(self, vhid: int, drop: Callable[[], None]) -> None:
        if not self._is_master(vhid):
            self._let_go(vhid, drop)

    def _note(self, event: str, details: dict[str, Any]) -> None:
        self._journal.record(event, **details)
        if event == "role":
            carp = next(carp for carp in self._pair.carp if carp.vhid == details["vhid"])
            self._hooks.role_changed(carp, details["role"])

    def _remember(self, epoch: int) -> None:
        """Say to the next daemon which epochs there were, and whether the last one's connections are here."""
        save_epoch(self._epoch_path, epoch)
        with contextlib.suppress(OSError):  # then the other node takes over, in its time
            if self._sync and self._sync.is_owner:
                os.close(os.open(self._owner_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            else:
                os.unlink(self._owner_path)

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

    def _make_sync(self) -> StateSync | None:
        told = self._pair.sync
        if told is None:
            return None
        return StateSync(secrets.randbits(63) + 1, told.password, told.mode, load_epoch(self._epoch_path))

    def _close(self) -> None:
        """Leave nothing behind but the guard, which keeps a host that takes no part silent."""
        if self._server:
            self._server.close()
        if self._tracker:
            self._loop.forget(self._tracker.fileno())
            self._tracker.close()
        if self._replication:
            self._replication.close()
        for words in self._host.close():
            self._journal.record("not-let-go", why=words)
        self._hooks.finish()
        self._journal.record("pair-ended", pid=os.getpid())
        paths.unlink_if_there(self._lock_path)
        os.close(self._lock_fd)


def _is_masters(order: Order | Emit | Note | syncactions.Action, vhid: int) -> bool:
    match order:
        case Emit(number, advertisement):
            return number == vhid and not advertisement.is_bow_out
        case Order(number, carp_actions.TakeAddresses() | carp_actions.Announce()):
            return number == vhid
    return False


def _now_s() -> float:
    return clock.monotonic_ns() / clock.NANOSECONDS
