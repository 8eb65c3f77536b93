"""``gimli check``: everything that is wrong with a file, and nothing started."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.real


def test_a_good_file(gimli):
    gimli.write("gimli.toml", '[service.web]\ncommand = ["sleep", "1"]\n[service.db]\ncommand = ["true"]\n')
    done = gimli.call("check")
    assert (done.returncode, done.stdout) == (0, "gimli.toml: 2 services, no error\n")


def test_every_error_with_its_line(gimli):
    path = gimli.write("web.toml", '[service.web]\ncommand = "sleep 1"\nwatchdog = "soon"\n[service.db]\n')
    done = gimli.call("check", "-f", path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"{path}: 3 errors, nothing was started" in done.stderr
    for words in (
        "line 2: service.web.command: ",
        "line 3: service.web.watchdog: ",
        "line 4: service.db.command: ",
    ):
        assert words in done.stderr


@pytest.mark.parametrize(
    ("service", "status", "why"),
    [
        ('command = ["./nothing"]', 127, "there is no such file"),
        ('command = ["no-such-program"]', 127, "no directory of PATH has it"),
        ('command = ["./gimli.toml"]', 126, "not executable"),
        ('command = ["true"]\ncwd = "nowhere"', 2, "is not a directory"),
        ('command = ["true"]\nenvironment = { PATH = "/nowhere" }', 127, "no directory of PATH has it"),
    ],
)
def test_a_command_that_cannot_be_executed(gimli, service, status, why):
    gimli.write("gimli.toml", f"[service.web]\n{service}\n")
    for command in (["check"], ["up", "--detach"]):
        done = gimli.call(*command)
        assert done.returncode == status
        assert why in done.stderr
    assert not os.path.exists(gimli.runtime_dir)


def test_a_file_that_is_not_there(gimli):
    done = gimli.call("check")
    assert done.returncode == 2
    assert "there is no gimli.toml" in done.stderr


def test_an_empty_file_is_an_error(gimli):
    gimli.write("gimli.toml", "")
    assert gimli.call("check").returncode == 2
