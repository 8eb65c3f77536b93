"""Hand-made evidence in, words out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gimli import report
from gimli.analysis.evidence import (
    Evidence,
    Fault,
    KernelThread,
    LockWait,
    NativeThread,
    Pointer,
    PythonFrame,
    PythonThread,
    Syscall,
)
from gimli.analysis.explain import explain
from gimli.report import Frame, Variable

from .conftest import facts

OWN = Frame("c", "deliver", "/src/mailer.c", 88, "mailer", 0x401000)
LIBC = Frame("c", "__read", "read.c", 26, "libc.so.6", 0x7F0000)


def told(evidence: Evidence, *, line: str = "", **changes) -> report.Report:
    document = facts(**changes)
    evidence = replace(evidence, facts=document)
    return explain(
        report.from_facts(document), evidence, source_text=lambda _: "", source_line=lambda _file, _line: line
    )


def crashed(fault: Fault, *, code: int = 1, address: int | None = 0, name: str = "SIGSEGV", **changes):
    frames = changes.pop("frames", (OWN,))
    evidence = Evidence(native={4711: NativeThread(4711, frames, fault=fault)})
    signal = {"name": name, "number": 11, "code": code, "address": address}
    return told(evidence, signal=signal, crash_tid=4711, **changes)


@pytest.mark.parametrize(
    ("fault", "code", "address", "kind", "words"),
    [
        (Fault(), 1, 8, "null-pointer", "used 8 bytes into what it should point to"),
        (Fault(pointers=(Pointer("route", 0, True),)), 1, 0, "null-pointer", "`route` is null"),
        (
            Fault(pointers=(Pointer("a", 0, False), Pointer("b", 0, False))),
            1,
            0,
            "null-pointer",
            "one of `a`, `b`",
        ),
        (Fault(pointers=(Pointer("p", 0x4141414100, True),)), 1, 0x4141414108, "wild-pointer", "`p`"),
        (
            Fault(pointers=(Pointer("p", 0x6161616161616161, True),)),
            128,
            0,
            "wild-pointer",
            "no program can have",
        ),
        (Fault(), 1, 0xDEAD0000, "wild-pointer", "nothing is mapped"),
        (Fault(permissions="r--", file="/bin/x"), 2, 0x500000, "read-only", "memory of /bin/x"),
        (Fault(permissions="---"), 2, 0x500000, "protected", "mapped ---"),
        (Fault(0x7FFE0000, room_bytes=8, depth=900), 1, 0x7FFDFFF0, "stack-overflow", "900 calls deep"),
        (Fault(0x7FFE0000, depth=3), 1, 0x7FFDFFF0, "stack-overflow", "Stack overflow in deliver()"),
        (Fault(0x7FFE0000, room_bytes=90_000, depth=3), 1, 0x7FFDFFF0, "wild-pointer", "nothing is mapped"),
    ],
)
def test_a_segmentation_fault_is_told_by_its_address(fault, code, address, kind, words):
    made = crashed(fault, code=code, address=address)
    assert made.findings[0].kind == kind
    assert words in made.findings[0].text
    assert "deliver() at mailer.c:88" in made.findings[0].text


def test_a_recursion_of_python_is_told_in_python():
    """The interpreter recurses with it, in calls that no author of Python knows."""
    call = Frame("python", "__repr__", "/srv/tree.py", 4)
    fault = Fault(
        0x7FFE0000, room_bytes=8, depth=1024, recursion="PyObject_Repr <- slot_tp_repr", recursion_calls=900
    )
    marker = Frame("marker", "16897 more calls of __repr__")
    made = crashed(fault, address=0x7FFDFFF0, frames=(call, call, marker, call))
    assert made.summary == "stack overflow: __repr__() calls itself without end"


def test_a_call_of_a_null_function_pointer_names_the_caller():
    nowhere = Frame("native", "0x0", address=0)
    made = crashed(Fault(), frames=(nowhere, OWN))
    assert made.summary == "null function pointer called in deliver() at mailer.c:88"


def test_the_divisor_that_is_zero_is_named():
    frame = Frame(
        "c", "share", "a.c", 7, "shop", variables=(Variable("n", "int", "0"), Variable("m", "int", "0"))
    )
    made = crashed(Fault(), name="SIGFPE", code=1, frames=(frame,), line="return total / n + m;")
    assert made.summary == "division by zero: `n` is 0 in share() at a.c:7"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("*** stack smashing detected ***: terminated", "stack-corruption"),
        ("malloc(): corrupted top size", "heap-corruption"),
        ("a.c:3: f: Assertion `x > 0' failed.", "assertion"),
        ("thread 'main' panicked at src/main.rs:2", "panic"),
        ("terminate called after throwing an instance of 'std::out_of_range'", "uncaught-exception"),
        ("nothing known", "abort"),
    ],
)
def test_an_abort_is_told_by_the_last_words(said, kind):
    made = crashed(Fault(), name="SIGABRT", code=-6, address=None, output=["before", said])
    assert made.findings[0].kind == kind


@pytest.mark.parametrize("name", ["SIGBUS", "SIGILL", "SIGSYS", "SIGTRAP", "SIGFPE", "SIGQUIT"])
def test_every_other_signal_says_where(name):
    made = crashed(Fault(), name=name, code=99)
    assert "deliver() at mailer.c:88" in made.findings[0].text


def test_the_crashed_thread_is_first_then_those_at_fault_then_the_rest():
    native = {tid: NativeThread(tid, (OWN,)) for tid in (4711, 4712, 4713)}
    made = told(
        Evidence(native=native), crash_tid=4713, signal={"name": "SIGSEGV", "number": 11, "address": 0}
    )
    assert [thread.tid for thread in made.threads] == [4713, 4711, 4712]


HANG = {"pulse": "writer-2", "tid": 4712, "silent_s": 30.02, "allowed_s": 30.0}


def hung(evidence: Evidence, **changes):
    threads = [{"tid": 4711, "comm": "orders"}, {"tid": 4712, "comm": "orders"}]
    return told(evidence, **({"reason": "hang", "hang": HANG, "threads": threads} | changes))


def test_a_hang_tells_the_pulse_the_place_and_the_file():
    syscall = Syscall("read", 0, (7, 1, 1), "/dev/ttyS0")
    made = hung(
        Evidence(
            kernel={4712: KernelThread(4712, state="S", syscall=syscall)},
            native={4712: NativeThread(4712, (LIBC, OWN))},
        ),
        heartbeat={
            "pulses": [{"name": "writer-2", "tid": 4712}, {"name": "reader", "tid": 4711, "interval_s": 9}]
        },
    )
    assert made.summary == "pulse writer-2 silent: reading from /dev/ttyS0 (fd 7) in deliver() at mailer.c:88"
    assert made.findings[0].text == (
        'The pulse "writer-2" is silent for 30.0 s (allowed 30.0 s): it is reading from /dev/ttyS0 (fd 7) '
        "in deliver() at mailer.c:88. The other pulse beats on."
    )
    assert [thread.name for thread in made.threads] == ["writer-2", "reader"]


STARVED = {
    "cause": "starved",
    "because": "starved: it waited for a CPU for 29 of 30 s, and ran for 0.1 s",
    "state": "R",
    "window_s": 30.0,
    "ran_s": 0.1,
    "waited_s": 29.0,
}


def test_a_starved_program_is_told_as_one_before_where_it_stands():
    evidence = Evidence(
        kernel={4712: KernelThread(4712, state="R")}, native={4712: NativeThread(4712, (OWN,))}
    )
    made = hung(evidence, hang=HANG | {"scheduling": STARVED})
    assert [each.kind for each in made.findings] == ["lateness", "hang"]
    assert made.summary == "starved"
    assert made.findings[0].text.startswith(
        "It is late, and may not hang: starved: it waited for a CPU for 29 of 30 s"
    )
    assert made.findings[0].evidence == ("in 30 s it ran for 0.1 s and waited for a CPU for 29 s",)
    assert made.findings[1].evidence[1:] == made.findings[0].evidence
    other = hung(evidence, hang=HANG | {"scheduling": STARVED | {"because": "starved: otherwise"}})
    assert other.signature == made.signature


@pytest.mark.parametrize(
    "scheduling",
    [
        None,
        [],
        {},
        STARVED | {"cause": None},
        STARVED | {"cause": "a cause of the future"},
        STARVED | {"because": 7},
        STARVED | {"because": ""},
    ],
)
def test_a_hang_with_nobody_else_to_blame_is_told_alone(scheduling):
    made = hung(Evidence(native={4712: NativeThread(4712, (OWN,))}), hang=HANG | {"scheduling": scheduling})
    assert [each.kind for each in made.findings] == ["hang"]


@pytest.mark.parametrize("figure", [None, "1", -1, 1e300, float("nan")])
def test_figures_that_are_none_are_left_out(figure):
    made = hung(Evidence(), hang=HANG | {"scheduling": STARVED | {"ran_s": figure}})
    assert made.findings[0].evidence == ()


def test_a_lock_that_another_thread_holds_is_told_with_its_holder():
    wait = LockWait("mutex", 0x1000, 4711, "index")
    made = hung(
        Evidence(native={4712: NativeThread(4712, (OWN,), lock=wait), 4711: NativeThread(4711, (LIBC,))})
    )
    assert made.summary == (
        'pulse writer-2 silent: waiting for `index` in deliver() at mailer.c:88, held by "orders"'
    )
    assert made.findings[0].confidence > 0.9


def test_a_deadlock_comes_before_the_silence_it_causes():
    locks = {4711: LockWait("mutex", 1, 4712, "ledger"), 4712: LockWait("mutex", 2, 4711, "index")}
    made = hung(Evidence(native={tid: NativeThread(tid, (OWN,), lock=lock) for tid, lock in locks.items()}))
    assert [each.kind for each in made.findings] == ["deadlock", "hang"]
    assert made.findings[0].text == (
        'Deadlock: "writer-2" waits for `index` (mailer.c:88), held by "orders", '
        'which waits for `ledger` (mailer.c:88), held by "writer-2".'
    )


def test_a_lock_that_its_own_thread_holds_is_a_deadlock_of_one():
    thread = NativeThread(4712, (OWN,), lock=LockWait("mutex", 1, 4712, "ledger"))
    text = hung(Evidence(native={4712: thread})).findings[0].text
    assert text == 'Deadlock: "writer-2" waits for `ledger` (mailer.c:88), which it holds itself.'


def test_the_gil_and_a_mutex_make_a_deadlock_together():
    """The classic of C extensions: one has the GIL and wants a mutex, the other the reverse."""
    take_gil = Frame("c", "take_gil", "ceval_gil.h", 1, "python3.11")
    evidence = Evidence(
        native={
            4711: NativeThread(4711, (OWN,), lock=LockWait("mutex", 1, 4712, "cache")),
            4712: NativeThread(4712, (take_gil, OWN)),
        },
        python={4711: PythonThread(4711, holds_gil=True)},
    )
    assert hung(evidence).summary == "deadlock the GIL/cache"


def test_a_deadlock_has_the_same_signature_from_either_side():
    locks = {4711: LockWait("mutex", 1, 4712, "ledger"), 4712: LockWait("mutex", 2, 4711, "index")}
    evidence = Evidence(native={tid: NativeThread(tid, (OWN,), lock=lock) for tid, lock in locks.items()})
    other = hung(evidence, hang=HANG | {"tid": 4711, "pulse": "reader"})
    assert hung(evidence).signature == other.signature


def test_python_stands_where_python_says():
    python = PythonFrame(Frame("python", "commit", "/srv/orders.py", 88), entry=True, last_line=88)
    sleep = Frame("c", "clock_nanosleep", module="libc.so.6")
    evidence = Evidence(
        native={4712: NativeThread(4712, (sleep,))}, python={4712: PythonThread(4712, "w", (python,))}
    )
    assert hung(evidence).summary == "pulse writer-2 silent: sleeping in commit() at orders.py:88"


def test_a_request_has_threads_and_no_accusation():
    made = told(Evidence(native={4711: NativeThread(4711, (LIBC, OWN))}), reason="request")
    assert made.findings == ()
    assert made.summary == "snapshot on request"
    assert made.threads[0].doing == "reading"
