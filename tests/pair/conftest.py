"""Real networks for the pair's tests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from gimli.lab.namespaces import Host, Network
from tests.conftest import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel has no event for."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


@dataclass(frozen=True, slots=True)
class Lan:
    """A node of a pair and a client on a LAN, and behind the node another network with a host."""

    node: Host
    client: Host
    behind: Host
    switch: Host


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Network() as network:
        node, client, behind = (network.host(name) for name in ("node", "client", "behind"))
        switch = network.switch("switch")
        network.plug(node, "lan0", switch, "192.0.2.2/24", "2001:db8::2/64")
        network.plug(client, "lan0", switch, "192.0.2.10/24", "2001:db8::10/64")
        network.cable(node, "dmz0", behind, "dmz0")
        node.address("dmz0", "10.1.0.2/24")
        behind.address("dmz0", "10.1.0.10/24")
        yield Lan(node, client, behind, switch)
