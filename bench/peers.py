"""Which peers are installed here, in which version, and how is a service put under them?

A peer is the distribution's own: what pip or somebody's hand has put elsewhere is not looked at, so that the
version of its package says what was measured.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PACKAGES = {"gdb": "gdb", "runit": "runsvdir", "s6": "s6-svscan", "supervisor": "supervisord"}
"""The packages of which there may be peers, each with a program that it brings."""
_DIRECTORIES = "/usr/bin:/usr/sbin:/bin:/sbin"
_SUPERVISOR_FILES_MIN = 1024
"""supervisor's own default for ``minfds``."""
_SUPERVISOR_FILES_EACH = 6
"""Three pipes and two logs for a program, and one to spare."""


def find(program: str) -> str:
    """The path of a program, or nothing."""
    return shutil.which(program, path=_DIRECTORIES) or ""


def is_here(package: str) -> bool:
    """Whether a package's program is there."""
    return bool(find(PACKAGES[package]))


def versions() -> dict[str, str]:
    """The version of each package, or that it is not here."""
    return {package: _version(package) if is_here(package) else "not installed" for package in PACKAGES}


def _version(package: str) -> str:
    query = ["dpkg-query", "--show", "--showformat=${Version}", package]
    try:
        return subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "of unknown version"


def make_service_directory(directory: str, command: Sequence[str], before: str = ":") -> None:
    """A service as runit and s6 want it.

    Args:
        directory: of the service; made where it is not there yet.
        command: what its ``run`` executes.
        before: what its shell does first.
    """
    os.makedirs(directory, exist_ok=True)
    script = os.path.join(directory, "run")
    with open(script, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\n{before}\nexec {shlex.join(command)}\n")
    os.chmod(script, 0o755)


def supervisor_command(place: str, programs: Mapping[str, Sequence[str]], settings: str = "") -> list[str]:
    """The command of supervisord, configured as Debian does it, with its files in a place of its own.

    Args:
        place: an empty directory with a short path.
        programs: their commands by name.
        settings: lines for each of them; the rest is supervisor's default.
    """
    files = max(_SUPERVISOR_FILES_MIN, _SUPERVISOR_FILES_EACH * len(programs))
    config = os.path.join(place, "supervisord.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(
            f"[unix_http_server]\nfile={place}/supervisor.sock\nchmod=0700\n"
            f"[supervisord]\nnodaemon=true\nlogfile={place}/supervisord.log\npidfile={place}/pid\n"
            f"childlogdir={place}\nminfds={files}\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        file.writelines(
            f"[program:{name}]\ncommand={shlex.join(command)}\n{settings}\n"
            for name, command in programs.items()
        )
    return [find("supervisord"), "-c", config]
