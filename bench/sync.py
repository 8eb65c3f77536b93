"""How many new connections a second does state sync take to the other host, and what does it cost?

Two namespaces with a cable. A process inserts connections into the one kernel at a rate and asks the other
kernel when it has them. The peer is Debian's conntrackd (FTFW, entries inserted at once), on the same load in
turns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from figures import Figure
from workbench import HERE, Effort, Unmeasurable, Workbench, wait_for

from gimli.lab.namespaces import Network, NetworkRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Self

    from gimli.lab.namespaces import Host

RATES = (2_000, 10_000, 30_000, 50_000)
SECONDS = 2.0
COST_BUDGET_US = 20.0
"""Two cores at 50,000/s leave 40 us for each, and the kernel that makes it takes half of them."""

_OWNER, _REPLICA = "10.8.0.1", "10.8.0.2"
_TRACKING = """
table inet tracking {
  chain raw { type filter hook prerouting priority raw; iifname "sync" notrack; }
  chain raw_out { type filter hook output priority raw; oifname "sync" notrack; }
  chain input { type filter hook input priority 0; ct state new accept; }
}
"""
_CONNTRACKD = """
Sync {{
  Mode FTFW {{ DisableExternalCache On }}
  UDP {{
    IPv4_address {own}
    IPv4_Destination_Address {peer}
    Port 3780
    Interface sync
    SndSocketBuffer 12492800
    RcvSocketBuffer 12492800
    Checksum on
  }}
  Options {{ TCPWindowTracking Off }}
}}
General {{
  HashSize 65536
  HashLimit 262144
  LogFile {place}/log
  LockFile {place}/lock
  UNIX {{ Path {place}/control }}
  NetlinkBufferSize 20971520
  NetlinkBufferSizeMaxGrowth 83886080
  NetlinkEventsReliable On
}}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to.

    Args:
        rate: connections per second that were really made.
        lost_percent: how many of them the other kernel, or the other process, never had.
        lag_ms: the worst but one in a hundred, of those that came.
        owner_us: CPU of the owner's side per connection.
        replica_us: CPU of the replica's side, its insertions included.
    """

    rate: float
    lost_percent: float
    lag_ms: float
    owner_us: float
    replica_us: float

    @property
    def cost_us(self) -> float:
        """CPU of both sides."""
        return self.owner_us + self.replica_us


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """Four rates, mode "kernel" and the peer in turns; at the highest one mode "cache" as well."""
    peer = shutil.which("conntrackd")
    note = "" if peer else "no conntrackd to compare with: apt install conntrackd"
    for rate in RATES:
        ours: list[Run] = []
        theirs: list[Run] = []
        for _ in range(effort.runs(3)):
            ours.append(run(bench, rate, "kernel"))
            if peer:
                theirs.append(run(bench, rate, "conntrackd"))
        yield from figures(rate, ours, theirs, note)
    cached = [run(bench, rate, "cache") for _ in range(effort.runs(3))]
    yield Figure(f"{rate}/s in memory, lost", "%", [one.lost_percent for one in cached], 0.0)
    yield Figure(f"{rate}/s in memory, CPU per connection", "us", [one.cost_us for one in cached])


def figures(rate: int, ours: list[Run], theirs: list[Run], note: str) -> Iterator[Figure]:
    """One rate's lines."""

    def line(what: str, unit: str, name: str, budget: float | None = None, note: str = "") -> Figure:
        samples, peer = ([getattr(one, name) for one in runs] for runs in (ours, theirs))
        return Figure(
            f"{rate}/s, {what}", unit, samples, budget, {"conntrackd": peer} if peer else {}, note=note
        )

    real = ", ".join(f"{one.rate:,.0f}" for one in ours)
    yield line("lost", "%", "lost_percent", 0.0, f"really {real}/s" + (f"; {note}" if note else ""))
    yield line("lag, 99 of 100", "ms", "lag_ms")
    yield line("CPU per connection", "us", "cost_us", COST_BUDGET_US if rate == RATES[-1] else None)
    yield line("CPU per connection, owner", "us", "owner_us")
    yield line("CPU per connection, replica", "us", "replica_us")


