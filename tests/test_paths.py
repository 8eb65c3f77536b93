"""Directories: ours, private, or refused with words that help."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from gimli import paths
from gimli.errors import StoreError
from gimli.paths import make_private_dir

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


def as_nobody(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user without rights."""
    prologue = f"import os, sys; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    imports = "from gimli import paths\nfrom gimli.errors import StoreError\n"
    return subprocess.run(  # the imports first: nobody may not be able to read the checkout
        [sys.executable, "-c", imports + prologue + script, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """A directory that other users may pass."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o711)
        if parent.name.startswith("pytest-of"):
            break
    return str(tmp_path)


@pytest.mark.parametrize(
    ("environment", "state", "runtime"),
    [
        ({"GIMLI_STATE_DIR": "/a", "GIMLI_RUNTIME_DIR": "/b"}, "/a", "/b"),
        ({"GIMLI_STATE_DIR": "", "GIMLI_RUNTIME_DIR": ""}, None, None),
    ],
)
def test_the_environment_overrides(monkeypatch, environment, state, runtime):
    for name, setting in environment.items():
        monkeypatch.setenv(name, setting)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths.state_dir() == (state or "/var/lib/gimli")
    assert paths.runtime_dir() == (runtime or "/run/gimli")


def test_a_relative_one_is_made_absolute(monkeypatch):
    monkeypatch.setenv("GIMLI_STATE_DIR", "state")
    monkeypatch.setenv("GIMLI_RUNTIME_DIR", "run")
    assert paths.state_dir() == os.path.abspath("state")
    assert paths.runtime_dir() == os.path.abspath("run")


@pytest.mark.parametrize(
    ("environment", "state", "runtime"),
    [
        ({"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"}, "/s/gimli", "/r/gimli"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/gimli", "/tmp/gimli-1000"),
    ],
)
def test_a_user_has_the_xdg_directories(monkeypatch, environment, state, runtime):
    for name in ("GIMLI_STATE_DIR", "GIMLI_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, setting in environment.items():
        monkeypatch.setenv(name, setting)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert (paths.state_dir(), paths.runtime_dir()) == (state, runtime)


@pytest.mark.parametrize("mode", [0o700, 0o711])
def test_a_directory_is_made_with_its_parents_and_again(tmp_path, mode):
    path = os.path.join(tmp_path, "a", "b")
    assert make_private_dir(path, mode=mode) == path
    assert make_private_dir(path, mode=mode) == path
    assert stat.S_IMODE(os.stat(path).st_mode) == mode


def test_a_file_in_its_place_is_named_with_a_way_out(tmp_path):
    path = os.path.join(tmp_path, "state")
    with open(path, "w", encoding="utf-8"):
        pass
    with pytest.raises(StoreError, match="it exists and is a file") as caught:
        make_private_dir(path)
    assert f"mv {path} {path}.old" in caught.value.fix


def test_a_file_in_its_way_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="a part of its path is a file"):
        make_private_dir(os.path.join(tmp_path, "file", "state"))


def test_a_name_that_is_too_long_is_told(tmp_path):
    with pytest.raises(StoreError, match="File name too long"):
        make_private_dir(os.path.join(tmp_path, "a" * 300))


@as_root
def test_a_directory_of_somebody_else_is_refused(tmp_path):
    """In /tmp anybody can make it before us, and read what we put there."""
    os.chown(tmp_path, NOBODY, NOBODY)
    with pytest.raises(StoreError, match=f"it belongs to uid {NOBODY}, not to uid 0"):
        make_private_dir(str(tmp_path))


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path, mode):
    path = os.path.join(tmp_path, "open")
    os.mkdir(path)
    os.chmod(path, mode)
    with pytest.raises(StoreError, match="somebody else could put files there") as caught:
        make_private_dir(path)
    assert f"chmod go-w {path}" in caught.value.fix


@as_root
def test_a_link_that_somebody_else_has_put_there_is_refused(tmp_path):
    """In /tmp, to a directory that is ours indeed, but not meant."""
    os.mkdir(tmp_path / "ours", 0o700)
    os.symlink(tmp_path / "ours", tmp_path / "gimli-0")
    os.chown(tmp_path / "gimli-0", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(StoreError, match="has put a link there"):
        make_private_dir(os.path.join(tmp_path, "gimli-0"))


ATTEMPT = """
try:
    paths.make_private_dir(sys.argv[1])
    print("made")
except StoreError as error:
    print(error, "/", error.fix)
"""


@as_root
def test_somebody_without_rights_is_told_so(place):
    path = os.path.join(place, "state")
    assert "Permission denied / name another with --state-dir" in as_nobody(ATTEMPT, path).stdout
    os.mkdir(path, 0o755)
    assert "it belongs to uid 0" in as_nobody(ATTEMPT, path).stdout
    os.chown(path, NOBODY, NOBODY)
    assert as_nobody(ATTEMPT, path).stdout == "made\n"
    os.chmod(path, 0o555)
    assert f"permission denied / chmod u+rwx {path}" in as_nobody(ATTEMPT, path).stdout


def test_a_file_that_is_gone_already_is_removed(tmp_path):
    path = os.path.join(tmp_path, "file")
    with open(path, "w", encoding="utf-8"):
        pass
    paths.unlink_if_there(path)
    paths.unlink_if_there(path)
    assert not os.path.exists(path)
    with pytest.raises(IsADirectoryError):
        paths.unlink_if_there(str(tmp_path))


@pytest.mark.parametrize(("path", "digits"), [("", "811c9dc5"), ("a", "e40c292c"), ("foobar", "bf9cf968")])
def test_the_checksum_of_a_path_is_fnv_1a(path, digits):
    """The test vectors of its authors: names in /sys are found again by it, whichever version made them."""
    assert paths.checksum(path) == digits
