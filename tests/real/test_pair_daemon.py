"""The daemon of a pair on real kernels: what it does at its beginning, at its end and when it is told to.

The timers are short where time is not the claim: advbase 0, and a lease that a busy machine keeps.
"""

import json
import os
import signal
import sys
import time

import pytest

from gimli.control import client
from tests.failover.node import Node
from tests.failover.site import LAN_ADDRESS, Site, carp_table, sync_table

pytestmark = pytest.mark.real

QUICK = {"advbase": 0, "advskew": 40}
"""An advertisement every 156 ms, dead after 469 ms."""


@pytest.fixture
def site():
    with Site() as made:
        yield made


def start(node: Node, text: str) -> None:
    node.configure(text)
    node.start()


def start_pair(site: Site, *more: str, **carp: object) -> None:
    """Both nodes with state sync; ``a`` is MASTER, and ``b`` has heard it and has all of its connections."""
    for node in site.nodes:
        start(node, carp_table(**(QUICK | carp)) + sync_table(node) + "".join(more))
        node.wait_for_role("MASTER" if node is site.a else "BACKUP")
    site.b.wait_until(lambda status: status["peer"], "an advertisement")
    site.b.wait_until(lambda status: status["states"]["synchronised"], "the connections")


def addresses(node: Node) -> str:
    """All of a host's; those of IPv6 become usable in their own time."""
    return node.host.run("ip", "-o", "addr").replace(" tentative", "")


def test_the_status_keeps_its_contract(site):
    start_pair(site)
    done = site.b.call("pair", "status", "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert status["schema"] == 1
    assert (status["role"], status["vhid"], status["demotion"]) == ("BACKUP", 1, 0)
    assert status["peer"]["address"] == "192.0.2.2"
    assert {"local", "replicated", "lost"} <= status["states"].keys()
    assert status["guard"]["installed"] is True
    assert status["guard"]["dropped"] == sum(status["guard"]["counters"].values())
    shown = site.a.call("pair", "status").stdout
    assert shown.startswith("MASTER  vhid 1 on lan0")
    assert "guard   in place" in shown


def test_without_a_daemon_the_status_says_how_to_start_it(site):
    done = site.a.call("pair", "status")
    assert done.returncode == 1
    assert "the pair's daemon does not run here" in done.stderr
    assert "gimli pair run" in done.stderr


def test_a_second_daemon_does_not_start(site):
    start(site.a, carp_table(**QUICK))
    site.a.wait_for_role("MASTER")
    done = site.a.call("pair", "run", "-f", site.a.file)
    assert done.returncode == 1
    assert f"pid {site.a.pid} holds" in done.stderr
    assert site.a.status()["role"] == "MASTER"


def test_every_error_of_a_pair_toml_is_told_with_its_line(site):
    site.a.configure(carp_table(interfase='"lan0"', advskew=300) + '[sync]\ninterface = "sync0"\n')
    done = site.a.call("pair", "run", "-f", site.a.file)
    assert done.returncode == 2
    for words in (
        "line 6: carp.1.interfase",
        'mean "interface"',
        "line 7: carp.1.advskew",
        "line 8: sync.peer",
    ):
        assert words in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (carp_table(interface="lan7"), "there is no interface lan7"),
        (carp_table(addresses="2001:db8:9::1/64", interface="lo"), "lo has no address of its own"),
    ],
)
def test_a_host_that_cannot_take_part_says_why_and_is_left_as_it_was(site, text, words):
    before = addresses(site.a)
    site.a.configure(text)
    done = site.a.call("pair", "run", "-f", site.a.file)
    assert done.returncode == 1
    assert words in done.stderr
    assert addresses(site.a) == before


