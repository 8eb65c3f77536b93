"""The lease in a real kernel: who holds it is heard, and who does not renew it falls silent by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from gimli.pair import nft
from gimli.pair.address import Addresses, Place
from gimli.pair.guard import lease_of, ruleset
from gimli.pair.lease import LeaseLapsed, Leases
from gimli.pair.nft import GuardRefused
from gimli.pair.readback import counts
from gimli.pair.settings import Settings
from gimli.pair.wire import Sender
from tests.conftest import PATIENCE_S
from tests.pair.conftest import eventually
from tests.pair.frames import Station, advertisement, mac_bytes
from tests.pair.wanted import GUARD, VIRTUAL_MAC
from tests.pair.wire import inside

pytestmark = pytest.mark.real

FIRST, SECOND = lease_of(GUARD, 1), lease_of(GUARD, 2)
LENGTH_S = 1.0
"""Of the lease of a process that a test stops: it is not to lapse before, on a busy machine."""

LATE_S = 0.05
"""A lease may end so late: a jiffy, and what the host of a virtual machine takes from its clock."""

SILENCE_S = 0.2
"""How long a question waits for an answer that must not come; one that comes takes a millisecond."""

ADDRESSES = {"192.0.2.1": "192.0.2.10", "2001:db8::1": "2001:db8::10"}
"""The virtual addresses, and who asks for them."""


@pytest.fixture
def leases(lan):
    with inside(lan.node):
        nft.apply(ruleset(GUARD))
        held = Leases()
    yield held
    held.close()


@pytest.fixture
def station(lan):
    with inside(lan.client):
        made = Station("lan0")
    yield made
    made.close()


def place(*, virtual: bool) -> Place:
    addresses = ("192.0.2.1/24", "192.0.2.7/24", "2001:db8::1/64")
    return Place(1, "lan0", addresses, VIRTUAL_MAC if virtual else "")


@pytest.fixture(params=[True, False], ids=["virtual MAC", "real MAC"])
def addresses(request, lan, leases, tmp_path):
    """The addresses are on the node all the time: what silences it is the guard alone."""
    with inside(lan.node):
        made = Addresses(place(virtual=request.param), Settings(str(tmp_path / "settings")))
        made.prepare()
        made.take()
        yield made
        made.close()


VIRTUAL = pytest.mark.parametrize("addresses", [True], ids=["virtual MAC"], indirect=True)


def elements(lan, lease) -> list[str]:
    told = lan.node.run("nft", "list", "set", "netdev", "gimli", lease.set_name)
    return [word.strip('",') for word in told.split() if word.endswith('"')]


def test_whoever_holds_the_lease_answers_and_whoever_does_not_is_silent(lan, leases, addresses, station):
    for virtual, asker in ADDRESSES.items():
        assert station.ask(virtual, asker, SILENCE_S) == set()
    leases.acquire([FIRST], 60)
    for virtual, asker in ADDRESSES.items():
        mac = station.answers(virtual, asker, PATIENCE_S)
        assert mac == (addresses.place.mac or interface_mac(lan.node))
        assert "3 received" in lan.client.run("ping", "-c3", "-i0.01", f"-W{PATIENCE_S:.0f}", virtual)
    leases.release([FIRST])
    lan.client.run("ip", "neigh", "flush", "all")
    for virtual, asker in ADDRESSES.items():
        assert station.ask(virtual, asker, SILENCE_S) == set()
        assert "3 packets transmitted, 0 received" in lan.client.run(
            *("ping", "-c3", "-i0.01", "-W1", virtual), check=False
        )
    assert "1 received" in lan.client.run("ping", "-c1", f"-W{PATIENCE_S:.0f}", "192.0.2.2")


def interface_mac(host) -> str:
    with inside(host):
        own = Station("lan0")
        own.close()
    return own.mac.hex(":")


def test_frames_to_a_neighbours_cache_are_dropped_too(lan, leases, addresses, station):
    """A client keeps the MAC that it has learnt for minutes: silence is more than unanswered ARP."""
    leases.acquire([FIRST], 60)
    lan.client.run("ping", "-c1", f"-W{PATIENCE_S:.0f}", "192.0.2.1")
    leases.release([FIRST])
    assert "REACHABLE" in lan.client.run("ip", "neigh", "show", "192.0.2.1")
    assert "0 received" in lan.client.run("ping", "-c2", "-i0.01", "-W1", "192.0.2.1", check=False)


def asked_until(station, until_s: float) -> float:
    """Ask without pause; the moment of the last question that was answered."""
    last_s = 0.0
    while (asked_s := time.monotonic()) < until_s:
        if station.answers("192.0.2.1", "192.0.2.10", 0.02):
            last_s = asked_s
    return last_s


@VIRTUAL
def test_a_lease_that_is_not_renewed_ends_in_time(leases, addresses, station):
    leases.acquire([FIRST], 0.4)
    acquired_s = time.monotonic()
    last_s = asked_until(station, acquired_s + 0.8)
    assert 0 < last_s - acquired_s < 0.4 + LATE_S


@VIRTUAL
def test_a_lease_that_is_renewed_goes_on(leases, addresses, station):
    """Beyond the time it was taken for."""
    leases.acquire([FIRST], 2.0)
    leases.renew([FIRST], 60)
    last_s = asked_until(station, time.monotonic() + 2.1)
    assert time.monotonic() - last_s < 1


def test_a_lapsed_lease_is_not_revived(lan, leases):
    """The kernel may keep an element that is past its time for a while: it is no element to a deletion."""
    for length_s in (0.01, 0.012, 0.05):
        leases.acquire([FIRST], length_s)
        eventually(lambda: elements(lan, FIRST) == [])
        with pytest.raises(LeaseLapsed):
            leases.renew([FIRST], 60)
        assert elements(lan, FIRST) == []


def test_of_several_leases_all_are_renewed_or_none(lan, leases):
    leases.acquire([FIRST], 60)
    with pytest.raises(LeaseLapsed):
        leases.renew([FIRST, SECOND], 3600)
    assert sorted(elements(lan, FIRST)) == ["dmz0", "lan0"]
    assert "1h" not in lan.node.run("nft", "list", "set", "netdev", "gimli", "lease_1")
    leases.acquire([FIRST, SECOND], 60)
    leases.renew([FIRST, SECOND], 60)
    leases.release([FIRST, SECOND])
    assert elements(lan, FIRST) == elements(lan, SECOND) == []


def test_taking_a_lease_that_is_held_gives_it_the_new_time(lan, leases):
    """Linux before 6.12 leaves an element's time alone when it is added again."""
    leases.acquire([SECOND], 3600)
    leases.acquire([SECOND], 1)
    assert "timeout 1s" in lan.node.run("nft", "list", "set", "netdev", "gimli", "lease_2")


