"""Settings of the kernel are given back as they were."""

from __future__ import annotations

import os

import pytest

from gimli.pair.settings import Settings, exists, read
from tests.pair.wire import inside

pytestmark = pytest.mark.real

NAME = "ipv4/conf/lan0/arp_announce"


@pytest.fixture(autouse=True)
def _on_the_node(lan):
    with inside(lan.node):
        yield


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "settings")


def test_restored_to_what_it_was_before_the_first_change(path):
    settings = Settings(path)
    settings.set(NAME, "1")
    settings.set(NAME, "2")
    assert read(NAME) == "2"
    settings.restore()
    assert read(NAME) == "0"
    assert not os.path.exists(path)


def test_a_killed_daemons_changes_are_not_taken_for_the_hosts(path):
    Settings(path).set(NAME, "2")
    successor = Settings(path)
    successor.set(NAME, "2")
    successor.restore()
    assert read(NAME) == "0"


def test_what_the_operator_has_changed_since_stays(path):
    settings = Settings(path)
    settings.set(NAME, "2")
    Settings(f"{path}.other").set(NAME, "1")
    settings.restore()
    assert read(NAME) == "1"


def test_a_value_that_is_higher_already_stays(path):
    Settings(f"{path}.other").set(NAME, "2")
    settings = Settings(path)
    settings.raise_to(NAME, 1)
    assert read(NAME) == "2"
    settings.restore()
    assert read(NAME) == "2"


def test_a_setting_of_an_interface_that_is_gone_does_not_keep_others_from_being_restored(path, lan):
    settings = Settings(path)
    settings.set("ipv4/conf/dmz0/arp_announce", "2")
    settings.set(NAME, "2")
    lan.node.run("ip", "link", "del", "dmz0")
    settings.restore()
    assert read(NAME) == "0"
    assert not exists("ipv4/conf/dmz0/arp_announce")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"ipv4/conf/lan0/arp_announce": ["7"]}'])
def test_a_damaged_memory_is_as_none(path, content):
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
    settings = Settings(path)
    settings.set(NAME, "2")
    settings.restore()
    assert read(NAME) == "0"
