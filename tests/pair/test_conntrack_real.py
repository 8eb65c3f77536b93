"""What one kernel has comes into another: told, patched, inserted, and read back by Debian's conntrack."""

import subprocess
import sys

import pytest

from gimli.lab.namespaces import Network
from gimli.pair import conntrack, ctmessage, netlink
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.syncactions import Mode
from tests.pair.connections import ASSURED, BEGUN, CONFIRMED, ESTABLISHED, EXPECTED, SCTP, Connection, End
from tests.pair.firewalls import Firewall, inside, join, run_until

pytestmark = pytest.mark.real

TRACKING = "table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }"
"""A kernel tracks connections in a namespace that has a rule about them."""

CLIENT, CLIENT_6 = "10.1.0.2", "fd01::2"
SERVER, SERVER_6 = "10.2.0.2", "fd02::2"

SERVE = """
import socket, sys, threading
def tcp(listener):
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=answer, args=(peer,), daemon=True).start()
def answer(peer):
    while data := peer.recv(4096):
        peer.sendall(data)
def udp(one):
    while True:
        data, peer = one.recvfrom(4096)
        one.sendto(data, peer)
listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
datagrams.bind(("::", 53))
threading.Thread(target=tcp, args=(listener,), daemon=True).start()
threading.Thread(target=udp, args=(datagrams,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""

TALK = """
import socket, sys
kind, address = getattr(socket, sys.argv[1]), sys.argv[2]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, kind) as one:
    one.settimeout(10)
    one.connect((address, 80 if kind == socket.SOCK_STREAM else 53))
    for _ in range(3):
        one.send(b"hello")
        assert one.recv(100) == b"hello"
    print("talked", flush=True)
    sys.stdin.read()
