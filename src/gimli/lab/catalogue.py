"""Which scenarios are there? Those that are shipped, and those that a user has written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gimli import toml_file
from gimli.errors import UsageError
from gimli.lab.network import scenario_file
from gimli.lab.network.incident import NetworkScenario
from gimli.lab.two_hups.scenario import TwoHups

if TYPE_CHECKING:
    from gimli.lab.network.topology import Topology
    from gimli.lab.scenario import Scenario

_DIRECTORY = os.path.join(os.path.dirname(__file__), "network", "scenarios")
_SUFFIX = ".toml"
_PROGRAMS = {TwoHups.name: TwoHups}
"""Scenarios that no file describes."""


def names() -> list[str]:
    """Of the shipped ones: first what is no network, then by name."""
    files = sorted(name for name in os.listdir(_DIRECTORY) if name.endswith(_SUFFIX))
    return [*_PROGRAMS, *(name.removesuffix(_SUFFIX) for name in files)]


def find(wanted: str) -> Scenario:
    """A shipped scenario by its name, or the one in a file by its path.

    Raises:
        UsageError: there is none.
        ConfigError: the file is not what it should be.
    """
    if wanted in _PROGRAMS:
        return _PROGRAMS[wanted]()
    return NetworkScenario(topology_of(wanted))


def topology_of(wanted: str) -> Topology:
    """The network of a shipped scenario by its name, or the one in a file by its path.

    Raises:
        UsageError: there is none.
        ConfigError: the file is not what it should be.
    """
    if wanted.endswith(_SUFFIX):
        return scenario_file.load(wanted)
    return network(wanted)


def network(name: str) -> Topology:
    """What a shipped file describes.

    Raises:
        UsageError: there is none.
    """
    return scenario_file.parse(text_of(name), _path(name), name)


def text_of(name: str) -> str:
    """The file of a shipped scenario.

    Raises:
        UsageError: there is none.
    """
    if name in _PROGRAMS:
        shown = ", ".join(other for other in names() if other not in _PROGRAMS)
        raise UsageError(f"{name} is a program, not a file", fix=f"files are: {shown}")
    if name not in names():
        raise UsageError(
            f"there is no scenario {name!r}",
            fix=f"there are: {', '.join(names())}; a file of your own ends in {_SUFFIX}",
        )
    return toml_file.read(_path(name), usage="gimli lab run FILE.toml")


def _path(name: str) -> str:
    return os.path.join(_DIRECTORY, name + _SUFFIX)
