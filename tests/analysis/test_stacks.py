"""Which call is the program's own, and what a thread is doing."""

from __future__ import annotations

import pytest

from gimli.analysis.evidence import KernelThread, Syscall
from gimli.analysis.stacks import (
    doing,
    is_own,
    own_frame,
    own_functions,
    place_of,
    with_waits_of_interpreter,
)
from gimli.report import Frame

OWN = Frame("c", "serve", "/src/server.c", 12, "server")


@pytest.mark.parametrize(
    "frame",
    [
        Frame("c", "read", "read.c", 1, "libc.so.6"),
        Frame("native", "_start", module="server"),
        Frame("native", "0x7f00", module=None),
        Frame("c", "lock_acquire", module="libpython3.11.so.1.0"),
        Frame("c", "anything", module="server", interpreter=True),
        Frame("marker", "900 more calls of walk"),
        Frame("python", "wait", "/usr/lib/python3.11/threading.py", 320),
        Frame("python", "import_it", "<frozen importlib._bootstrap>", 1),
        Frame("c++", "at", "/usr/include/c++/12/bits/stl_map.h", 551, "server"),
        Frame("rust", "core::option::unwrap_failed", "library/core/src/option.rs", 1, "server"),
    ],
)
def test_what_the_author_did_not_write_is_not_own(frame):
    assert not is_own(frame)
    assert own_frame([frame, OWN]) is OWN


@pytest.mark.parametrize(
    "frame",
    [
        OWN,
        Frame("python", "commit", "/srv/orders.py", 88),
        Frame("python", "get", "/usr/lib/python3/dist-packages/requests/api.py", 1),
        Frame("python", "get", "/venv/lib/python3.11/site-packages/requests/api.py", 1),
        Frame("native", "libpq.so.5+0x1f40", module="libpq.so.5"),
        Frame("rust", "shop::total", "/rustc/59807616/library/core/src/option.rs", 1, "shop"),
    ],
)
def test_the_program_and_the_libraries_of_its_choice_are_own(frame):
    assert is_own(frame)


def test_a_stack_without_a_name_has_no_place():
    assert own_frame([Frame("native", "0x7f00")]) is None
    assert own_frame([]) is None


def test_a_place_is_a_line_or_a_module():
    assert place_of(OWN) == "serve() at server.c:12"
    assert place_of(Frame("c", "PQexec", module="libpq.so.5")) == "PQexec() of libpq.so.5"
    assert place_of(Frame("native", "libpq.so.5+0x1f40", module="libpq.so.5")) == "libpq.so.5+0x1f40"
    assert place_of(Frame("c++", "shop::run(int)", "/a/x.cpp", 3)) == "shop::run(int) at x.cpp:3"
    assert len(place_of(Frame("c++", "f(" + "x" * 500, "/a/x.cpp", 3))) < 100


def test_a_signature_counts_a_recursion_once():
    walk = Frame("c", "walk", "a.c", 3, "tree")
    assert own_functions([walk, walk, walk, OWN]) == ("walk", "serve")


def libc(*names: str) -> list[Frame]:
    return [*(Frame("c", name, module="libc.so.6") for name in names), OWN]


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (libc("futex_wait", "__lll_lock_wait", "___pthread_mutex_lock"), "waiting for a lock"),
        (libc("__futex_abstimed_wait", "pthread_cond_wait@@GLIBC_2.3.2"), "waiting for a condition"),
        (libc("__GI___clock_nanosleep", "usleep"), "sleeping"),
        (libc("epoll_wait"), "waiting for events"),
        (libc("__libc_read"), "reading"),
        (libc("accept4"), "waiting for a connection"),
        (libc("waitpid"), "waiting for a process to end"),
        ([Frame("c", "take_gil", module="python3.11"), OWN], "waiting for the GIL"),
        ([OWN, *libc("read")], ""),  # what the program was called by is not what it does
        ([], ""),
    ],
)
def test_the_innermost_calls_say_what_a_thread_is_doing(frames, words):
    assert doing(frames, None) == words


def test_the_standard_library_says_it_better_than_its_locks():
    frames = [
        Frame("c", "PyThread_acquire_lock_timed", module="python3.11"),
        Frame("python", "wait", "/usr/lib/python3.11/threading.py", 320),
        Frame("python", "get", "/usr/lib/python3.11/queue.py", 171),
        Frame("python", "work", "/srv/orders.py", 9),
    ]
    assert doing(frames, None) == "waiting for a queue"


def test_the_kernel_knows_the_file_and_who_computes():
    read = KernelThread(1, state="S", syscall=Syscall("read", 0, (3,), "socket:[1] -> 192.0.2.1:5432"))
    assert doing(libc("read"), read) == "reading from socket:[1] -> 192.0.2.1:5432 (fd 3)"
    assert doing([OWN], KernelThread(1, state="R")) == "running"
    assert doing([], KernelThread(1, state="S", syscall=Syscall("mincore"))) == "in mincore"
    assert (
        doing([], KernelThread(1, state="D", wchan="nfs_wait"))
        == "in the kernel, not interruptible (nfs_wait)"
    )


def test_how_the_interpreter_waits_is_its_own_and_what_a_library_calls_is_not():
    """A Python stack begins at the line that waits; the frames above it are there for those who want them."""
    libc = Frame("c", "sem_wait", module="libc.so.6")
    lock = Frame("c", "acquire", module="python3.11", interpreter=True)
    line, library = Frame("python", "commit"), Frame("c", "ssl_read", module="libssl.so.3")
    waits = with_waits_of_interpreter((libc, lock, line))
    assert [frame.interpreter for frame in waits] == [True, True, False]
    assert with_waits_of_interpreter((libc, library, lock, line)) == (libc, library, lock, line)
    assert with_waits_of_interpreter((libc, lock)) == (libc, lock), "no Python line to begin at"
    assert with_waits_of_interpreter(()) == ()
