"""Who has the virtual addresses of a real firewall? Whoever ``gimli pair run`` says, on the real cables.

The daemon of the pair runs beside the firewall's program, in its namespace, with a pair.toml made of the
topology. It takes and drops the addresses, and sets up the guard; what it has done comes from its journal.
So a fault that needs an election has one.

It lives in a cage: however we end, it ends, and its directory is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any

from gimli import clock, journal
from gimli.errors import GimliError
from gimli.lab import cage
from gimli.lab.network.real.station import Order, RoleTold, first_master_of
from gimli.lab.network.topology import Model
from gimli.pair import guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimli.lab.network.topology import Firewall, Topology

_COMMAND = (sys.executable, "-c", "from gimli.cli import main; main()")
_PASSWORD = "of-the-laboratory"  # noqa: S105 - it protects nothing: the network is ours alone
_FILE_BYTES_MAX = 10_000_000
_PATIENCE_S = 30.0
_MASTER = "MASTER"
_FORWARD = "/proc/sys/net/ipv4/ip_forward"
_EXPIRES = re.compile(r"\bexpires (?:(?P<s>\d+)s)?(?:(?P<ms>\d+)ms)?")


class ElectorFailed(GimliError):
    """The daemon of a firewall does not take part."""


class Elector:
    """The pair's daemon of one firewall.

    Args:
        topology: what there is.
        config: the firewall. When it is made, it is what it is to be when the run begins.

    Attributes:
        changes: of its roles, as they were told.
    """

    def __init__(self, topology: Topology, config: Firewall) -> None:
        self._text = configuration(topology, config)
        self._vhids = [carp.vhid for carp in config.carp]
        self._mastered: set[int] = set()
        self.changes: list[RoleTold] = []
        self._said = b""
        self._read = 0
        self._cage: subprocess.Popen[bytes] | None = None
        self._start()
        try:
            self._wait_until_elected(is_first=first_master_of(topology) is config)
        except BaseException:
            self.close()
            raise

    @property
    def is_master(self) -> bool:
        """Whether it has any virtual address."""
        return bool(self._mastered)

    def watched(self) -> list[int]:
        """Descriptors: when one can be read, :meth:`look` has something to see."""
        return [self._words_fd, self._pidfd] if self._cage else []

    def look(self) -> None:
        """What has it done?

        Raises:
            ElectorFailed: it has ended.
        """
        if self._cage is None:
            return
        with contextlib.suppress(BlockingIOError):
            self._said += os.read(self._words_fd, 65_536)
        for entry in self._entries():
            if entry["event"] == "role":
                vhid, role = entry["vhid"], entry["role"]
                is_master = role == _MASTER
                (self._mastered.add if is_master else self._mastered.discard)(vhid)
                at_s = entry["monotonic_ns"] / clock.NANOSECONDS
                self._note(at_s, vhid, f"{role}: {entry['why']}", is_master=is_master)
        if select.select([self._pidfd], [], [], 0)[0]:
            lines = self._said.decode(errors="replace").strip().splitlines()
            raise ElectorFailed("gimli pair run has ended", why=lines[-1] if lines else "")

    def obey(self, order: Order) -> None:
        """Something happens to the host, or to the daemon."""
        match order:
            case Order.OFF:
                self.look()
                # At once: its cables are pulled some hundredths of a second later.
                _let_kernel_forward(is_on=False)
                os.kill(self._pid, signal.SIGKILL)
                self.close()
                self._mastered.clear()
                for vhid in self._vhids:
                    self._note(time.monotonic(), vhid, "off", is_master=False)
            case Order.ON:
                self._start()
                _let_kernel_forward(is_on=True)
            case Order.HANG:
                os.kill(self._pid, signal.SIGSTOP)
                for vhid in self._mastered:
                    over_s = time.monotonic() + _lease_left_s(vhid)
                    self._note(over_s, vhid, "the lease is over", is_master=False)
            case Order.GO_ON:
                now_s = time.monotonic()
                self.changes = [change for change in self.changes if change.at_s <= now_s]
                os.kill(self._pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, and let nothing of it be left."""
        if self._cage is None:
            return
        for stream in (self._cage.stdin, self._cage.stdout, self._cage.stderr):
            if stream is not None:
                stream.close()  # the end of its input makes the cage end
        self._cage.wait()
        os.close(self._pidfd)
        self._cage = None

    def _start(self) -> None:
        # Not below a directory of ours: a unix socket's path has 107 bytes at most.
        directory = tempfile.mkdtemp(prefix="gimli-lab-")
        file = os.path.join(directory, "pair.toml")
        with open(file, "w", encoding="utf-8") as out:
            out.write(self._text)
        own = {"GIMLI_STATE_DIR": f"{directory}/state", "GIMLI_RUNTIME_DIR": f"{directory}/run"}
        self._journal_path = f"{directory}/state/journal/pair.jsonl"
        self._read = 0
        pipe = subprocess.PIPE
        self._cage = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", cage.__file__, directory, str(_FILE_BYTES_MAX)),
                *(*_COMMAND, "pair", "run", "-f", file),
            ],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=os.environ | own,
        )
        assert self._cage.stdout is not None
        assert self._cage.stderr is not None
        self._pid = int(self._cage.stdout.readline())
        self._pidfd = os.pidfd_open(self._pid)
        self._words_fd = self._cage.stderr.fileno()
        os.set_blocking(self._words_fd, False)

    def _wait_until_elected(self, *, is_first: bool) -> None:
        """It is MASTER of every group, or at least BACKUP: the other one was MASTER before it was started."""
        give_up_s = time.monotonic() + _PATIENCE_S
        while {change.vhid for change in self.changes if change.is_master or not is_first} < set(self._vhids):
            left_s = give_up_s - time.monotonic()
            if not select.select(self.watched(), [], [], max(left_s, 0.0))[0]:
                raise ElectorFailed(f"gimli pair run takes no part after {_PATIENCE_S:g} s")
            self.look()

    def _entries(self) -> Iterator[dict[str, Any]]:
        entries = list(journal.read(self._journal_path))
        new, self._read = entries[self._read :], len(entries)
        yield from new

    def _note(self, at_s: float, vhid: int, words: str, *, is_master: bool) -> None:
        self.changes.append(RoleTold(at_s, vhid, is_master, f"vhid {vhid} {words}"))


