"""pair.toml: what is right becomes values, what is wrong is told whole, with lines."""

import ipaddress
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import UsageError
from gimli.pair import config
from gimli.pair.config_file import load, parse
from gimli.pair.syncactions import Mode
from gimli.toml_file import ConfigError

WHOLE = """
[[carp]]
vhid = 1
interface = "lan0"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]
password = "mellon-mellon"
advbase = 1
advskew = 100
preempt = true

[[carp]]
vhid = 2
interface = "dmz0"
addresses = ["10.1.0.1/24"]
password = "speak friend"
mac = "real"
peers = ["10.1.0.3"]
up = ["/etc/gimli/up", "now"]

[sync]
interface = "sync0"
peer = "198.51.100.2"
mode = "kernel"
ignore = ["10.9.0.0/16"]

[guard]
interfaces = ["wan0"]

[track]
services = ["web"]
default_route = true
interval = "500ms"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as wrong:
        parse(text, "pair.toml")
    return [str(problem) for problem in wrong.value.problems]


def test_a_whole_file_becomes_values():
    pair = parse(WHOLE, "pair.toml")
    first, second = pair.carp
    assert (first.vhid, first.interface, first.advskew, first.preempt) == (1, "lan0", 100, True)
    assert first.addresses == (
        ipaddress.ip_interface("192.0.2.1/24"),
        ipaddress.ip_interface("2001:db8::1/64"),
    )
    assert (second.mac, second.peers) == (config.Mac.REAL, (ipaddress.ip_address("10.1.0.3"),))
    assert second.up == ("/etc/gimli/up", "now")
    assert pair.sync == config.Sync(
        "sync0",
        ipaddress.ip_address("198.51.100.2"),
        b"mellon-mellon",
        mode=Mode.KERNEL,
        ignore=("10.9.0.0/16",),
    )
    assert pair.guard.interfaces == ("lan0", "dmz0", "wan0")  # those with a vhid are always guarded
    assert pair.track == config.Track(("web",), default_route=True, interval_s=0.5)


def test_a_secret_is_not_shown_where_a_value_is():
    """A repr ends in tracebacks and reports."""
    assert "mellon" not in repr(parse(WHOLE, "pair.toml"))


def test_every_error_is_told_with_its_line():
    told = problems(
        "[[carp]]\nvhid = 1\ninterface = 'lan0'\naddresses = ['192.0.2.1']\npassword = 'mellon-mellon'\n"
        "[[carp]]\nvhid = 256\ninterfaces = 'lan0'\naddresses = ['192.0.2.5/24']\npassword = 'short'\n"
        "[sync]\ninterface = 'sync0'\n[tracks]\n"
    )
    assert "\n".join(told) == (
        'line 4: carp.1.addresses: "192.0.2.1" has no prefix; write it with that of its network: '
        '"192.0.2.1/24"\n'
        'line 6: carp.2.interface: missing; the network interface: interface = "eth0"\n'
        "line 7: carp.2.vhid: expected a number from 1 to 255 (vhid), got a number (256)\n"
        'line 8: carp.2.interfaces: unknown key; did you mean "interface"?\n'
        "line 10: carp.2.password: a password of 5 bytes is no protection; use 8 or more; CARP looks at the "
        "first 20\n"
        'line 11: sync.peer: missing; the other node\'s address on that interface: peer = "198.51.100.2"\n'
        'line 13: tracks: unknown table; did you mean "track"?'
    )


def test_a_file_without_an_address_says_what_to_write():
    assert problems("[sync]\ninterface = 'sync0'\npeer = '198.51.100.2'\n") == [
        "line 1: carp: no address to share: write a table [[carp]] with vhid, interface and addresses"
    ]


def test_the_fast_mode_needs_a_skew():
    told = problems(
        "[[carp]]\nvhid = 1\ninterface = 'lan0'\naddresses = ['192.0.2.1/24']\n"
        "password = 'mellon-mellon'\nadvbase = 0\n"
    )
    assert "\n".join(told) == (
        "line 1: carp.1.advskew: advbase = 0 needs an advskew from 1 on: advertisements then come every "
        "advskew/256 s"
    )


def test_a_vhid_stands_once():
    table = (
        "[[carp]]\nvhid = 1\ninterface = 'lan0'\naddresses = ['192.0.2.1/24']\npassword = 'mellon-mellon'\n"
    )
    assert problems(table * 2) == [
        "line 7: carp.2.vhid: 1 stands at lan0 already; each address pair has a number of its own"
    ]


def test_a_password_file_that_others_can_read_is_refused(tmp_path):
    secret = tmp_path / "carp.key"
    secret.write_text("mellon-mellon\n")
    secret.chmod(0o644)
    file = tmp_path / "pair.toml"
    file.write_text(
        "[[carp]]\nvhid = 1\ninterface = 'lan0'\naddresses = ['192.0.2.1/24']\npassword_file = 'carp.key'\n"
    )
    with pytest.raises(ConfigError, match="1 error") as wrong:
        load(str(file))
    assert f"{secret} can be read by others; its mode is 0644; chmod 600 {secret}" in wrong.value.why
    secret.chmod(0o600)
    assert load(str(file)).carp[0].password == b"mellon-mellon"


def test_a_file_that_is_not_there_says_how_to_name_one(tmp_path):
    with pytest.raises(UsageError, match="there is no") as wrong:
        load(os.path.join(tmp_path, "pair.toml"))
    assert wrong.value.fix == "name one: gimli pair run -f FILE"


@given(
    st.dictionaries(
        st.sampled_from(["vhid", "interface", "addresses", "password", "advbase", "advskew", "mac", "peers"]),
        st.one_of(
            st.integers(-5, 300),
            st.text("abc/:.1", max_size=12),
            st.lists(st.text("abc/:.1", max_size=12), max_size=3),
            st.booleans(),
        ),
    )
)
def test_any_table_is_a_pair_or_an_error_with_lines(table):
    """Nothing that can be written makes the reader fall."""
    written = "".join(f"{key} = {_toml(item)}\n" for key, item in table.items())
    try:
        pair = parse(f"[[carp]]\n{written}", "pair.toml")
    except ConfigError as error:
        wrong = error.problems
    else:
        assert pair.carp[0].addresses
        return
    assert wrong
    assert all(problem.line >= 1 for problem in wrong)


def _toml(item: object) -> str:
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, list):
        return f"[{', '.join(map(_toml, item))}]"
    return f"'{item}'" if isinstance(item, str) else str(item)
