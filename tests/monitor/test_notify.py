"""sd_notify messages: what each key means, and that nothing that may arrive does harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import PeerError
from gimli.monitor import notify
from gimli.monitor.notify import Notice, parse
from gimli.value import fields_of

KEYS = [key.decode() for key in notify._KEYS]
NUMBERS = ["WATCHDOG_USEC", "EXTEND_TIMEOUT_USEC", "MAINPID", "ERRNO", "EXIT_STATUS", "MONOTONIC_USEC"]
NOT_NUMBERS = ["", "+5", " 5", "5 ", "5_0", "1e3", "\u0663", "9" * 2000]


@pytest.mark.parametrize(
    ("datagram", "notice"),
    [
        (b"READY=1", Notice(ready=True)),
        (b"READY=1\n", Notice(ready=True)),
        (b"READY=1\0", Notice(ready=True)),  # a C program that counts the end of its string
        (b"STOPPING=1", Notice(stopping=True)),
        (b"RELOADING=1\nMONOTONIC_USEC=7", Notice(reloading=True, monotonic_us=7)),
        (b"WATCHDOG=1", Notice(beat=True)),
        (b"WATCHDOG=trigger", Notice(trigger=True)),
        (b"WATCHDOG_USEC=2000000", Notice(watchdog_us=2_000_000)),
        (b"WATCHDOG_USEC=0", Notice(watchdog_us=0)),
        (b"EXTEND_TIMEOUT_USEC=5", Notice(extend_us=5)),
        (b"STATUS=Serving 3 of 7\nMAINPID=4711", Notice(status="Serving 3 of 7", main_pid=4711)),
        (b"STATUS=", Notice(status="")),
        (b"STATUS=a=b", Notice(status="a=b")),
        (b"ERRNO=2\nBUSERROR=a.b.Gone\nEXIT_STATUS=3", Notice(errno=2, bus_error="a.b.Gone", exit_status=3)),
        (b"FDSTORE=1\nFDNAME=web\nFDPOLL=0", Notice(store=True, store_name="web", store_polled=False)),
        (b"FDSTOREREMOVE=1\nFDNAME=web", Notice(store_remove=True, store_name="web")),
        (b"BARRIER=1", Notice(barrier=True)),
        (b"X_OF_A_LATER_VERSION=1\n=\nREADY\nno line at all\n", Notice(wrong=("READY",))),
        (b"", Notice()),
        (b"STATUS=first\nSTATUS=second", Notice(status="first")),
        (b"ready=1\n READY=1\nREADY =1", Notice()),
    ],
)
def test_a_message_says_what_its_keys_say(datagram, notice):
    assert parse(datagram) == notice


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("READY=0", "READY"),
        ("READY=yes", "READY"),
        ("WATCHDOG=2", "WATCHDOG"),
        ("FDPOLL=", "FDPOLL"),
        ("FDNAME=a:b", "FDNAME"),  # the separator of LISTEN_FDNAMES: it would forge a second name
        ("FDNAME=", "FDNAME"),
        ("FDNAME=\u00e9", "FDNAME"),
        ("FDNAME=" + "x" * 256, "FDNAME"),
        ("MAINPID=1", "MAINPID"),
        ("MAINPID=-5", "MAINPID"),
        ("MAINPID=4194305", "MAINPID"),
        ("ERRNO=0", "ERRNO"),
        ("EXIT_STATUS=256", "EXIT_STATUS"),
        ("EXTEND_TIMEOUT_USEC=0", "EXTEND_TIMEOUT_USEC"),
        ("WATCHDOG_USEC=18446744073709551615", "WATCHDOG_USEC"),
        *((f"{key}={text}", key) for key in NUMBERS for text in NOT_NUMBERS),
    ],
)
def test_a_value_that_cannot_be_is_named_and_has_no_effect(line, key):
    assert parse(f"{line}\nSTOPPING=1".encode()) == Notice(stopping=True, wrong=(key,))


def test_a_text_cannot_forge_a_line_of_the_log_or_fill_it():
    notice = parse(b"STATUS=\x1b[2J\xff" + b"x" * 1000)
    assert notice.status is not None
    assert notice.status.isprintable()
    assert len(notice.status) == 255


@pytest.mark.parametrize("datagram", [b"READY=1\0STOPPING=1", b"\0\0", b"x" * 4097])
def test_what_is_no_message_is_refused_whole(datagram):
    with pytest.raises(PeerError):
        parse(datagram)


lines = st.builds(
    lambda key, text: f"{key}={text}".encode(),
    st.sampled_from(KEYS),
    st.sampled_from(["1", "0", "trigger", ""]) | st.integers().map(str) | st.text(max_size=20),
)


@given(st.binary(max_size=200) | st.lists(lines, max_size=8).map(b"\n".join))
def test_any_bytes_give_a_notice_or_a_peer_error(datagram):
    try:
        notice = parse(datagram)
    except PeerError:
        return
    for number, most in (
        (notice.watchdog_us, 2**63),
        (notice.extend_us, 2**63),
        (notice.main_pid, 2**22),
        (notice.errno, 4095),
        (notice.exit_status, 255),
    ):
        assert number is None or 0 <= number <= most
    for text in (notice.status, notice.bus_error, notice.store_name):
        assert text is None or (text.isprintable() and len(text) <= 255)
    assert ":" not in (notice.store_name or "")
    assert set(notice.wrong) <= set(KEYS)


@given(
    st.lists(st.sampled_from(["READY=1", "WATCHDOG=1", "STATUS=x", "MAINPID=77", "FDSTORE=1"]), unique=True)
)
def test_keys_say_the_same_in_any_order(said):
    assert fields_of(parse("\n".join(said).encode())) == fields_of(parse("\n".join(reversed(said)).encode()))
