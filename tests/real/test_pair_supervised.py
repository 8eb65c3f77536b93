"""The pair's daemon as a service of a monitor, and a service of a monitor as a reason of the pair's."""

import json
import os
import re
import signal
import sys
import time

import pytest

from gimli import journal
from tests.failover.node import COMMAND, PATIENCE_S
from tests.failover.site import Site, carp_table, sync_table

pytestmark = pytest.mark.real

QUICK = {"advbase": 0, "advskew": 40}
DEAD_S = 0.47


@pytest.fixture
def site():
    with Site() as made:
        yield made


class Monitor:
    """``gimli up`` in the background on a node's host."""

    def __init__(self, node, text):
        self._node = node
        self._journal = os.path.join(node.state_dir, "journal", "up.jsonl")
        path = os.path.join(node.directory, "gimli.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        done = node.call("up", "--detach", "-f", path)
        assert done.returncode == 0, done.stderr
        self._since_ns = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self._node.call("down").returncode == 0

    def wait_for(self, event, **fields):
        """The next event of that name and with those fields."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            for entry in journal.read(self._journal):
                is_it = entry["event"] == event and fields.items() <= entry.items()
                if is_it and entry["monotonic_ns"] > self._since_ns:
                    self._since_ns = entry["monotonic_ns"]
                    return entry
            time.sleep(0.01)  # its journal has no other bell than a client of its socket
        raise AssertionError(f"no event {event} {fields}: {list(journal.read(self._journal))}")


def service(name, *command, **more):
    lines = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f"[service.{name}]\ncommand = {json.dumps(command)}\n{lines}"


def test_a_daemon_that_freezes_loses_its_address_in_time_and_is_started_again(site):
    """The kernel takes its role away before the monitor sees the hang, which brings it back as a backup."""
    for node in site.nodes:
        node.configure(carp_table(**QUICK) + sync_table(node))
    pair = service("pair", *COMMAND, "pair", "run", "-f", site.a.file, watchdog='"1s"', backoff='"50ms..1s"')
    with Monitor(site.a, pair) as monitor:
        pid = monitor.wait_for("started", service="pair")["pid"]
        monitor.wait_for("heartbeat", service="pair", state="running")
        site.a.wait_until(lambda status: status["role"] == "MASTER", "its role")
        site.b.start()
        site.b.wait_for_role("BACKUP")
        site.b.wait_until(lambda status: status["states"]["synchronised"], "the connections")
        observer = site.observe()
        observer.wait_until_answers("a")
        stopped_ns = time.time_ns()
        os.kill(pid, signal.SIGSTOP)
        took_s = (observer.wait_until_answers("b") - stopped_ns) / 1e9
        assert took_s < 2 * DEAD_S
        assert monitor.wait_for("started", service="pair")["pid"] != pid
        status = site.a.wait_until(lambda status: status["pid"] != pid, "its successor")
        assert status["role"] == "BACKUP"
        site.a.wait_until(lambda status: status["states"]["synchronised"], "the connections")
        assert observer.finish().answerers() == ["a", "b"]
        reports = json.loads(site.a.call("reports", "--json").stdout)["reports"]
        assert [(report["service"], report["reason"]) for report in reports] == [("pair", "hang")]


CRASHES_WHEN_TOLD = (
    "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\nsys.exit(1)"
)


def test_a_tracked_service_that_fails_moves_the_address_and_is_named(site):
    told = os.path.join(site.directory, "crash")
    text = service("web", sys.executable, "-c", CRASHES_WHEN_TOLD, told, backoff='"10ms..20ms"')
    with Monitor(site.a, text) as monitor:
        monitor.wait_for("started", service="web")
        track = '[track]\nservices = ["web"]\ninterval = "100ms"\n'
        for node in site.nodes:
            node.configure(carp_table(**QUICK) + sync_table(node) + (track if node is site.a else ""))
            node.start()
            node.wait_for_role("MASTER" if node is site.a else "BACKUP")
        site.b.wait_until(lambda status: status["states"]["synchronised"], "the connections")
        with open(told, "w", encoding="utf-8"):
            pass
        why = site.a.wait_for_role("BACKUP")["why"]
        assert re.search("because service web is [A-Z]+$", why), "whatever it is in on its way to FAILED"
        assert site.b.wait_for_role("MASTER")["why"] == "took over: peer's demotion 32 > ours 0"
        reason = {"reason": "service web is FAILED", "amount": 32}
        site.a.wait_until(lambda status: status["reasons"] == [reason], "a service that is FAILED")
