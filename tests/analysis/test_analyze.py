"""The helper as a process: whatever it is given, a report or one clear line."""

from __future__ import annotations

import json
import os
import stat

import pytest

from .conftest import analyse, facts, run_analysis

pytestmark = pytest.mark.real


def write(directory, told) -> str:
    (directory / "facts.json").write_text(told if isinstance(told, str) else json.dumps(told))
    return str(directory)


def test_without_a_core_the_report_is_made_of_the_facts(tmp_path):
    signal = {"name": "SIGKILL", "number": 9, "sender": {"pid": 3, "comm": "oomd"}}
    made = analyse(write(tmp_path, facts(signal=signal, notes=["no core: the process was gone"])))
    assert made.summary == "killed by SIGKILL, sent by oomd (pid 3)"
    assert made.findings[0].text == "Killed by SIGKILL, sent by oomd (pid 3)."
    assert made.notes == ("no core: the process was gone",)


def test_the_report_is_private(tmp_path):
    analyse(write(tmp_path, facts()))
    assert stat.S_IMODE((tmp_path / "report.json").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["facts.json", "report.json"]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("", "facts.json is not JSON: it is empty"),
        ("{", "facts.json is not JSON"),
        ("[" * 100_000, "facts.json is not JSON"),
        ("[1]", "facts.json is not a JSON object: it is list"),
        ("{}", "schema None, expected 1"),
        (json.dumps(facts(pid="1")), "pid is str, expected int"),
    ],
)
def test_bad_facts_are_one_line_and_status_1(tmp_path, told, message):
    done = run_analysis(write(tmp_path, told))
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report.json").exists()


def test_a_missing_directory_is_one_line_and_status_1(tmp_path):
    done = run_analysis(tmp_path / "nothing")
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("core", [b"", b"garbage" * 999, b"\x7fELF\x02\x01" + b"\xff" * 500])
def test_a_core_that_is_none_is_a_note(tmp_path, core):
    (tmp_path / "core").write_bytes(core)
    made = analyse(write(tmp_path, facts(core={"file": "core"})))
    assert any("core" in note for note in made.notes)


def test_the_core_of_the_directory_is_read_and_no_other(tmp_path):
    """The name comes out of a file: it must not lead out of the report."""
    made = analyse(write(tmp_path, facts(core={"file": "../../etc/passwd"})))
    assert any("cannot read" in note for note in made.notes)


def test_what_came_after_the_capture_is_appended_from_the_journal(tmp_path):
    journal = tmp_path / "journal"
    event = {"service": "orders", "event": "exited", "monotonic_ns": 2000}
    lines = [
        json.dumps({"service": "orders", "event": "started", "monotonic_ns": 1}),
        json.dumps({"service": "mailer", "event": "exited", "monotonic_ns": 1500}),
        "{damaged",
        json.dumps(event),
        json.dumps({"service": "orders", "monotonic_ns": "soon"}),
    ]
    journal.write_text("\n".join(lines))
    before = {"service": "orders", "event": "hang", "monotonic_ns": 1000}
    made = analyse(write(tmp_path, facts(journal=[before])), "--journal", str(journal))
    assert made.journal == (before, event)
