"""The page has one definition, in C: the Python side's constants are compared with what gcc makes of it."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from gimli import heartbeat

LIBRARY = os.path.join(os.path.dirname(__file__), "..", "libgimli")

# Each constant of gimli.heartbeat that describes the page, and the same in C.
SAME = {
    "OFFSET_STATE": "offsetof(struct gimli_page, state)",
    "OFFSET_TICKS": "offsetof(struct gimli_page, ticks)",
    "OFFSET_MAGIC": "offsetof(struct gimli_page, magic)",
    "OFFSET_BEAT_NS": "offsetof(struct gimli_page, beat_ns)",
    "OFFSET_CRASH": "offsetof(struct gimli_page, crash)",
    "OFFSET_REQUEST": "offsetof(struct gimli_page, crash.request)",
    "OFFSET_RELEASE": "offsetof(struct gimli_page, crash.release)",
    "OFFSET_OWNER": "offsetof(struct gimli_page, crash.owner)",
    "OFFSET_NOTE": "offsetof(struct gimli_page, note)",
    "OFFSET_LIBRARY": "offsetof(struct gimli_page, library)",
    "OFFSET_ATTACHED_PID": "offsetof(struct gimli_page, attached_pid)",
    "OFFSET_WAIT_MS": "offsetof(struct gimli_page, wait_ms)",
    "OFFSET_FLAGS": "offsetof(struct gimli_page, flags)",
    "OFFSET_PULSES": "offsetof(struct gimli_page, pulses)",
    "PAGE_SIZE": "sizeof(struct gimli_page)",
    "PULSE_SIZE": "sizeof(struct gimli_pulse)",
    "NOTE_SIZE": "GIMLI_NOTE_SIZE",
    "PULSES_MAX": "GIMLI_PULSES_MAX",
    "PULSE_NAME_SIZE": "GIMLI_PULSE_NAME_SIZE",
    "PULSE_FREE": "GIMLI_PULSE_FREE",
    "PULSE_CLAIMED": "GIMLI_PULSE_CLAIMED",
    "PULSE_ACTIVE": "GIMLI_PULSE_ACTIVE",
    "PULSE_PAUSED": "GIMLI_PULSE_PAUSED",
    "MAGIC": "GIMLI_PAGE_MAGIC",
    "VERSION": "GIMLI_PAGE_VERSION",
    "FLAG_DIE_AT_ONCE": "GIMLI_PAGE_DIE_AT_ONCE",
    "LIBRARY_NONE": "GIMLI_LIBRARY_NONE",
    "LIBRARY_C": "GIMLI_LIBRARY_C",
    "LIBRARY_PYTHON": "GIMLI_LIBRARY_PYTHON",
    "NOT_SUPPORTED": "GIMLI_HB_NOT_SUPP",
    "STARTING": "GIMLI_HB_STARTING",
    "RUNNING": "GIMLI_HB_RUNNING",
    "STOPPING": "GIMLI_HB_STOPPING",
}

# A page with a different value in every field that the Python side parses.
FILLED = """
struct gimli_page page = {
    .state = 2, .ticks = 3, .magic = GIMLI_PAGE_MAGIC, .version = GIMLI_PAGE_VERSION, .beat_ns = 4,
    .library = 1,
    .crash = {.signo = 11, .code = 5, .address = 6, .pid = 7, .tid = 8, .request = 9, .release = 8,
              .time_ns = 12, .ucontext = 13, .siginfo = 14},
    .note = "a note",
    .pulses[31] = {.state = GIMLI_PULSE_ACTIVE, .tid = 15, .interval_ns = 16, .beat_ns = 17, .name = "last"},
};
"""


@pytest.fixture(scope="module")
def run_c(tmp_path_factory):
    """Compile and run statements after the layout's header; what they print, as bytes."""
    directory = tmp_path_factory.mktemp("layout")

    def run(name: str, statements: str) -> bytes:
        source = directory / f"{name}.c"
        source.write_text(
            '#include <stdio.h>\n#include "libgimli.h"\n#include "heartbeat_layout.h"\n'
            f"int main(void)\n{{\n{statements}\nreturn 0;\n}}\n"
        )
        includes = [f"-I{LIBRARY}", f"-I{LIBRARY}/include"]
        subprocess.run(["gcc", *includes, "-o", str(directory / name), str(source)], check=True)
        return subprocess.run([str(directory / name)], stdout=subprocess.PIPE, check=True).stdout

    return run


def test_every_constant_of_the_page_is_the_same_in_c(run_c):
    prints = "\n".join(f'printf("{name} %llu\\n", (unsigned long long){c});' for name, c in SAME.items())
    lines = run_c("constants", prints).decode().splitlines()
    in_c = {name: int(number) for name, number in (line.split() for line in lines)}
    assert in_c == {name: getattr(heartbeat, name) for name in SAME}


def test_no_constant_is_left_out():
    """A new offset or size on the Python side has to be compared too."""
    describes = re.compile(r"(OFFSET|FLAG|LIBRARY|PULSES?)_|[A-Z_]*_SIZE$")
    assert {name for name in vars(heartbeat) if describes.match(name)} <= set(SAME)


def test_a_page_filled_in_c_is_parsed_field_by_field(run_c):
    page = heartbeat.parse_page(run_c("filled", f"{FILLED} fwrite(&page, sizeof page, 1, stdout);"))
    assert (page.state, page.ticks, page.intact, page.beat_ns, page.library) == (2, 3, True, 4, 1)
    assert page.crash == heartbeat.Crash(
        signo=11, code=5, address=6, pid=7, tid=8, time_ns=12, ucontext=13, siginfo=14
    )
    assert page.note == "a note"
    assert page.pulses == (heartbeat.Pulse(name="last", tid=15, interval_ns=16, beat_ns=17, active=True),)