def _let_kernel_forward(*, is_on: bool) -> None:
    with open(_FORWARD, "w", encoding="ascii") as file:
        file.write(str(int(is_on)))


def _lease_left_s(vhid: int) -> float:
    """For how long the kernel still lets frames for a vhid pass."""
    asked = ["nft", "list", "set", guard.FAMILY, guard.TABLE, guard.lease_set(vhid)]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    left = _EXPIRES.search(told)
    return int(left["s"] or 0) + int(left["ms"] or 0) / 1000 if left else 0.0


def configuration(topology: Topology, config: Firewall) -> str:
    """A firewall's pair.toml.

    pf's states are replicated by pfsync, so without ``[sync]``; a Linux pair replicates its connections.
    """
    lengths = {each.name: ip_interface(each.address).network.prefixlen for each in config.interfaces}
    tables = [
        f"""\
[[carp]]
vhid = {carp.vhid}
interface = "{carp.interface}"
addresses = ["{carp.address}/{lengths[carp.interface]}"]
password = "{_PASSWORD}"
advbase = {carp.advbase}
advskew = {carp.advskew}
preempt = {str(carp.preempt).lower()}
"""
        for carp in config.carp
    ]
    tables.append(f"[guard]\nenabled = {str(config.is_guarded).lower()}\n")
    if config.model is Model.LINUX and config.sync:
        tables.append(
            f'[sync]\ninterface = "{config.sync}"\npeer = "{topology.sync_peer_of(config)}"\n'
            f'mode = "{config.linux.mode.value}"\n'
        )
    return "\n".join(tables)
