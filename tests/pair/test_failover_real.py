"""A transfer through one firewall goes on through the other: with state sync, and not without."""

import json
import os
import subprocess
import sys

import pytest

from gimli.lab.namespaces import Network
from gimli.pair.syncactions import Mode
from tests.pair.firewalls import Firewall, join, run_until

pytestmark = [pytest.mark.real, pytest.mark.slow]

LAN, DMZ = "10.1.0.1", "10.2.0.1"
"""The two addresses that move."""

SEND = """
import socket, sys, time
with socket.create_connection(("10.2.0.2", 80)) as server:
    server.settimeout(5)
    while True:
        server.sendall(bytes(20_000))
        time.sleep(0.005)
"""

COUNT = """
import socket, sys
with socket.create_server(("", 80)) as listener:
    print("ready", flush=True)
    peer, client = listener.accept()
    print(client[0], flush=True)
    while data := peer.recv(65536):
        sys.stdout.write(f"{len(data)}\\n")
        sys.stdout.flush()
"""

NAT = f"""
table ip nat {{
  chain postrouting {{ type nat hook postrouting priority 100; ip saddr 10.1.0.2 snat to {DMZ}; }}
}}
"""


@pytest.fixture(name="place")
def _place():
    """Client and server on two switches, and between them two firewalls."""
    with Network() as network:
        lan, dmz = network.switch("lan"), network.switch("dmz")
        client, server = network.host("client"), network.host("server")
        network.plug(client, "eth0", lan, "10.1.0.2/24")
        network.plug(server, "eth0", dmz, "10.2.0.2/24")
        client.run("ip", "route", "add", "default", "via", LAN)
        server.run("ip", "route", "add", "default", "via", DMZ)
        hosts = [network.host(name) for name in "ab"]
        for host in hosts:
            network.plug(host, "lan0", lan)
            network.plug(host, "dmz0", dmz)
        yield client, server, hosts


def take_addresses(host, client, server):
    """Give a firewall the addresses, and tell the neighbours, as gratuitous ARP would."""
    for neighbour, device, address in ((client, "lan0", LAN), (server, "dmz0", DMZ)):
        host.address(device, f"{address}/24")
        (link,) = json.loads(host.run("ip", "-json", "link", "show", device))
        mac = link["address"]
        neighbour.run("ip", "neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")


def drop_addresses(host):
    for device in ("lan0", "dmz0"):
        host.run("ip", "addr", "flush", "dev", device)


class Transfer:
    """One TCP connection that never stops sending."""

    def __init__(self, client, server):
        self.received = 0
        self._server = server.start(sys.executable, "-c", COUNT, stdout=subprocess.PIPE)
        assert self._server.stdout.readline() == b"ready\n"
        self._client = client.start(sys.executable, "-c", SEND)
        assert self._server.stdout.readline().decode().strip() in {DMZ, "10.1.0.2"}
        os.set_blocking(self._server.stdout.fileno(), False)

    def look(self):
        """Bytes that have arrived until now."""
        while line := self._server.stdout.readline():
            self.received += int(line)
        return self.received

    def end(self):
        """Stop both ends."""
        for process in (self._client, self._server):
            process.kill()
            process.communicate()


@pytest.fixture(name="firewalls")
def _firewalls(request, place):
    """Two of one mode, the first of them the owner with the addresses, and with NAT if wanted."""
    client, server, hosts = place
    mode, nat = request.param
    firewalls = [Firewall(host, number, mode) for number, host in enumerate(hosts, 1)]
    if nat:
        for firewall in firewalls:
            firewall.host.run("nft", "-f", "-", text=NAT)
    take_addresses(hosts[0], client, server)
    join(*firewalls)
    yield firewalls
    for firewall in firewalls:
        firewall.close()


@pytest.fixture(name="transfer")
def _transfer(place, firewalls):
    client, server, _ = place
    transfer = Transfer(client, server)
    yield transfer
    transfer.end()


def take_over(place, firewalls):
    client, server, hosts = place
    drop_addresses(hosts[0])
    take_addresses(hosts[1], client, server)
    firewalls[1].own()


@pytest.mark.parametrize(
    "firewalls", [(mode, nat) for mode in Mode for nat in (False, True)], indirect=True, ids=str
)
def test_a_transfer_goes_on_after_a_takeover(place, firewalls, transfer):
    """Neither firewall picks up a connection in passing, and both drop what is invalid."""
    run_until(lambda: transfer.look() > 500_000, *firewalls)
    take_over(place, firewalls)
    before = transfer.look()
    run_until(lambda: transfer.look() > before + 2_000_000, firewalls[1])


@pytest.mark.parametrize("firewalls", [(Mode.KERNEL, False)], indirect=True, ids=str)
def test_without_state_sync_nothing_passes_after_a_takeover(place, firewalls, transfer):
    """So that the test above proves something."""
    one, other = firewalls
    one.peer = None
    run_until(lambda: transfer.look() > 500_000, one)
    take_over(place, firewalls)
    before = transfer.look()
    run_until(lambda: dropped(other.host) > 2, other)
    assert transfer.look() < before + 200_000  # what was on its way


def dropped(host):
    """How many packets belonged to no connection."""
    rules = host.run("nft", "list", "chain", "inet", "pair", "forward")
    return int(rules.partition("counter packets ")[2].split()[0])
