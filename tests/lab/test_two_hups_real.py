"""Incident 1 with the real logrotate: it happens to the naive monitor, not to ours, and nothing is left."""

from __future__ import annotations

import glob
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace

import pytest

from gimli.errors import GimliError
from gimli.lab import cage
from gimli.lab.two_hups import logrotate, real
from gimli.lab.two_hups.model import Empty, Script, Span, Takeover, Timing
from gimli.lab.two_hups.scenario import INCIDENT, OURS
from gimli.lab.two_hups.simulation import simulate

pytestmark = [
    pytest.mark.alone,
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("logrotate", path="/usr/sbin:/usr/bin") is None, reason="apt install logrotate"
    ),
]

GIMLI = (sys.executable, "-c", "from gimli.cli import main; main()")
FULL = replace(INCIDENT, log_bytes=(10_000_000, 0))
ONCE = replace(INCIDENT, script=Script.ONCE)


def play(setup, directory):
    """One real run in ``directory``, of which nothing may be left."""
    observed = real.play(setup, GIMLI, lambda _: None)
    assert not os.listdir(directory)
    return observed


@pytest.fixture(name="directory", autouse=True)
def _directory(monkeypatch):
    """Temporary directories are made in one of our own. Short: a unix socket's path has 107 bytes at most."""
    made = tempfile.mkdtemp(prefix="lab-")
    monkeypatch.setattr(tempfile, "tempdir", made)
    yield made
    shutil.rmtree(made)


def is_foretold(setup, outcome):
    """The simulation gets the times of this run, for what is compared is the rules."""
    took_s = max(outcome.takeover_ms) / 1000
    timing = replace(Timing(), takeover=Span(took_s, took_s))
    if outcome.gaps_ms and not setup.log_bytes[0]:
        gap_s = outcome.gaps_ms[0] / 1000
        timing = replace(timing, rotate=Span(gap_s, gap_s))
    foretold, _ = simulate(setup, timing, random.Random(1))
    assert len(foretold.hups) == len(outcome.hups)
    assert foretold.monitors_after == outcome.monitors_after
    assert foretold.is_endless == outcome.is_endless
    assert foretold.is_term_honoured == outcome.is_term_honoured
    assert foretold.is_service_watched == outcome.is_service_watched


def test_the_naive_monitor_is_doubled_and_fills_its_log(directory):
    """A busy machine may rotate slower than it takes over; a night that passes well proves nothing."""
    for _ in range(5):
        outcome = play(INCIDENT, directory).outcome
        if outcome.monitors_after > 1 and outcome.is_endless:
            break
    assert len(outcome.hups) == 2
    assert all(hup.sender.startswith("sh(") and "logrotate(" in hup.sender for hup in outcome.hups)
    assert outcome.monitors_after == 2
    assert outcome.is_endless
    assert outcome.log_bytes_per_s > 10_000
    assert not outcome.is_term_honoured
    assert not outcome.is_service_watched
    assert outcome.log_bytes <= real.LOG_LIMIT_BYTES
    is_foretold(INCIDENT, outcome)


@pytest.mark.parametrize("setup", [OURS, replace(OURS, script=Script.ONCE)], ids=["two HUPs", "one HUP"])
def test_ours_is_not(setup, directory):
    outcome = play(setup, directory).outcome
    assert len(outcome.hups) == (2 if setup.script is Script.ONCE_PER_LOG else 1)
    assert all(hup.sender.startswith("sh(") and "logrotate(" in hup.sender for hup in outcome.hups)
    assert outcome.monitors_most == 1
    assert outcome.is_service_kept
    assert outcome.is_right
    assert outcome.log_bytes < 20_000


@pytest.mark.parametrize(
    "setup",
    [FULL, ONCE, replace(INCIDENT, empty=Empty.PASSED_OVER)],
    ids=["full error log", "sharedscripts", "notifempty"],
)
def test_with_a_cause_taken_away_the_naive_monitor_stays_one(setup, directory):
    outcome = play(setup, directory).outcome
    assert outcome.is_right
    is_foretold(setup, outcome)


def test_the_growth_of_a_log_is_that_while_it_grew():
    """Not that of the time before the copies stood, nor after the disk was full."""
    sizes = [(0.0, 0), (0.1, 0), (0.2, 100), (0.3, 200), (0.4, 300), (0.5, 300)]
    assert real.growth_bytes_per_s([(at_s, 2, size) for at_s, size in sizes]) == pytest.approx(1000)
    assert real.growth_bytes_per_s([(0.0, 1, 0), (0.1, 1, 0)]) == 0


def test_the_stanza_is_what_an_operator_would_write():
    text = logrotate.stanza(replace(ONCE, takeover=Takeover.IN_PLACE), "/var/log")
    assert text.startswith("/var/log/app-error.log /var/log/app.log {")
    assert "    sharedscripts\n" in text
    assert "kill -HUP $(cat /var/log/monitor.pid)" in text


def test_without_logrotate_the_package_is_named(monkeypatch):
    monkeypatch.setattr(logrotate, "_SEARCHED", "/nonexistent")
    with pytest.raises(GimliError) as raised:
        logrotate.find()
    assert "apt install logrotate" in raised.value.fix


def test_nothing_of_a_cage_outlives_the_laboratory(directory):
    """The laboratory is killed with -9: the cage kills what forked, ignored TERM and left its session."""
    inside = os.path.join(directory, "inside")
    os.mkdir(inside)
    source = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        os.fork()
        break
time.sleep(60)
"""
    laboratory = f"""
import subprocess, sys, signal
cage = subprocess.Popen(
    [sys.executable, "-I", "-S", {cage.__file__!r}, {inside!r}, "1000", sys.executable, "-c", {source!r}],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(cage.pid, cage.stdout.readline(), flush=True)
signal.pause()
"""
    killed = subprocess.Popen([sys.executable, "-c", laboratory], stdout=subprocess.PIPE, text=True)
    cage_pid, inner_pid = map(int, killed.stdout.readline().split())
    inner, outer = os.pidfd_open(inner_pid), os.pidfd_open(cage_pid)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    for pidfd in (inner, outer):
        assert select.select([pidfd], [], [], 10.0)[0], "it outlived the laboratory"
        os.close(pidfd)
    assert not os.path.exists(inside)


def test_the_command_prints_its_contract(gimli):
    done = gimli.call("lab", "run", "two-hups", "--real", "--json")
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["mode"] == "real"
    assert document["metrics"]["gimli"]["monitors_most"] == 1
    assert "sharedscripts" in document["explanation"]
    assert {"expect", "holds", "figure"} == set(document["verdicts"][0])
    assert not glob.glob(os.path.join(gimli.directory, "gimli-lab-*"))