"""

NAT = """
table inet nat {{
  chain postrouting {{ type nat hook postrouting priority 100;
    {snat} }}
  chain prerouting {{ type nat hook prerouting priority -100;
    {dnat} }}
}}
"""
SNAT = "ip saddr 10.1.0.0/16 snat ip to 10.2.0.77; ip6 saddr fd01::/16 snat ip6 to fd02::77;"
DNAT = f"ip daddr 10.2.0.99 dnat ip to {SERVER}; ip6 daddr fd02::99 dnat ip6 to {SERVER_6};"


@pytest.fixture(name="network")
def _network():
    with Network() as network:
        yield network


def between(network, name, mode, node_id):
    """A firewall with a client on one side and a server on the other."""
    firewall, client, server = (network.host(f"{name}{role}") for role in ("f", "c", "s"))
    network.cable(client, "lan0", firewall, "lan0")
    network.cable(server, "dmz0", firewall, "dmz0")
    client.address("lan0", f"{CLIENT}/16", f"{CLIENT_6}/64")
    server.address("dmz0", f"{SERVER}/16", f"{SERVER_6}/64", "10.2.0.98/16")
    firewall.address("lan0", "10.1.0.1/16", "fd01::1/64")
    # Answers to what was translated come here.
    firewall.address("dmz0", "10.2.0.1/16", "fd02::1/64", "10.2.0.77/16", "fd02::77/64")
    for host, gateway, gateway_6 in ((client, "10.1.0.1", "fd01::1"), (server, "10.2.0.1", "fd02::1")):
        host.run("ip", "route", "add", "default", "via", gateway)
        host.run("ip", "-6", "route", "add", "default", "via", gateway_6)
    return Firewall(firewall, node_id, mode), client, server


def talking(host, kind, address):
    """A client that has exchanged something, and stays connected."""
    return host.start(
        sys.executable, "-c", TALK, kind, address, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("nat", ["", "snat", "dnat", "both"])
def test_connections_come_into_another_kernel(network, mode, nat):
    """TCP, UDP and ICMP, over IPv4 and IPv6, with marks and labels: then both kernels have the same."""
    one, client, server = between(network, "a", mode, 1)
    other = Firewall(network.host("b"), 2, mode)
    rules = NAT.format(snat=SNAT * (nat in {"snat", "both"}), dnat=DNAT * (nat in {"dnat", "both"}))
    for firewall in (one, other):
        firewall.host.run("nft", "-f", "-", text=rules)
    serving = server.start(sys.executable, "-c", SERVE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert serving.stdout.readline() == b"ready\n"
    join(one, other)
    to = ("10.2.0.99", "fd02::99") if nat in {"dnat", "both"} else (SERVER, SERVER_6)
    talks = [talking(client, kind, address) for kind in ("SOCK_STREAM", "SOCK_DGRAM") for address in to]
    for talk in talks:
        assert talk.stdout.readline() == b"talked\n"
    for address in to:
        client.run("ping", "-c1", "-W5", address)
    run_until(lambda: other.sync.held >= 6 and one.sync.has_settled, one, other)
    if mode is Mode.CACHE:
        assert other.table() == {}
        other.own()
        run_until(lambda: len(other.table()) >= 6, other)
    mine, theirs = one.table(), other.table()
    assert sorted(words.split()[0] for words in theirs) == ["icmp", "icmpv6", "tcp", "tcp", "udp", "udp"]
    assert theirs == {words: mine[words] for words in theirs}
    assert all(ctmessage.LABELS in parts for parts in theirs.values())
    assert other.listed() == [line for line in one.listed() if "mark=42" in line]
    assert len(other.listed()) == 6
    assert other.writer.failed == {}
    for process in (*talks, serving):
        process.communicate(b"")
    one.close()
    other.close()


def test_what_the_kernel_refuses_is_tried_again_and_counted(network):
    """An insertion over an entry that is there, an update of one that is not, a helper that nobody has."""
    host = network.host("a")
    host.run("nft", "-f", "-", text=TRACKING)
    with inside(host):
        writer = conntrack.Writer()
    plain = Connection(state=ESTABLISHED)
    marked, helped = plain.but(mark=9, state=4), plain.but(helper="nosuchhelper", mark=3)
    for message in (plain.message(BEGUN), marked.message(BEGUN), helped.message(BEGUN)):
        writer.write([ctmessage.canonical(message)[1]])
        print(host.run("conntrack", "-L"))
    assert "mark=3" in host.run("conntrack", "-L")
    assert writer.failed == {}
    assert writer.tried_again == 3
    writer.close()


def test_a_second_try_does_not_undo_what_was_said_behind_it(network):
    """A connection that begins and ends in one batch, over one that this kernel kept from before."""
    host = network.host("a")
    host.run("nft", "-f", "-", text=TRACKING)
    with inside(host):
        writer = conntrack.Writer()
    kept = Connection(state=ESTABLISHED)
    other = kept.but(source=End("10.0.0.1", 2000))
    begun = ctmessage.canonical(kept.but(mark=9).message(BEGUN))[1]
    writer.write([ctmessage.canonical(kept.message(BEGUN))[1]])
    writer.write([begun, ctmessage.canonical(other.message(BEGUN))[1], ctmessage.deletion_of(begun)])
    assert writer.failed == {}
    assert writer.tried_again == 1
    (line,) = host.run("conntrack", "-L").splitlines()
    assert "sport=2000" in line
    writer.close()


def test_a_related_connection_comes_in_with_its_master_or_without(network):
    """An FTP transfer belongs to its control connection; an update cannot name that, and makes it anew."""
    host = network.host("a")
    host.run("nft", "-f", "-", text=TRACKING)
    with inside(host):
        conntrack.enable_events()
        writer = conntrack.Writer()
    control = Connection(destination=End("192.0.2.10", 21), state=ESTABLISHED, status=CONFIRMED | ASSURED)
    master = netlink.attribute(0x8000 | ctmessage.TUPLE_MASTER, control.tuple(1)[4:])
    transfer = Connection(source=End("10.0.0.1", 2000), status=CONFIRMED | EXPECTED, extra=master)
    message = ctmessage.canonical(transfer.message(BEGUN))[1]
    for before in ([], [ctmessage.canonical(control.message(BEGUN))[1]]):
        writer.write([*before, message, ctmessage.as_change(message, ctmessage.Change.UPDATED)])
        assert writer.failed == {}
        assert is_expected(host, ctmessage.key_of(message)) == bool(before)
    writer.close()


def is_expected(host, key):
    with inside(host):
        dump = conntrack.Dump()
    status = {
        parts[ctmessage.TUPLE_ORIG]: parts[ctmessage.STATUS] for parts in map(ctmessage.parts, dump.drain())
    }
    dump.close()
    return bool(status[key][-1] & EXPECTED)


def test_sctp_comes_in(network):
    """The kernel tracks it even without an SCTP of its own."""
    host = network.host("a")
    host.run("nft", "-f", "-", text=TRACKING)
    with inside(host):
        writer = conntrack.Writer()
    writer.write([ctmessage.canonical(Connection(protocol=SCTP, state=4).message(BEGUN))[1]])
    assert writer.failed == {}
    assert "sctp" in host.run("conntrack", "-L")
    writer.close()


def test_lost_events_are_told(network):
    """More than the socket's buffer holds: the kernel says so, and what it had kept is dropped as well."""
    host = network.host("a")
    host.run("nft", "-f", "-", text=TRACKING)
    with inside(host):
        conntrack.enable_events()
        events = conntrack.Events(receive_bytes=20_000)
        writer = conntrack.Writer()
    many = (Connection().but(source=End("10.0.0.1", 1 + number)) for number in range(2000))
    writer.write([ctmessage.canonical(one.message(BEGUN))[1] for one in many])
    batch = events.drain()
    assert batch == conntrack.Batch([], lost=True)
    writer.write([ctmessage.canonical(Connection().message(BEGUN))[1]])
    assert len(Intake(Filter()).take(events.drain().messages)) == 1
    events.close()
    writer.close()
