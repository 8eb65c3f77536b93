"""Addresses in a real kernel: taken at once, dropped for certain, and nothing of a killed daemon's left."""

from __future__ import annotations

import json

import pytest

from gimli.pair.address import Addresses, AddressRefused, Place, remove_leftovers, subnets_of
from gimli.pair.settings import Settings
from tests.conftest import PATIENCE_S
from tests.pair.frames import Station
from tests.pair.wanted import VIRTUAL_MAC
from tests.pair.wire import inside

pytestmark = pytest.mark.real

QUIET_S = 0.2
VIRTUAL = Place(1, "lan0", ("192.0.2.1/24", "192.0.2.7/24", "2001:db8::1/64"), VIRTUAL_MAC)
REAL = Place(1, "lan0", VIRTUAL.addresses)
PLACES = pytest.mark.parametrize("place", [VIRTUAL, REAL], ids=["virtual MAC", "real MAC"])
ASKERS = {"192.0.2.1": "192.0.2.10", "192.0.2.7": "192.0.2.10", "2001:db8::1": "2001:db8::10"}


@pytest.fixture
def settings_path(tmp_path):
    return str(tmp_path / "settings")


@pytest.fixture
def node(lan):
    """Be on the node."""
    with inside(lan.node):
        yield lan.node


@pytest.fixture
def station(lan):
    with inside(lan.client):
        made = Station("lan0")
    yield made
    made.close()


@pytest.fixture
def prepare(node, settings_path):
    """Make the addresses of a place, ready to be taken."""
    made = []

    def make(place: Place) -> Addresses:
        addresses = Addresses(place, Settings(settings_path))
        made.append(addresses)
        addresses.prepare()
        return addresses

    yield make
    for addresses in made:
        addresses.close()


def present(node, device: str = "") -> set[str]:
    """Every address of the node, or of one device, but link-local ones."""
    told = json.loads(node.run("ip", "-json", "addr", "show", *(["dev", device] if device else [])))
    every = (address for link in told for address in link.get("addr_info", ()))
    return {f"{each['local']}/{each['prefixlen']}" for each in every if each["scope"] == "global"}


OWN = {"192.0.2.2/24", "2001:db8::2/64", "10.1.0.2/24"}


@PLACES
def test_taken_and_dropped_again_and_again(node, prepare, place):
    addresses = prepare(place)
    assert present(node) == OWN
    for _ in range(3):
        addresses.take()
        addresses.take()
        assert present(node) == OWN | set(place.addresses)
        addresses.drop()
        addresses.drop()
        assert present(node) == OWN


@PLACES
def test_neighbours_find_every_address_at_once(node, prepare, station, place):
    """IPv6 too: no duplicate address detection keeps it silent for a second."""
    addresses = prepare(place)
    addresses.take()
    for address, asker in ASKERS.items():
        assert station.answers(address, asker, 0.9) == (VIRTUAL_MAC if place.mac else _lan0_mac(node))
    addresses.drop()
    for address, asker in ASKERS.items():
        assert station.ask(address, asker, QUIET_S) == set()


def _lan0_mac(node) -> str:
    return json.loads(node.run("ip", "-json", "link", "show", "dev", "lan0"))[0]["address"]


def test_only_the_virtual_mac_answers_for_the_virtual_address(prepare, node, station):
    """Both devices hear the question, and each has to leave the other's addresses to the other."""
    prepare(VIRTUAL).take()
    assert station.ask_all("192.0.2.1", "192.0.2.10", PATIENCE_S, QUIET_S) == {VIRTUAL_MAC}
    assert station.ask_all("2001:db8::1", "2001:db8::10", PATIENCE_S, QUIET_S) == {VIRTUAL_MAC}
    assert station.ask_all("192.0.2.2", "192.0.2.10", PATIENCE_S, QUIET_S) == {_lan0_mac(node)}
    assert station.ask_all("2001:db8::2", "2001:db8::10", PATIENCE_S, QUIET_S) == {_lan0_mac(node)}


def test_the_node_never_asks_in_the_virtual_addresss_name_from_its_own_mac(prepare, node, station):
    """It would put the interface's MAC into its neighbours' caches: arp_announce."""
    prepare(VIRTUAL).take()
    node.run("ping", "-c1", "-W1", "-I", "192.0.2.1", "192.0.2.77", check=False)
    asked = set()
    while frame := station.hear(QUIET_S):
        if frame[12:14] == b"\x08\x06" and frame[38:42] == bytes([192, 0, 2, 77]):
            asked.add((frame[22:28].hex(":"), ".".join(map(str, frame[28:32]))))
    assert asked == {(_lan0_mac(node), "192.0.2.2")}


@PLACES
@pytest.mark.parametrize("strict", [0, 1])
def test_clients_reach_the_address_whatever_rp_filter_was(lan, prepare, node, place, strict):
    """Frames arrive on carp1 and the route back leads through lan0: a strict filter would drop them."""
    node.sysctl(ipv4__conf__all__rp_filter=strict, ipv4__conf__default__rp_filter=strict)
    prepare(place).take()
    for address in ASKERS:
        assert "1 received" in lan.client.run("ping", "-c1", f"-W{PATIENCE_S:.0f}", address)


