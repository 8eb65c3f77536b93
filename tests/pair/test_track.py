"""What makes a host less fit to be MASTER, looked at for real."""

import select
import socket
import threading

import pytest

from gimli.control import protocol
from gimli.pair.config import Track
from gimli.pair.demotion import DEMOTION_MAX, Ledger
from gimli.pair.track import Tracked, Tracker, look

pytestmark = pytest.mark.real


def test_a_command_that_fails_says_its_last_words():
    track = Track(command=("sh", "-c", "echo first; echo no uplink >&2; exit 3"))
    assert look(track) == [Tracked("command sh", "failed with 3: no uplink")]


def test_a_command_that_succeeds_is_no_reason():
    assert look(Track(command=("true",))) == [Tracked("command true")]


def test_a_command_that_is_not_there_is_a_reason():
    (finding,) = look(Track(command=("/nonexistent/check",)))
    assert str(finding) == "command check cannot be run: No such file or directory"


def test_a_service_that_no_monitor_holds_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("GIMLI_RUNTIME_DIR", str(tmp_path))
    assert look(Track(services=("web",))) == [Tracked("service web", "is held by no monitor")]


@pytest.mark.parametrize(("state", "wrong"), [("running", ""), ("capturing", ""), ("failed", "is FAILED")])
def test_a_service_is_fit_while_it_runs(monkeypatch, tmp_path, state, wrong):
    monkeypatch.setenv("GIMLI_RUNTIME_DIR", str(tmp_path))
    with Answering(tmp_path, {"ok": True, "services": [{"name": "web", "state": state}]}):
        assert look(Track(services=("web",))) == [Tracked("service web", wrong)]


def test_a_monitor_that_answers_nonsense_is_a_reason_and_no_end(monkeypatch, tmp_path):
    monkeypatch.setenv("GIMLI_RUNTIME_DIR", str(tmp_path))
    with Answering(tmp_path, ["not", "an", "answer"]):
        (finding,) = look(Track(services=("web",)))
    assert finding.wrong.startswith("cannot be asked for: the monitor's answer is not an answer")


def test_findings_come_by_a_descriptor():
    tracker = Tracker(Track(command=("false",), interval_s=0.1))
    try:
        for _ in range(3):
            assert select.select([tracker], [], [], 30)[0]
            assert tracker.take() == (Tracked("command false", "failed with 1"),)
        assert tracker.late() == Tracked("tracking")
    finally:
        tracker.close()


def test_a_ledger_adds_what_holds_and_stays_within_its_byte():
    ledger = Ledger().with_reason("service web is FAILED", 32).with_reason("default route is not there", 240)
    assert ledger.total == DEMOTION_MAX
    assert ledger.because == "service web is FAILED, default route is not there"
    assert ledger.without("default route is not there").total == 32
    assert ledger.with_reason("service web is FAILED", 1).total == 241  # replaced, not added twice


class Answering:
    """A monitor's socket that gives one answer to all."""

    def __init__(self, runtime_dir, answer):
        self._path = runtime_dir / "up" / "control.sock"
        self._path.parent.mkdir()
        self._answer = protocol.pack(answer)

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __exit__(self, *_):
        self._thread.join()
        self._listener.close()

    def _serve(self):
        peer, _ = self._listener.accept()
        with peer:
            peer.recv(65_536)
            peer.sendall(self._answer)