def run(bench: Workbench, rate: int, subject: str) -> Run:
    """One run in namespaces of its own.

    Raises:
        Unmeasurable: no namespaces, or a side did not start.
    """
    try:
        with Network() as network:
            owner, replica = (_host(network, name) for name in ("owner", "replica"))
            network.cable(owner, "sync", replica, "sync")
            owner.address("sync", f"{_OWNER}/24")
            replica.address("sync", f"{_REPLICA}/24")
            kind = Conntrackd if subject == "conntrackd" else Gimli
            with (
                kind(bench, owner, _OWNER, _REPLICA, subject) as one,
                kind(bench, replica, _REPLICA, _OWNER, subject) as other,
            ):
                return _load(one, other, rate)
    except NetworkRefused as error:
        raise Unmeasurable(str(error)) from error


def _host(network: Network, name: str) -> Host:
    host = network.host(name)
    host.run("nft", "-f", "-", text=_TRACKING)
    host.sysctl(netfilter__nf_conntrack_events=1)
    return host


def _load(owner: Side, replica: Side, rate: int) -> Run:
    generator = owner.host.start(
        *(sys.executable, os.path.join(HERE, "sync_generator.py")),
        *(str(rate), str(SECONDS), str(replica.host.pid), str(int(replica.in_kernel))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert generator.stdout
    generator.stdout.readline()
    before = owner.cpu_s(), replica.cpu_s()
    said, _ = generator.communicate(b"go\n")
    made = json.loads(said)
    had = _settled(replica, made["generated"])
    owner_s, replica_s = owner.cpu_s() - before[0], replica.cpu_s() - before[1]
    lags_s = sorted(made["lags_s"])
    return Run(
        rate=made["rate"],
        lost_percent=max(0.0, 100 * (1 - had / made["generated"])),
        lag_ms=1000 * statistics.quantiles(lags_s, n=100)[98] if len(lags_s) > 1 else 0.0,
        owner_us=1e6 * owner_s / made["generated"],
        replica_us=1e6 * replica_s / made["generated"],
    )


def _settled(replica: Side, wanted: int) -> int:
    """How many connections the replica has, once that no longer changes."""
    last, since_s = -1, time.monotonic()
    while time.monotonic() - since_s < 3.0 and last < wanted:
        count = replica.count()
        if count != last:
            last, since_s = count, time.monotonic()
        time.sleep(0.05)
    return last


class Side:
    """One side's program.

    Args:
        bench: where it works.
        host: in which namespace.
        own: its address.
        peer: the other's.
        subject: what of it is measured.
    """

    in_kernel = True

    def __init__(self, bench: Workbench, host: Host, own: str, peer: str, subject: str) -> None:
        self.host = host
        self.process = self.launch(bench, own, peer, subject)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def launch(self, bench: Workbench, own: str, peer: str, subject: str, /) -> subprocess.Popen[bytes]:
        """Start it, and wait until it works."""
        raise NotImplementedError

    def count(self) -> int:
        """How many connections it has."""
        return int(self.host.run("conntrack", "-C"))

    def cpu_s(self) -> float:
        """What it has used."""
        with open(f"/proc/{self.process.pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9


class Gimli(Side):
    """``sync_node.py``."""

    def launch(self, _: Workbench, own: str, peer: str, subject: str, /) -> subprocess.Popen[bytes]:
        """The owner comes first."""
        self.in_kernel = subject == "kernel"
        role = "owner" if own == _OWNER else "replica"
        process = self.host.start(
            *(sys.executable, os.path.join(HERE, "sync_node.py"), role, peer, subject),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout
        if process.stdout.readline() != b"ready\n":
            raise Unmeasurable("sync_node.py has not started")
        if role == "replica":
            wait_for(lambda: ask(process)["synchronised"], "the first synchronisation")
        return process

    def count(self) -> int:
        """Of a replica that keeps them in memory, those."""
        return super().count() if self.in_kernel else int(ask(self.process)["held"])


def ask(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What sync_node.py counts."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"\n")
    process.stdin.flush()
    counters: dict[str, Any] = json.loads(process.stdout.readline())
    return counters


class Conntrackd(Side):
    """Debian's."""

    def launch(self, bench: Workbench, own: str, peer: str, subject: str, /) -> subprocess.Popen[bytes]:
        """In the foreground; it works once its control socket answers."""
        place = bench.place(subject)
        config = os.path.join(place, "conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(_CONNTRACKD.format(own=own, peer=peer, place=place))
        with open(os.path.join(place, "out"), "wb") as out:
            process = self.host.start("conntrackd", "-C", config, stdout=out, stderr=out)
        wait_for(lambda: self._answers(config), "conntrackd")
        return process

    def _answers(self, config: str) -> bool:
        done = subprocess.run(["conntrackd", "-C", config, "-s"], capture_output=True, check=False)
        return done.returncode == 0
