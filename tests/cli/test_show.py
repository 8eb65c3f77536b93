"""A report as text: stories in tests/stories/show-*.json, what is printed of them beside them in .txt."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from click.testing import CliRunner

from gimli import report, store
from gimli.cli import show
from gimli.cli.lines import safe
from gimli.cli.report_text import Surroundings, render
from gimli.cli.stacks import render_threads
from gimli.cli.story import what_was_done
from gimli.errors import UnknownReport, UsageError
from gimli.store.index import Alike

STORIES = os.path.join(os.path.dirname(__file__), os.pardir, "stories")
ID = store.new_id(1_800_000_000, b"\1\2")


def story(name):
    with open(os.path.join(STORIES, f"show-{name}.json"), encoding="utf-8") as file:
        return json.load(file)


def text_of(document, **surroundings):
    around = Surroundings(source=lambda _, line: "    with ledger:" if line == 88 else None, **surroundings)
    return "\n".join(line.plain.rstrip() for line in render(report.from_json(document), around)) + "\n"


@pytest.fixture
def state_dir(tmp_path):
    """A store with the deadlock in it."""
    state = str(tmp_path / "state")
    directory = store.incoming_dir(state, ID)
    with open(os.path.join(directory, "report.json"), "w", encoding="utf-8") as file:
        json.dump(story("deadlock") | {"id": ID}, file)
    store.publish(state, ID)
    return state


def invoke(*arguments):
    return CliRunner().invoke(show.command, arguments, catch_exceptions=True)


@pytest.mark.parametrize("name", ["deadlock", "crash", "hostile"])
@pytest.mark.parametrize("everything", [False, True])
def test_a_report_reads_as_its_story(name, everything, golden):
    alike = Alike(3, 4, "2026-11-19T01:00:00+01:00")
    text = text_of(story(name), alike=alike, core_path="/state/reports/X/core", everything=everything)
    golden(f"show-{name}{'-all' if everything else ''}.txt", text)


@pytest.mark.parametrize("name", ["deadlock", "crash", "hostile"])
@pytest.mark.parametrize("width", [60, 100])
def test_no_line_but_a_command_to_paste_is_wider_than_the_screen(name, width):
    """Nothing is cut off either: what does not fit goes on below."""
    report_lines = text_of(story(name), width=width).split("\n")
    body = report_lines[: next(i for i, line in enumerate(report_lines) if line.startswith("all of it"))]
    title_free = [line for line in body if not line.startswith(("OUTPUT", "TIME", "         ", "THREAD"))]
    assert max(map(len, title_free)) <= width


def test_nothing_that_a_program_wrote_reaches_the_terminal_unescaped():
    for everything in (False, True):
        text = text_of(story("hostile"), everything=everything)
        assert all(char.isprintable() for char in text.replace("\n", ""))
    assert safe("\x1b[2J\u202e\ud800") == "\\x1b[2J\\u202e\\ud800"


def test_the_thread_that_fell_silent_stands_before_the_one_it_waits_for():
    threads = report.from_json(story("deadlock")).threads
    lines = render_threads(
        threads, cwd="", source=lambda *_: None, everything=False, width=100, first_tid=7997
    )
    assert [line.plain.split('"')[1] for line in lines if "[culprit]" in line.plain] == [
        "writer-2",
        "reader-1",
    ]


def test_threads_without_stacks_are_told_apart_by_what_they_do():
    """Facts alone have no frames: a group of all threads would say that they stand at one place."""
    threads = [
        report.Thread(1, "main", doing="in read of /dev/ttyS0"),
        report.Thread(2, "a", doing="running"),
        report.Thread(3, "b", doing="in futex"),
    ]
    lines = render_threads(threads, cwd="", source=lambda *_: None, everything=False, width=100)
    assert "in futex" in lines[-1].plain
    assert "running" in lines[-2].plain


def test_what_happened_after_the_restart_is_not_part_of_what_was_done():
    document = story("deadlock")
    later = {**document["journal"][-2], "time": "2026-11-22T05:00:00+01:00", "status": "exit 0"}
    document["journal"].append(later)
    assert "exit 0" not in text_of(document).split("DONE")[1].split("\n")[0]


def test_calls_that_were_left_out_are_counted_in_a_line_of_their_own():
    frames = (report.Frame("c", "walk", "a.c", 4), report.Frame("marker", "1017 more calls of walk"))
    thread = report.Thread(1, "main", crashed=True, frames=frames)
    lines = render_threads([thread], cwd="", source=lambda *_: None, everything=False, width=100)
    assert lines[-1].plain == "          ... 1017 more calls of walk ..."


def test_a_signal_that_was_sent_has_a_sender_and_no_address():
    """abort() sends it to itself: neither the address nor the sender says anything."""
    signal = report.Signal("SIGABRT", 6, -6, "SI_TKILL", 0, {"pid": 7, "uid": 0, "comm": ""})
    own = report.Report(ID, "s", "crash", "", 7, ("s",), signal=signal)
    seen = next(line.plain for line in render(own, Surroundings()) if "SEEN" in line.plain)
    assert seen.strip() == "SEEN   SIGABRT (SI_TKILL)."
    other = replace(own, pid=8)
    seen = next(line.plain for line in render(other, Surroundings()) if "SEEN" in line.plain)
    assert "sent by pid 7" in seen
    assert "address" not in seen


def test_the_start_of_the_process_itself_is_not_its_restart():
    """A program that crashes within milliseconds of its start: both are near the fault."""
    journal = [
        {"time": "2026-11-22T04:00:00.990+01:00", "event": "exited", "pid": 6, "status": "SIGSEGV"},
        {"time": "2026-11-22T04:00:00.991+01:00", "event": "started", "pid": 7},
        {"time": "2026-11-22T04:00:01.000+01:00", "event": "crash", "pid": 7},
        {"time": "2026-11-22T04:00:01.020+01:00", "event": "exited", "pid": 7, "status": "SIGSEGV"},
    ]
    crashed = report.Report(
        ID, "s", "crash", "2026-11-22T04:00:01.000+01:00", 7, ("s",), journal=tuple(journal)
    )
    done = what_was_done(crashed)
    assert "restarted" not in done
    assert done.count("ended by SIGSEGV") == 1


def test_show_prints_the_latest_report_without_escape_codes_into_a_pipe(state_dir):
    result = invoke("--state-dir", state_dir)
    assert result.exit_code == 0
    assert f"report {ID}" in result.output
    assert "\x1b" not in result.output


def test_json_is_the_report_and_nothing_else(state_dir):
    result = invoke(ID[:4], "--json", "--state-dir", state_dir)
    model = report.from_json(story("deadlock") | {"id": ID})
    assert json.loads(result.output) == json.loads(json.dumps(report.to_json(model)))


def test_json_of_half_a_surrogate_pair_can_be_printed(state_dir, tmp_path):
    directory = tmp_path / "copied"
    directory.mkdir()
    (directory / "report.json").write_text(json.dumps(story("hostile")))
    result = invoke(str(directory), "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["threads"][0]["frames"][0]["variables"][0]["value"].endswith("\ud800")


@pytest.mark.parametrize("suffix", ["", "/", "/report.json"])
def test_a_report_outside_the_store_is_shown_by_its_path(state_dir, suffix):
    result = invoke(os.path.join(state_dir, "reports", ID) + suffix, "--state-dir", "/nonexistent")
    assert result.exit_code == 0
    assert "writer-2" in result.output


@pytest.mark.parametrize(
    ("given", "meant"),
    [("orders", "gimli show latest orders"), ("7990", f"gimli show {ID}"), ("12", "gimli snapshot --pid 12")],
)
def test_a_slip_is_answered_with_the_command_that_was_meant(state_dir, given, meant):
    error = invoke(given, "--state-dir", state_dir).exception
    assert isinstance(error, UnknownReport)
    assert meant in error.fix


def test_latest_takes_a_service_and_an_id_does_not(state_dir):
    assert invoke("latest", "orders", "--state-dir", state_dir).exit_code == 0
    assert isinstance(invoke("latest", "mailer", "--state-dir", state_dir).exception, UnknownReport)
    assert isinstance(invoke(ID, "orders", "--state-dir", state_dir).exception, UsageError)


def test_a_core_is_looked_for_beside_the_report_only(state_dir, tmp_path):
    directory = tmp_path / "report"
    directory.mkdir()
    assert show._core_path(str(directory), "../../etc/passwd") is None
    (directory / "core").write_bytes(b"")
    assert show._core_path(str(directory), "core") == str(directory / "core")


def test_source_that_was_changed_after_the_report_is_not_shown(tmp_path):
    """And no file is opened that does not have the name of a source file: names come from the program."""
    source, secret = tmp_path / "a.py", tmp_path / "secret"
    source.write_text("first\nsecond\n")
    secret.write_text("password\n")
    after, before = "2999-01-01T00:00:00+00:00", "1999-01-01T00:00:00+00:00"
    assert show.source_as_of(after)(str(source), 2) == "second"
    assert show.source_as_of(before)(str(source), 2) is None
    assert show.source_as_of(after)(str(secret), 1) is None
    (tmp_path / "link.py").symlink_to(secret)
    assert show.source_as_of(after)(str(tmp_path / "link.py"), 1) is None


def test_a_report_without_anything_is_still_a_page():
    bare = report.Report(id=ID, service="s", reason="request", time="", pid=1, command=())
    text = "\n".join(line.plain for line in render(bare, Surroundings()))
    assert "a snapshot was asked for" in text
    assert "WHY" not in text, "nothing went wrong"
    crash = "\n".join(line.plain for line in render(replace(bare, reason="crash"), Surroundings()))
    assert "WHY    not known" in crash
