"""Cores of real C programs: what the report says of each way to go down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from .conftest import analyse, compile_faults, facts

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize(
    ("mode", "kind", "summary"),
    [
        ("null", "null-pointer", "null pointer `route` in deliver() at faults.c:71"),
        ("member", "null-pointer", "null pointer `route->next` in crash_member() at faults.c:82"),
        ("strlen", "null-pointer", "null pointer `name` in crash_strlen() at faults.c:87"),
        ("wild", "wild-pointer", "wild pointer `stale` in crash_wild() at faults.c:92"),
        (
            "readonly",
            "read-only",
            "write to read-only memory through `text` in crash_readonly() at faults.c:97",
        ),
        ("divide", "division-by-zero", "division by zero: `parts` is 0 in crash_divide() at faults.c:118"),
        ("assert", "assertion", "assertion failed in crash_assert() at faults.c:123: `balance >= 0`"),
        ("abort", "abort", "abort in main() at faults.c:196"),
        (
            "heap",
            "heap-corruption",
            "heap corruption, noticed in crash_heap() at faults.c:129: free(): double",
        ),
        ("bus", "file-truncated", "mapped file truncated, in crash_bus() at faults.c:135"),
        ("trap", "illegal-instruction", "illegal instruction in main() at faults.c:194"),
        ("overflow", "stack-overflow", "stack overflow: walk() calls itself without end"),
        ("mutual", "stack-overflow", "stack overflow: even(), odd() call each other without end"),
    ],
)
def test_a_crash_is_explained(faults, crash, mode, kind, summary):
    made = analyse(crash(faults, mode))
    assert made.findings[0].kind == kind
    assert made.summary.startswith(summary)
    assert made.findings[0].confidence >= 0.8
    assert made.threads[0].crashed
    assert made.threads[0].culprit
    assert made.threads[0].doing.startswith("crashed by SIG")


def test_every_kind_of_variable_is_shown(faults, crash):
    """One of each: the trace of the original Gimli had them, and a report with fewer would be a step back."""
    frame = analyse(crash(faults, "null")).threads[0].frames[0]
    assert (frame.function, frame.language, frame.line) == ("deliver", "c", 71)
    shown = {each.name: each for each in frame.variables}
    assert shown["route"].value == "0x0"
    assert shown["route"].type == "struct route *"
    assert shown["route"].argument
    assert not shown["buffer"].argument
    assert shown["weight"].value == "2.5"
    assert shown["buffer"].value == r'"to an \"urgent\"\nletter"'
    assert shown["table"].value == "{1, 2, 3, 4}"
    assert shown["unreadable"].value == "0x10 <cannot read 0x10>"
    letter = shown["letter"].value
    for part in (
        "flags = {urgent = 1, retries = 17, balance = -3}",
        "amount = {cents = 1299, bytes = ",
        "priority = URGENT",
        'via = {hops = 3, host = "mx.example.org", next = 0x0}',
        r'"an \"urgent\"\nletter"',  # a literal: it is in .rodata, which the core leaves to the file
        "<first_hop>",
        "{inner = 77}",
    ):
        assert part in letter


def test_a_deep_recursion_is_folded(faults, crash):
    made = analyse(crash(faults, "mutual"))
    frames = made.threads[0].frames
    assert len(frames) < 30
    (marker,) = (frame for frame in frames if frame.language == "marker")
    assert "more calls of" in marker.function
    assert "even" in marker.function


def test_the_same_crash_twice_has_one_signature_and_another_has_another(faults, crash, tmp_path):
    first = analyse(crash(faults, "null")).signature
    shutil.rmtree(tmp_path / "report")
    second = analyse(crash(faults, "null")).signature
    shutil.rmtree(tmp_path / "report")
    other = analyse(crash(faults, "wild")).signature
    assert first == second != other


def test_a_replaced_program_is_noted_and_its_new_symbols_are_not_used(crash, tmp_path):
    """A deployment may replace the program between its start and its crash."""
    program = compile_faults(str(tmp_path / "replaced"))
    directory = crash(program, "null")
    os.unlink(program)
    compile_faults(program, "-DOTHER", "-O1")
    made = analyse(directory)
    assert any("replaced changed on disk" in note for note in made.notes)
    assert all(frame.function != "deliver" for frame in made.threads[0].frames)
    assert made.findings


def test_a_program_that_is_gone_is_noted(crash, tmp_path):
    program = compile_faults(str(tmp_path / "removed"))
    directory = crash(program, "null")
    os.unlink(program)
    assert any("removed cannot be read any more" in note for note in analyse(directory).notes)


def test_a_stripped_program_is_told_by_file_and_offset(crash, tmp_path):
    """An address changes from run to run; the offset in the file does not, and addr2line takes it."""
    program = compile_faults(str(tmp_path / "stripped"))
    subprocess.run(["strip", program], check=True)
    made = analyse(crash(program, "null"))
    assert made.threads[0].frames[0].function.startswith("stripped+0x")
    assert made.summary.startswith("null pointer in stripped+0x")
    assert "no debug information for stripped: variables of it are missing" in made.notes


def test_a_cut_off_core_still_gives_a_report(faults, crash):
    directory = crash(faults, "null")
    core = os.path.join(directory, "core")
    os.truncate(core, os.path.getsize(core) // 2)
    made = analyse(directory)
    assert made.summary
    assert any("cut off" in note for note in made.notes)


def test_a_signal_that_was_sent_is_no_fault(faults, start, capture):
    """`kill -SEGV` from a shell: the report must not look for a null pointer."""
    process = start(faults, "pipe")
    sender = {"pid": 99, "uid": 0, "comm": "sh", "cmdline": "sh", "parent": None}
    directory = capture(process.pid, hang=None)
    told = facts(
        pid=process.pid,
        crash_tid=process.pid,
        core={"file": "core"},
        signal={"name": "SIGSEGV", "number": 11, "code": 0, "address": None, "sender": sender},
    )
    with open(os.path.join(directory, "facts.json"), "w", encoding="ascii") as file:
        json.dump(told, file)
    assert analyse(directory).summary == "SIGSEGV sent by sh (pid 99)"