def test_term_bows_out_and_the_peer_takes_over_at_once(site):
    """Not at the end of its dead time, which is 469 ms; and nothing but the guard stays."""
    before = addresses(site.a)
    start_pair(site)
    observer = site.observe()
    observer.wait_until_answers("a")
    sent_ns = site.a.send(signal.SIGTERM)
    took_s = (observer.wait_until_answers("b") - sent_ns) / 1e9
    assert took_s < 0.3, "a dead time, not a bow-out"
    assert site.a.wait() == 0
    assert site.b.wait_for_role("MASTER")["why"] == "took over: 192.0.2.2 bowed out"
    assert addresses(site.a) == before
    assert "table netdev gimli" in site.a.host.run("nft", "list", "tables")
    assert not os.path.exists(os.path.join(site.a.runtime_dir, "pair", "status.sock"))
    assert observer.finish().answerers() == ["a", "b"]
    print(f"TERM to the peer's first answer: {took_s * 1000:.0f} ms")


def test_a_daemon_that_was_killed_is_cleaned_up_after(site):
    """Its addresses are removed before anything else, and what it had changed is put back at the end."""
    before = addresses(site.a)
    start(site.a, carp_table(mac='"real"', **QUICK))
    site.a.wait_for_role("MASTER")
    site.a.kill()
    assert LAN_ADDRESS in addresses(site.a)
    site.a.start()
    assert LAN_ADDRESS in site.a.wait_for("leftover-removed")["what"]
    site.a.wait_for_role("MASTER")
    site.a.send(signal.SIGTERM)
    assert site.a.wait() == 0
    assert addresses(site.a) == before


def test_the_one_that_was_master_is_master_again_when_both_come_back(site):
    """Its kernel has the connections; the other one, which ranks higher, knows nothing of them any more."""
    start(site.b, carp_table(**(QUICK | {"advskew": 60})) + sync_table(site.b))
    site.b.wait_for_role("MASTER")
    start(site.a, carp_table(**QUICK) + sync_table(site.a))
    site.a.wait_for_role("BACKUP")
    for node in site.nodes:
        node.kill()
    for node in site.nodes:
        node.start()
    assert site.b.wait_for_role("MASTER")["why"].startswith("took over: no advertisement")
    site.a.wait_until(lambda status: status["states"]["synchronised"], "the connections")
    assert site.a.events("role")[-1]["role"] == "BACKUP"


def test_the_last_one_that_was_master_is_master_again(site):
    """The other one was, before: its kernel's connections are older, and it learns that from the epochs."""
    for node in site.nodes:
        start(node, carp_table(**(QUICK | {"advskew": 60})) + sync_table(node))
        node.wait_for_role("MASTER" if node is site.a else "BACKUP")
    site.b.wait_until(lambda status: status["states"]["synchronised"], "the connections")
    site.a.kill()
    site.b.wait_for_role("MASTER")
    site.b.wait_until(lambda status: status["states"]["owner"], "an epoch of its own")
    site.b.kill()
    for node in site.nodes:
        node.start()
    assert site.b.wait_for_role("MASTER")["why"].startswith("took over: no advertisement")
    site.a.wait_until(lambda status: status["states"]["synchronised"], "the connections")
    assert [entry["role"] for entry in site.a.history("role")] == ["BACKUP"]


def test_hup_opens_the_journal_anew(site):
    start(site.a, carp_table(**QUICK))
    site.a.wait_for_role("MASTER")
    os.rename(site.a.journal_path, site.a.journal_path + ".old")
    site.a.send(signal.SIGHUP)
    site.a.send(signal.SIGTERM)
    assert site.a.wait() == 0
    assert [entry["event"] for entry in site.a.events("pair-started", "pair-ended")] == ["pair-ended"]


HOOK = """
import os, signal, sys
blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
inherited = [fd for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(fd)]
told = [sys.argv[2:], blocked, inherited, os.sched_getscheduler(0)]
with open(sys.argv[1], "a") as file:
    file.write(f"{told}\\n")
"""