@PLACES
def test_an_interface_without_an_address_of_its_own(lan, prepare, node, place):
    """The prefix comes and goes with the address, and neighbours are found from it."""
    node.run("ip", "addr", "flush", "dev", "lan0", "scope", "global")
    addresses = prepare(place)
    addresses.take()
    for address in ASKERS:
        assert "1 received" in lan.client.run("ping", "-c1", f"-W{PATIENCE_S:.0f}", address)
    # Forwarded: the kernel has no address to ask from but the device's own.
    node.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
    node.address("dmz0", "2001:db8:1::2/64")
    lan.behind.address("dmz0", "2001:db8:1::10/64")
    lan.behind.run("ip", "route", "add", "default", "via", "10.1.0.2")
    lan.behind.run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::2")
    lan.client.run("ip", "route", "add", "default", "via", "192.0.2.1")
    lan.client.run("ip", "-6", "route", "add", "default", "via", "2001:db8::1")
    node.run("ip", "neigh", "flush", "all")
    for address in ("192.0.2.10", "2001:db8::10"):
        assert "1 received" in lan.behind.run("ping", "-c1", f"-W{PATIENCE_S:.0f}", address)
    addresses.drop()
    assert "192.0.2.0/24" not in node.run("ip", "route")
    assert "2001:db8::/64" not in node.run("ip", "-6", "route")


@PLACES
def test_the_way_to_the_lan_stays_the_interfaces(prepare, node, place):
    """A second route to the same prefix would be the first one after the interface's next fall."""
    prepare(place).take()
    for family, prefix in (("-4", "192.0.2.0/24"), ("-6", "2001:db8::/64")):
        routes = json.loads(node.run("ip", family, "-json", "route", "show", prefix))
        assert [route["dev"] for route in routes] == ["lan0"]


def test_the_nodes_own_address_survives_the_virtual_one(prepare, node):
    """Added second in the same prefix it is secondary, and the kernel would delete it with the first."""
    node.run("ip", "addr", "flush", "dev", "lan0", "scope", "global")
    addresses = prepare(REAL)
    addresses.take()
    node.address("lan0", "192.0.2.2/24", "2001:db8::2/64")
    addresses.drop()
    assert present(node) == OWN


def test_several_vhids_on_an_interface_do_not_touch_each_other(prepare, node, station):
    second = Place(2, "lan0", ("192.0.2.3/24", "2001:db8::3/64"), "00:00:5e:00:01:02")
    third = Place(3, "lan0", ("192.0.2.4/24",))
    fourth = Place(4, "lan0", ("192.0.2.5/24",))
    vhids = [prepare(place) for place in (VIRTUAL, second, third, fourth)]
    for addresses in vhids:
        addresses.take()
    assert station.ask_all("192.0.2.1", "192.0.2.10", PATIENCE_S, QUIET_S) == {VIRTUAL_MAC}
    assert station.ask_all("192.0.2.3", "192.0.2.10", PATIENCE_S, QUIET_S) == {"00:00:5e:00:01:02"}
    assert station.ask_all("2001:db8::3", "2001:db8::10", PATIENCE_S, QUIET_S) == {"00:00:5e:00:01:02"}
    assert station.ask_all("192.0.2.4", "192.0.2.10", PATIENCE_S, QUIET_S) == {_lan0_mac(node)}
    for addresses in (vhids[1], vhids[2]):
        addresses.drop()
    assert present(node) == OWN | set(VIRTUAL.addresses) | set(fourth.addresses)


def test_the_device_makes_no_address_and_takes_no_router_of_its_own(prepare, node):
    """Both nodes have the same MAC: what it derived from it would be there twice."""
    prepare(VIRTUAL).take()
    assert "fe80" not in node.run("ip", "-6", "addr", "show", "dev", "carp1")
    assert node.run("cat", "/proc/sys/net/ipv6/conf/carp1/accept_ra") == "0\n"


def test_the_device_forwards_as_its_interface_does(prepare, node):
    node.sysctl(ipv4__conf__lan0__forwarding=1, ipv6__conf__lan0__forwarding=1)
    prepare(VIRTUAL)
    for family in ("ipv4", "ipv6"):
        assert node.run("cat", f"/proc/sys/net/{family}/conf/carp1/forwarding") == "1\n"


@PLACES
def test_what_a_killed_daemon_left_is_removed_and_told(node, settings_path, place):
    killed = Addresses(place, Settings(settings_path))
    killed.prepare()
    killed.take()
    removed = remove_leftovers([place])
    assert present(node) == OWN
    assert "carp1" not in node.run("ip", "link")
    assert len(removed) == (1 if place.mac else 3)
    assert remove_leftovers([place]) == ()