@pytest.mark.parametrize("length_s", [0.0, 0.0004, 0.009, -1.0])
def test_a_lease_that_the_kernel_might_round_to_one_for_ever_is_refused(lan, leases, length_s):
    leases.acquire([FIRST], 60)
    for change in (leases.acquire, leases.renew):
        with pytest.raises(ValueError, match="at least 10 are wanted"):
            change([FIRST], length_s)
    assert "timeout 1m" in lan.node.run("nft", "list", "set", "netdev", "gimli", "lease_1")


def test_giving_up_what_is_not_held_is_no_error(lan, leases):
    leases.release([FIRST])
    leases.release([FIRST, SECOND])
    assert elements(lan, FIRST) == []


def test_without_a_guard_there_is_no_lease(lan, leases):
    leases.acquire([FIRST], 60)
    lan.node.run("nft", "flush", "ruleset")
    with pytest.raises(LeaseLapsed):
        leases.renew([FIRST], 60)
    with pytest.raises(GuardRefused, match="cannot take the lease"):
        leases.acquire([FIRST], 60)
    with pytest.raises(GuardRefused, match="cannot give up the lease"):
        leases.release([FIRST])


@pytest.mark.parametrize("source", [VIRTUAL_MAC, "02:00:00:00:00:01"])
def test_without_the_lease_no_advertisement_leaves(lan, leases, station, source):
    """A daemon that was stopped between renewing and sending cannot send any more when it goes on."""
    frame = advertisement(mac_bytes(source), 1)
    with inside(lan.node):
        sender = Sender("lan0")
    assert sender.send(frame) is not None
    leases.acquire([FIRST], 60)
    assert sender.send(frame) is None
    heard = []
    while not heard or heard[-1] != frame:
        heard.append(station.hear(PATIENCE_S))
    assert heard.count(frame) == 1
    with inside(lan.node):
        assert counts(nft.read())["dropped_out_1"].packets == 1
    sender.close()


@pytest.fixture
def holder(lan, tmp_path):
    """A process that holds the lease for a second at a time."""
    program = os.path.join(os.path.dirname(__file__), "programs", "hold_lease.py")
    root = os.path.join(os.path.dirname(__file__), "..", "..")
    process = lan.node.start(
        *(sys.executable, program, str(LENGTH_S), str(tmp_path / "settings")),
        stdout=subprocess.PIPE,
        environment={"PYTHONPATH": os.pathsep.join([root, *sys.path])},
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_daemon_that_is_killed_or_hangs_is_silent_in_time(lan, holder, station, sign):
    """Its addresses stay where they were; the kernel alone keeps it from answering for them."""
    assert station.answers("192.0.2.1", "192.0.2.10", PATIENCE_S) == VIRTUAL_MAC
    os.kill(holder.pid, sign)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
    ended_s = time.monotonic()
    assert asked_until(station, ended_s + 1.5) - ended_s < LENGTH_S + LATE_S
    assert "192.0.2.1/24" in lan.node.run("ip", "addr", "show", "carp1")
    for virtual, asker in ADDRESSES.items():
        assert station.ask(virtual, asker, SILENCE_S) == set()


def test_a_daemon_that_hung_learns_that_it_is_not_master_any_more(lan, holder, station):
    os.kill(holder.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    asked_until(station, time.monotonic() + LENGTH_S + LATE_S)
    while station.hear(0.001):
        pass
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.stdout.readline() == b"lapsed ENOBUFS\n"
    assert station.ask("192.0.2.1", "192.0.2.10", SILENCE_S) == set()


@VIRTUAL
def test_a_hung_masters_kernel_sends_nothing_from_the_virtual_mac(lan, leases, addresses, station):
    """A frame from it, if only an ARP request, would teach the switch that the MAC is at its port."""
    lan.node.run("ping", "-c1", "-W1", "-I", "carp1", "192.0.2.77", check=False)
    heard = []
    while frame := station.hear(SILENCE_S):
        heard.append(frame)
    assert not [frame for frame in heard if frame[6:12] == mac_bytes(VIRTUAL_MAC)]
    with inside(lan.node):
        assert counts(nft.read())["dropped_out_1"].packets > 0
