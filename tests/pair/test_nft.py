"""The guard in a real kernel: what is set up is read back, and what is touched is noticed."""

from __future__ import annotations

import errno
import json
import os
import select
from dataclasses import replace

import pytest

from gimli.pair import nft
from gimli.pair.guard import Guard, Guarded, Vhid, lease_of, ruleset
from gimli.pair.lease import Leases
from gimli.pair.nft import GuardRefused, GuardWatch
from gimli.pair.readback import counts, verify
from gimli.pair.wire import Sender
from tests.conftest import PATIENCE_S
from tests.pair.frames import BROADCAST, ethernet, ipv4, udp
from tests.pair.wanted import GUARD
from tests.pair.wire import inside

pytestmark = pytest.mark.real

GUARDS = {
    "two vhids, both families": GUARD,
    "a kernel without the egress hook": replace(GUARD, egress=False),
    "one address, one interface": Guard((Vhid(255, "lan0", ("192.0.2.1",)),)),
    "IPv6 only": Guard((Vhid(7, "lan0", ("2001:db8::1",), "00:00:5e:00:01:07"),), (Guarded("lan0"),)),
    "two vhids on an interface": Guard(
        (Vhid(1, "lan0", ("192.0.2.1",)), Vhid(2, "lan0", ("192.0.2.3",))), (Guarded("dmz0"),)
    ),
    "many addresses": Guard(
        (
            Vhid(
                3,
                "lan0",
                tuple(f"192.0.2.{n}" for n in range(100, 120)) + tuple(f"2001:db8::{n:x}" for n in range(20)),
            ),
        )
    ),
}


@pytest.fixture
def node(lan):
    """Be on the node, with the guard set up."""
    with inside(lan.node):
        nft.apply(ruleset(GUARD))
        yield lan.node


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_what_is_set_up_is_read_back(lan, guard):
    with inside(lan.node):
        assert nft.read() is None
        nft.apply(ruleset(guard))
        assert verify(nft.read(), guard) == ()
        for other in GUARDS.values():
            assert (verify(nft.read(), other) == ()) == (other == guard)


def test_the_recorded_listing_is_what_the_kernel_gives(node):
    """The tests of verify() work on a recording: it must be one of this kernel and this nft."""
    leases = Leases()
    leases.acquire([lease_of(GUARD, 1)], 60)
    leases.close()
    path = os.path.join(os.path.dirname(__file__), "guard_listing.json")
    with open(path, encoding="utf-8") as file:
        recorded = json.load(file)

    def without_numbers(listing):
        text = json.dumps(listing["nftables"][1:])
        return [_stripped(part) for part in json.loads(text)]

    assert without_numbers(nft.read()) == without_numbers(recorded)


def _stripped(part):
    ((kind, body),) = part.items()
    for key in ("handle", "packets", "bytes"):
        body.pop(key, None)
    for element in body.get("elem", ()):
        element["elem"].pop("expires")
    return kind, body, sorted(json.dumps(each) for each in body.pop("elem", ()))


TAMPERING = {
    "the ruleset is flushed": "flush ruleset",
    "the table is deleted": "delete table netdev gimli",
    "the table is dormant": "add table netdev gimli { flags dormant; }",
    "a chain is flushed": "flush chain netdev gimli in_1",
    "a rule is put first": "insert rule netdev gimli ingress_lan0 accept",
    "a rule is put last": "add rule netdev gimli group_lan0 drop",
    "a chain is added": "add chain netdev gimli more",
    "a set is added": "add set netdev gimli more { type ifname; }",
    "a counter is added": "add counter netdev gimli more",
    "a lease for ever": "add element netdev gimli lease_1 { lan0 }",
    "a lease of another's": "add element netdev gimli lease_2 { lo timeout 1h }",
    "a lease of ours, by another": "add element netdev gimli lease_2 { dmz0 timeout 1h }",
    "a chain on another device": (
        "delete chain netdev gimli egress_dmz0\n"
        'add chain netdev gimli egress_dmz0 { type filter hook egress device "lo" priority 500; }; '
        "add rule netdev gimli egress_dmz0 oifname != @lease_2 jump out_2"
    ),
    "a chain at another place": (
        "delete chain netdev gimli egress_dmz0\n"
        'add chain netdev gimli egress_dmz0 { type filter hook egress device "dmz0" priority -500; }; '
        "add rule netdev gimli egress_dmz0 oifname != @lease_2 jump out_2"
    ),
    "a policy": "add chain netdev gimli ingress_dmz0 { policy drop; }",
}


