"""One stack of two languages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gimli.analysis.evidence import PythonFrame
from gimli.analysis.merge import is_eval, merge
from gimli.report import Frame

PYTHON_LIBRARY = "libpython3.11.so.1.0"


def native(*functions: str) -> tuple[Frame, ...]:
    return tuple(
        Frame("c", name.removeprefix("py:"), module=PYTHON_LIBRARY if name.startswith("py:") else "libc.so.6")
        for name in functions
    )


def python(*names: str) -> tuple[PythonFrame, ...]:
    """Calls, innermost first; a trailing ``!`` marks an entry into the interpreter."""
    return tuple(
        PythonFrame(Frame("python", name.rstrip("!"), file="a.py", line=1), name.endswith("!"), 1)
        for name in names
    )


def drawn(frames) -> list[str]:
    return [frame.function + ("*" if frame.interpreter else "") for frame in frames]


EVAL = "py:_PyEval_EvalFrameDefault"


def test_each_entry_into_the_interpreter_gives_way_to_its_calls():
    stack = native("sem_wait", "py:lock_acquire", EVAL, "py:call", EVAL, "py:thread_run", "clone")
    merged = merge(stack, python("commit", "run!", "bootstrap!"))
    assert drawn(merged) == [
        "sem_wait",
        "lock_acquire*",
        "commit",
        "run",
        "call*",
        "bootstrap",
        "thread_run*",
        "clone*",
    ]


def test_a_thread_without_python_stays_as_it_is():
    stack = native("read", "serve", "clone")
    assert merge(stack, ()) == stack


def test_python_alone_is_a_stack_too():
    assert drawn(merge((), python("f", "g!"))) == ["f", "g"]


def test_stacks_that_do_not_match_keep_all_calls():
    """Frames left out of a deep stack, a symbol that is missing: the order is a guess, no call is lost."""
    merged = merge(native("write", EVAL, "py:call", "clone"), python("a!", "b!", "c!"))
    assert drawn(merged) == ["write", "a", "b", "c", "call*", "clone*"]


frames = st.lists(st.sampled_from(["read", EVAL, "py:call", "clone"]), max_size=8).map(
    lambda names: native(*names)
)
calls = st.lists(st.sampled_from(["f", "g!", "h"]), max_size=6).map(lambda names: python(*names))


@given(frames, calls)
def test_no_call_is_lost_and_each_language_keeps_its_order(stack, called):
    merged = merge(stack, called)
    assert [frame for frame in merged if frame.language == "python"] == [each.frame for each in called]
    expected = [frame.function for frame in stack if not (called and is_eval(frame))]
    assert [frame.function for frame in merged if frame.language != "python"] == expected