@PLACES
def test_leftovers_of_another_configuration_are_found_too(node, settings_path, place):
    """The addresses were changed in the file while no daemon ran: ours bear a mark."""
    killed = Addresses(place, Settings(settings_path))
    killed.prepare()
    killed.take()
    remove_leftovers([Place(9, "lan0", ("192.0.2.99/24",))])
    assert present(node) == OWN


def test_somebody_elses_address_in_the_place_of_ours_is_removed(node):
    """A standby must not have it, whoever added it; and other addresses are nobody's leftovers."""
    node.address("lan0", "192.0.2.1/32", "192.0.2.50/24")
    assert remove_leftovers([REAL]) == ("address 192.0.2.1/32 of lan0",)
    assert present(node) == OWN | {"192.0.2.50/24"}


def test_settings_are_restored_even_by_the_successor_of_a_killed_daemon(node, settings_path):
    node.sysctl(ipv4__conf__lan0__arp_announce=1)
    before = {name: _setting(node, name) for name in ("arp_ignore", "arp_announce")}
    Addresses(VIRTUAL, Settings(settings_path)).prepare()
    assert _setting(node, "arp_ignore") == "1"
    remove_leftovers([VIRTUAL])
    settings = Settings(settings_path)
    addresses = Addresses(VIRTUAL, settings)
    addresses.prepare()
    addresses.close()
    settings.restore()
    assert {name: _setting(node, name) for name in before} == before


def _setting(node, name: str) -> str:
    return node.run("cat", f"/proc/sys/net/ipv4/conf/lan0/{name}").strip()


@PLACES
def test_an_address_that_moved_with_its_renamed_device_is_dropped_all_the_same(node, prepare, place):
    addresses = prepare(place)
    addresses.take()
    node.run("ip", "link", "set", "dev", place.device, "down")
    node.run("ip", "link", "set", "dev", place.device, "name", "moved")
    node.run("ip", "link", "set", "dev", "moved", "up")
    addresses.drop()
    assert not present(node, "moved") & set(place.addresses)
    node.run("ip", "link", "set", "dev", "moved", "down")
    node.run("ip", "link", "set", "dev", "moved", "name", place.device)


def test_a_device_that_was_removed_is_made_again(node, prepare, station):
    addresses = prepare(VIRTUAL)
    node.run("ip", "link", "del", "carp1")
    addresses.drop()
    addresses.take()
    assert station.answers("192.0.2.1", "192.0.2.10", PATIENCE_S) == VIRTUAL_MAC
    assert _carp1(node)["operstate"] == "UP"


def _carp1(node):
    return json.loads(node.run("ip", "-json", "link", "show", "dev", "carp1"))[0]


def test_a_standbys_device_is_down(node, prepare):
    """So its interface does not even let frames for the virtual MAC in."""
    addresses = prepare(VIRTUAL)
    assert "UP" not in _carp1(node)["flags"]
    addresses.take()
    assert "UP" in _carp1(node)["flags"]
    addresses.drop()
    assert "UP" not in _carp1(node)["flags"]


def test_no_such_interface_is_refused_in_words(prepare):
    with pytest.raises(AddressRefused, match="there is no interface nosuch"):
        prepare(Place(1, "nosuch", ("192.0.2.1/24",), VIRTUAL_MAC))


def test_a_port_of_a_bridge_is_refused_in_words(prepare, node):
    node.run("ip", "link", "add", "name", "br0", "type", "bridge")
    node.run("ip", "link", "set", "dev", "lan0", "master", "br0")
    with pytest.raises(AddressRefused) as refused:
        prepare(VIRTUAL)
    assert "bridge" in refused.value.fix


def test_a_foreign_device_of_our_name_is_left_alone(prepare, node):
    node.run("ip", "link", "add", "name", "carp1", "type", "veth", "peer", "name", "other")
    with pytest.raises(AddressRefused, match="cannot make carp1"):
        prepare(VIRTUAL)
    assert remove_leftovers([VIRTUAL]) == ()
    assert "other" in node.run("ip", "link")


def test_ipv6_that_is_switched_off_is_refused_in_words(prepare, node):
    node.sysctl(ipv6__conf__default__disable_ipv6=1)
    addresses = prepare(VIRTUAL)
    with pytest.raises(AddressRefused, match="cannot take") as refused:
        addresses.take()
    assert "IPv6 is disabled" in refused.value.why


def test_the_subnets_of_an_interface_have_those_of_what_is_on_top_of_it(node):
    """Their broadcasts pass the guard of the interface in any role."""
    node.run("ip", "link", "add", "link", "lan0", "name", "top0", "type", "macvlan")
    node.address("top0", "198.51.100.2/28")
    subnets = subnets_of("lan0")
    assert {"192.0.2.0/24", "198.51.100.0/28", "2001:db8::/64"} <= set(subnets)
    assert "10.1.0.0/24" not in subnets
    with pytest.raises(AddressRefused, match="there is no interface nosuch"):
        subnets_of("nosuch")
