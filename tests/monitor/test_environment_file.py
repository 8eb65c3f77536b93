"""Files of variables, as /etc/default has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import UsageError
from gimli.monitor.environment_file import parse_environment, read_environment


def test_what_a_line_may_be():
    text = "# comment\n\nA=1\n  B = two words \nexport C='x y'\nD=\"\"\nE=$A # kept\nF=a=b\r\nG='\n"
    assert parse_environment(text, "f") == (
        ("A", "1"),
        ("B", "two words"),
        ("C", "x y"),
        ("D", ""),
        ("E", "$A # kept"),
        ("F", "a=b"),
        ("G", "'"),
    )


def test_every_wrong_line_is_told():
    with pytest.raises(UsageError) as caught:
        parse_environment("A=1\nnonsense\n=x\n2B=y\n", "/etc/default/web")
    assert caught.value.why.split("\n") == [
        "/etc/default/web:2: expected NAME=VALUE, got 'nonsense'",
        "/etc/default/web:3: expected NAME=VALUE, got '=x'",
        "/etc/default/web:4: expected NAME=VALUE, got '2B=y'",
    ]


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(UsageError, match="cannot read the environment file") as caught:
        read_environment(str(tmp_path / "none"))
    assert caught.value.why == "No such file or directory"


@given(st.text())
def test_any_text_is_variables_or_an_error(text):
    try:
        pairs = parse_environment(text, "f")
    except UsageError:
        return
    assert all(name.isascii() and "=" not in name and "\0" not in value for name, value in pairs)