def test_commands_are_run_at_each_change_in_order_and_with_nothing_of_ours(site):
    """A blocked signal would be blocked in every daemon that the command starts."""
    told = os.path.join(site.directory, "told")
    hook = [sys.executable, "-c", HOOK, told]
    up, down = json.dumps([*hook, "up"]), json.dumps([*hook, "down"])
    start(site.a, carp_table(up=up, down=down, **QUICK))
    site.a.wait_for_role("MASTER")
    site.a.send(signal.SIGTERM)
    assert site.a.wait() == 0, "it waits for the command that its end has started"
    with open(told, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert lines == [f"[['{which}', 'lan0', '{LAN_ADDRESS}'], [], [], 0]" for which in ("up", "down")]


def test_a_command_that_fails_or_is_not_there_is_told(site):
    start(site.a, carp_table(up='["false"]', down='["/nonexistent/down"]', **QUICK))
    assert site.a.wait_for("hook-failed")["why"] == "it ended with 1"
    site.a.send(signal.SIGTERM)
    missing = "cannot run /nonexistent/down: No such file or directory"
    assert site.a.wait_for("hook-failed", hook="down")["why"] == missing
    assert site.a.wait() == 0


def test_a_firewall_that_flushes_all_rules_costs_no_role(site):
    """Most rule files begin with it. The rules are back, and with them the lease: a MASTER in time is one."""
    start_pair(site)
    site.a.host.run("nft", "flush", "ruleset")
    assert site.a.wait_for("guard-altered", what="there is no table")["mended"] is True
    observer = site.observe()
    observer.wait_until_answers("a")
    assert site.a.status()["guard"]["installed"]
    assert site.a.events("role") == []
    assert site.b.events("role") == []


def test_a_tracked_command_that_fails_moves_the_address_and_says_why(site):
    """Also to a peer that does not preempt, and back when the command is content and the peer's is not."""
    fit = [os.path.join(site.directory, f"{node.name}-is-fit") for node in site.nodes]
    for path, node in zip(fit, site.nodes, strict=True):
        with open(path, "w", encoding="utf-8"):
            pass
        track = f'[track]\ncommand = ["test", "-e", "{path}"]\ninterval = "100ms"\n'
        start(node, carp_table(**QUICK) + sync_table(node) + track)
        node.wait_for_role("MASTER" if node is site.a else "BACKUP")
    site.b.wait_until(lambda status: status["states"]["synchronised"], "the connections")
    os.unlink(fit[0])
    assert site.b.wait_for_role("MASTER")["why"] == "took over: peer's demotion 32 > ours 0"
    why = site.a.wait_for_role("BACKUP")["why"]
    assert why == "yielded: peer's demotion 0 < ours 32, because command test failed with 1"
    assert site.a.status()["reasons"][0] == {"reason": "command test failed with 1", "amount": 32}


def test_a_pulled_cable_takes_all_vhids_along(site):
    """All go by a bow-out over the sync link, the leading one last: who has it has all."""
    tables = carp_table(1, **QUICK) + carp_table(2, "sync0", "198.51.100.6/30", **QUICK)
    for node in site.nodes:
        start(node, tables + sync_table(node))
        for vhid in (1, 2):
            node.wait_for_role("MASTER" if node is site.a else "BACKUP", vhid)
    site.b.wait_until(lambda status: status["states"]["synchronised"], "the connections")
    pulled_s = time.monotonic()
    site.pull(site.a)
    assert "lan0: it has no carrier" in site.a.wait_for_role("INIT")["why"]
    took_over = [site.b.wait_for_role("MASTER", vhid) for vhid in (2, 1)]
    assert [entry["why"] for entry in took_over] == [
        "took over: 198.51.100.1 bowed out",
        "took over: 192.0.2.2 bowed out",
    ]
    assert "vhid 1 has left" in site.a.wait_for_role("BACKUP", 2)["why"]
    took_s = took_over[-1]["monotonic_ns"] / 1e9 - pulled_s
    assert took_s < 0.45, "a dead time, not a word"
    site.plug_in(site.a)
    site.a.wait_for_role("BACKUP", 1)
    assert site.a.wait_until(lambda status: not status["demotion"], "no demotion")["role"] == "BACKUP"
    print(f"pulled to the last address taken: {took_s * 1000:.0f} ms")


def test_a_question_that_is_none_of_the_pairs_is_refused(site):
    start(site.a, carp_table(**QUICK))
    site.a.wait_for_role("MASTER")
    path = os.path.join(site.a.runtime_dir, "pair", "status.sock")
    with pytest.raises(Exception, match="the pair does not know ps"):
        client.call(path, "ps")
