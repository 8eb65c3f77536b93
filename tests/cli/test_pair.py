"""``gimli pair``: what an operator sees of a host and its switch."""

import json
import os
import subprocess
import sys

import pytest

from gimli.lab.namespaces import Network

pytestmark = pytest.mark.real

GIMLI = (sys.executable, "-c", "from gimli.cli import main; main()")
FILE = """
[[carp]]
vhid = 1
interface = "lan0"
addresses = ["192.0.2.1/24"]
password = "mellon-mellon"
"""


@pytest.fixture
def switched():
    """A host of a pair, and another one, behind a switch that floods."""
    with Network() as network:
        switch, host, other = network.switch("switch"), network.host("fw1"), network.host("other")
        network.plug(host, "lan0", switch, "192.0.2.2/24")
        network.plug(other, "eth0", switch, "192.0.2.9/24")
        yield host, other


def pair(host, tmp_path, *arguments):
    (tmp_path / "pair.toml").write_text(FILE)
    places = {"GIMLI_STATE_DIR": str(tmp_path / "state"), "GIMLI_RUNTIME_DIR": str(tmp_path / "run")}
    return subprocess.run(
        host.inside(*GIMLI, "pair", *arguments),
        env=os.environ | places,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_sees_frames_that_a_switch_floods_to_a_group_mac(switched, tmp_path):
    """Incident 2 begins with these, and nobody had looked for them."""
    host, other = switched
    other.run("ip", "neigh", "add", "192.0.2.77", "lladdr", "01:00:5e:01:00:64", "dev", "eth0")
    flood = other.start("ping", "-i", "0.05", "192.0.2.77", stdout=subprocess.DEVNULL)
    try:
        done = pair(host, tmp_path, "check", "--for", "1s", "--json")
    finally:
        flood.kill()
        flood.wait()
    assert done.returncode == 1, done.stderr
    flooded = [each for each in json.loads(done.stdout)["findings"] if each["subject"] == "lan0"]
    assert any("01:00:5e:01:00:64" in each["what"] and "192.0.2.77" in each["what"] for each in flooded)
    assert all(each["why"] and each["fix"] for each in flooded)


def test_check_of_a_wrong_file_tells_the_line_and_looks_at_nothing(switched, tmp_path):
    host, _ = switched
    (tmp_path / "wrong.toml").write_text(FILE.replace("vhid = 1", "vhid = 0"))
    done = pair(host, tmp_path, "check", "-f", "wrong.toml")
    assert done.returncode == 2
    assert "line 3: carp.1.vhid: expected a number from 1 to 255" in done.stderr


def test_status_without_a_daemon_says_how_to_start_one(switched, tmp_path):
    host, _ = switched
    done = pair(host, tmp_path, "status")
    assert done.returncode == 1
    assert "the pair's daemon does not run here" in done.stderr
    assert "gimli pair run" in done.stderr


def test_run_on_an_interface_that_is_not_there_says_so(switched, tmp_path):
    host, _ = switched
    (tmp_path / "other.toml").write_text(FILE.replace("lan0", "lan7"))
    done = pair(host, tmp_path, "run", "-f", "other.toml")
    assert done.returncode == 1
    assert "lan7" in done.stderr
    assert "ip link" in done.stderr
