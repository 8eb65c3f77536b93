"""Measure leases in the network namespace it runs in; JSON on standard output. leases.py ROUNDS."""

import json
import subprocess
import sys
import tempfile
import threading
import time

from gimli.pair import nft
from gimli.pair.address import Addresses, Place
from gimli.pair.guard import Guard, Guarded, Vhid, lease_of, ruleset
from gimli.pair.lease import Leases
from gimli.pair.settings import Settings
from gimli.pair.wire import Sender

ROUNDS = int(sys.argv[1])
MAC = "00:00:5e:00:01:01"
ADDRESSES = ("192.0.2.1/24", "2001:db8::1/64")
GUARD = Guard(
    (Vhid(1, "lan0", ("192.0.2.1", "2001:db8::1"), MAC), Vhid(2, "dmz0", ("10.1.0.1",))),
    (Guarded("lan0", ("192.0.2.0/24",)), Guarded("dmz0", ("10.1.0.0/24",))),
)
FIRST, SECOND = lease_of(GUARD, 1), lease_of(GUARD, 2)
OURS = bytes.fromhex("ffffffffffff" + MAC.replace(":", "") + "88b5") + bytes(50)
"""A frame of the vhid: once the lease has lapsed the guard refuses it, which its sender is told."""
OTHERS = bytes.fromhex(
    "020000000001" + "020000000002" + "0800" + "4500002e00004000ff1100000a000001c0000209"
) + bytes(26)
"""A frame that no rule is about."""


def renewals(leases: Leases, held: list, count: int) -> list[float]:
    """Microseconds of each."""
    leases.acquire(held, 60)
    took = []
    for _ in range(count):
        began = time.perf_counter_ns()
        leases.renew(held, 60)
        took.append((time.perf_counter_ns() - began) / 1000)
    return took


def by_program(count: int) -> list[float]:
    """Microseconds of the same transaction by the nft program."""
    lease = "element netdev gimli lease_2"
    change = f"delete {lease} {{ dmz0 }}\nadd {lease} {{ dmz0 timeout 60s }}\n"
    took = []
    for _ in range(count):
        began = time.perf_counter_ns()
        subprocess.run(["nft", "-f", "-"], input=change, text=True, check=True)
        took.append((time.perf_counter_ns() - began) / 1000)
    return took


def while_a_firewall_is_reloaded(leases: Leases, seconds: float) -> list[float]:
    """Microseconds of renewals, every millisecond, while 1,000 rules are replaced again and again."""
    rules = "add table ip load\ndelete table ip load\nadd table ip load\nadd chain ip load c\n" + "".join(
        f"add rule ip load c ip saddr 10.{n // 250}.{n % 250}.1 drop\n" for n in range(1000)
    )
    ended = threading.Event()

    def reload() -> None:
        while not ended.is_set():
            subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)

    reloading = threading.Thread(target=reload)
    reloading.start()
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        took += renewals(leases, [SECOND], 1)
        time.sleep(0.001)
    ended.set()
    reloading.join()
    return took


def lifetimes(leases: Leases, sender: Sender, length_s: float, count: int) -> list[float]:
    """Milliseconds that a lease really held, less those it was to hold."""
    excess = []
    for _ in range(count):
        leases.acquire([FIRST], length_s)
        began = time.perf_counter()
        while sender.send(OURS) is None:
            pass
        excess.append((time.perf_counter() - began - length_s) * 1000)
    return excess


def addresses(mac: str, count: int) -> dict[str, list[float]]:
    """Milliseconds of taking and of dropping."""
    with tempfile.TemporaryDirectory() as directory:
        of_vhid = Addresses(Place(1, "lan0", ADDRESSES, mac), Settings(f"{directory}/settings"))
        of_vhid.prepare()
        took: dict[str, list[float]] = {"take": [], "drop": []}
        for _ in range(count):
            for name, step in (("take", of_vhid.take), ("drop", of_vhid.drop)):
                began = time.perf_counter()
                step()
                took[name].append((time.perf_counter() - began) * 1000)
        of_vhid.close()
    return took


def sending(sender: Sender, count: int) -> list[float]:
    """Nanoseconds per frame that leaves by lan0 and comes in at its other end, of runs of 2,000."""
    took = []
    for _ in range(count):
        began = time.perf_counter_ns()
        for _ in range(2000):
            sender.send(OTHERS)
        took.append((time.perf_counter_ns() - began) / 2000)
    return took


sender, other_end = Sender("lan0"), Sender("peer0")
figures: dict[str, list[float]] = {"frame in, no guard": sending(other_end, ROUNDS)}
nft.apply(ruleset(GUARD))
leases = Leases()
figures["frame in, guard without lease"] = sending(other_end, ROUNDS)
leases.acquire([FIRST, SECOND], 60)
figures["frame in, guard with lease"] = sending(other_end, ROUNDS)
figures["renewal, one interface"] = renewals(leases, [SECOND], 200 * ROUNDS)
figures["renewal, two vhids, three elements"] = renewals(leases, [FIRST, SECOND], 200 * ROUNDS)
figures["renewal by the nft program"] = by_program(4 * ROUNDS)
figures["renewal while a firewall is reloaded"] = while_a_firewall_is_reloaded(leases, 0.5 * ROUNDS)
for length_ms in (12, 56, 240):
    figures[f"lifetime less {length_ms} ms"] = lifetimes(leases, sender, length_ms / 1000, 3 * ROUNDS)
for mode, mac in (("virtual MAC", MAC), ("real MAC", "")):
    for what, took in addresses(mac, 3 * ROUNDS).items():
        figures[f"{what}, {mode}"] = took
print(json.dumps(figures))