@pytest.mark.parametrize("commands", TAMPERING.values(), ids=TAMPERING)
def test_tampering_is_an_event_and_a_difference(node, commands):
    leases = Leases()
    watch = GuardWatch(leases.port)
    node.run("nft", "-f", "-", text=commands)
    assert select.select([watch], [], [], PATIENCE_S)[0]
    assert watch.has_changed()
    assert verify(nft.read(), GUARD, held=())
    nft.apply(ruleset(GUARD))
    assert verify(nft.read(), GUARD, held=()) == ()
    watch.close()
    leases.close()


def test_leases_of_our_own_and_other_tables_are_no_news(node):
    leases = Leases()
    watch = GuardWatch(leases.port)
    leases.acquire([lease_of(GUARD, 1)], 60)
    leases.renew([lease_of(GUARD, 1)], 60)
    assert not select.select([watch], [], [], 0)[0]
    node.run("nft", "add table ip other")
    assert select.select([watch], [], [], PATIENCE_S)[0]
    assert not watch.has_changed()
    watch.close()
    leases.close()


def test_a_repair_keeps_what_is_held_and_counted(node):
    leases = Leases()
    leases.acquire([lease_of(GUARD, 1)], 60)
    node.run("nft", "flush chain netdev gimli in_1")
    node.run("nft", "delete chain netdev gimli egress_lan0")
    assert verify(nft.read(), GUARD)
    nft.apply(ruleset(GUARD, fresh=False))
    assert verify(nft.read(), GUARD) == ()
    leases.renew([lease_of(GUARD, 1)], 60)
    leases.close()


def test_a_new_start_begins_without_leases(node):
    """What a killed daemon held is not held by the next one."""
    leases = Leases()
    leases.acquire([lease_of(GUARD, 1)], 60)
    nft.apply(ruleset(GUARD))
    assert verify(nft.read(), GUARD, held=()) == ()
    leases.close()


def test_rules_that_cannot_be_are_refused_as_a_whole(node):
    with pytest.raises(GuardRefused) as refused:
        nft.apply(ruleset(GUARD) + "add rule netdev gimli nosuch drop\n")
    assert "nosuch" in refused.value.why
    assert verify(nft.read(), GUARD) == ()


def test_the_table_goes_when_it_is_to_go(node):
    nft.remove()
    assert nft.read() is None
    nft.remove()


def test_an_interface_that_comes_back_is_guarded(node):
    """Linux 6.16 binds a chain to a name; before, the chain went with its device, and a repair makes it."""
    node.run("ip", "link", "del", "dmz0")
    node.run("ip", "link", "add", "name", "dmz0", "type", "veth", "peer", "name", "other")
    node.run("ip", "link", "set", "dev", "dmz0", "up")
    node.run("ip", "link", "set", "dev", "other", "up")
    if verify(nft.read(), GUARD):
        nft.apply(ruleset(GUARD, fresh=False))
    assert verify(nft.read(), GUARD) == ()
    sender = Sender("dmz0")
    unfit = sender.send(
        ethernet(BROADCAST, b"\2\0\0\0\0\1", 0x0800, ipv4("10.1.0.1", "10.1.0.10", 17, udp(1, 2)))
    )
    assert unfit is not None
    assert unfit.errno == errno.ENOBUFS
    assert counts(nft.read())["dropped_out_2"].packets == 1
    sender.close()


def test_the_egress_hook_is_probed_without_a_trace(node):
    assert nft.has_egress()
    assert "probe" not in node.run("nft", "list", "tables")
    assert all(count.packets == 0 for name, count in counts(nft.read()).items() if "in" in name)
