"""Networks of real hosts: they work, and leave nothing behind."""

import os
import select
import signal
import subprocess
import sys

import pytest

from gimli.lab.namespaces import Network, NetworkRefused

pytestmark = pytest.mark.real


def test_two_hosts_behind_a_switch_hear_each_other():
    with Network() as network:
        left, right, switch = network.host("left"), network.host("right"), network.switch("switch")
        network.plug(left, "lan0", switch, "192.0.2.1/24", "2001:db8::1/64")
        network.plug(right, "lan0", switch, "192.0.2.2/24", "2001:db8::2/64")
        assert "1 received" in left.run("ping", "-c1", "-W5", "192.0.2.2")
        assert "1 received" in left.run("ping", "-c1", "-W5", "2001:db8::2")


def test_a_command_that_fails_says_where_and_why():
    with Network() as network:
        host = network.host("left")
        with pytest.raises(NetworkRefused, match="left: ip link show nosuch has failed") as refused:
            host.run("ip", "link", "show", "nosuch")
        assert "nosuch" in refused.value.why


def test_a_sysctl_is_set_in_the_namespace_only():
    with Network() as network:
        host = network.host("left")
        host.sysctl(ipv4__ip_forward=1, ipv4__conf__lo__rp_filter=2)
        assert host.run("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
        assert host.run("cat", "/proc/sys/net/ipv4/conf/lo/rp_filter") == "2\n"


def test_a_network_is_gone_when_its_maker_is_killed():
    """No name in /run/netns that somebody would have to remove by hand: the holder dies with its maker."""
    program = (
        "from gimli.lab.namespaces import Network\n"
        "import signal\n"
        "host = Network().host('left')\n"
        "print(host.pid, flush=True)\n"
        "signal.pause()\n"
    )
    maker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    pidfd = os.pidfd_open(int(maker.stdout.readline()))
    try:
        maker.send_signal(signal.SIGKILL)
        maker.communicate()
        assert select.select([pidfd], [], [], 30)[0]
    finally:
        os.close(pidfd)
