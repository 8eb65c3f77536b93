"""What happens to an interface is heard at once."""

from __future__ import annotations

import select
import time

import pytest

from gimli.pair.links import Links, switch_link
from gimli.pair.linkwatch import AddressWent, LinkCameUp, LinkWatch, LinkWentDown
from tests.conftest import PATIENCE_S
from tests.pair.wire import inside

pytestmark = pytest.mark.real

ABSENT, OFF, NO_CARRIER = "there is no such interface", "it is switched off", "it has no carrier"


@pytest.fixture
def watch(lan):
    with inside(lan.node):
        made = LinkWatch(["lan0", "dmz0", "later0"])
    yield made
    made.close()


def events(watch: LinkWatch, count: int = 1) -> list[object]:
    """The next events, addresses aside."""
    heard: list[object] = []
    while len(heard) < count:
        assert select.select([watch], [], [], PATIENCE_S)[0]
        heard += [event for event in watch.read() if not isinstance(event, AddressWent)]
    return heard


def test_the_state_at_the_start_is_known(watch):
    assert watch.trouble("lan0") == ""
    assert watch.trouble("later0") == ABSENT
    assert watch.read() == []


def test_a_pulled_cable(lan, watch):
    lan.behind.run("ip", "link", "set", "dev", "dmz0", "down")
    assert events(watch) == [LinkWentDown("dmz0", NO_CARRIER)]
    assert watch.trouble("dmz0") == NO_CARRIER
    lan.behind.run("ip", "link", "set", "dev", "dmz0", "up")
    assert events(watch) == [LinkCameUp("dmz0")]


def test_an_interface_that_is_switched_off(lan, watch):
    lan.node.run("ip", "link", "set", "dev", "lan0", "down")
    assert events(watch) == [LinkWentDown("lan0", OFF)]


def test_an_interface_that_is_removed_and_one_that_appears(lan, watch):
    lan.node.run("ip", "link", "del", "dmz0")
    assert events(watch, 2)[-1] == LinkWentDown("dmz0", ABSENT)
    lan.node.run("ip", "link", "add", "name", "later0", "type", "veth", "peer", "name", "other")
    assert events(watch) == [LinkWentDown("later0", OFF)]
    lan.node.run("ip", "link", "set", "dev", "other", "up")
    lan.node.run("ip", "link", "set", "dev", "later0", "up")
    assert events(watch)[-1] == LinkCameUp("later0")


def test_a_renamed_interface_is_gone_and_another_may_be_there(lan, watch):
    lan.node.run("ip", "link", "set", "dev", "dmz0", "name", "later0")
    assert set(events(watch, 2)) == {LinkWentDown("dmz0", ABSENT), LinkCameUp("later0")}


def test_an_address_that_somebody_removes(lan, watch):
    lan.node.run("ip", "addr", "del", "192.0.2.2/24", "dev", "lan0")
    assert select.select([watch], [], [], PATIENCE_S)[0]
    assert watch.read() == [AddressWent("lan0", "192.0.2.2")]


def test_other_interfaces_and_other_news_are_no_events(lan, watch):
    lan.node.run("ip", "link", "set", "dev", "lan0", "mtu", "1400")
    lan.node.run("ip", "link", "set", "dev", "lo", "down")
    assert select.select([watch], [], [], PATIENCE_S)[0]
    assert watch.read() == []


def test_leaving_a_bridge_is_not_going_away(lan, watch):
    """The kernel says DELLINK then, of the bridge's family."""
    lan.node.run("ip", "link", "add", "name", "br0", "type", "bridge")
    lan.node.run("ip", "link", "set", "dev", "dmz0", "master", "br0")
    lan.node.run("ip", "link", "set", "dev", "dmz0", "nomaster")
    assert select.select([watch], [], [], PATIENCE_S)[0]
    assert [event for event in watch.read() if not isinstance(event, AddressWent)] == []
    assert watch.trouble("dmz0") == ""


def test_asking_sees_it_before_it_is_told(lan, watch):
    lan.behind.run("ip", "link", "set", "dev", "dmz0", "down")
    assert watch.poll() == [LinkWentDown("dmz0", NO_CARRIER)]
    watch.read()
    assert watch.trouble("dmz0") == NO_CARRIER
    assert watch.poll() == []
    lan.node.run("ip", "link", "del", "lan0")
    assert watch.poll() == [LinkWentDown("lan0", ABSENT)]


def test_more_news_than_the_socket_holds_are_made_good_by_looking(lan, watch):
    lan.node.run(
        "ip", "-batch", "-", text="".join(f"link set dev lan0 mtu {1400 + n % 2}\n" for n in range(2000))
    )
    lan.behind.run("ip", "link", "set", "dev", "dmz0", "down")
    assert watch.read() == [LinkWentDown("dmz0", NO_CARRIER)]


def test_a_loss_of_carrier_is_known_within_milliseconds(lan, watch):
    """On a veth; a network card's loss the kernel may tell a second late, and then poll() sees it."""
    with inside(lan.behind):
        other_end = Links()
    index = other_end.link("dmz0").index
    lags_s = []
    for _ in range(5):
        began_s = time.monotonic()
        other_end.change(switch_link(index, up=False))
        events(watch)
        lags_s.append(time.monotonic() - began_s)
        other_end.change(switch_link(index, up=True))
        events(watch)
    other_end.close()
    print(f"carrier loss heard within {min(lags_s) * 1000:.1f} to {max(lags_s) * 1000:.1f} ms")
    assert min(lags_s) < 0.1
