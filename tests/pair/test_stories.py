"""The election told as stories: what happens to the nodes above each rule, what they say below.

A story is a script with its output (tests/stories/pair). ``pytest --rewrite`` writes the output anew.

    node NAME advbase=1 advskew=0 preempt demotion=0       one more node of the vhid
    enable NAME | disable NAME WHY | stop NAME             what its daemon knows
    demote NAME 32 BECAUSE                                 its fitness
    lapse NAME 7s | outrank NAME 4 | recover NAME          its lease, its epoch, its interface
    lose NAME                                              its power: it says and hears nothing any more
    cut NAME NAME | join NAME NAME                         the path from the first to the second
    pass 10s                                               time
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gimli.clock import parse_duration
from gimli.pair import carp_events as events
from gimli.pair.vhid import Role
from tests.pair.virtual_link import Node, VirtualLink, vhid

if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY = os.path.join(os.path.dirname(__file__), os.pardir, "stories", "pair")
STORIES = sorted(os.listdir(DIRECTORY))


class Teller:
    """Plays a script on a virtual link."""

    def __init__(self) -> None:
        self.link = VirtualLink()

    def play(self, line: str) -> list[str]:
        """One line of a script, and what is told meanwhile."""
        verb, *words = line.split()
        told = len(self.link.told)
        if verb == "node":
            self._add(*words)
        elif verb == "pass":
            self.link.run_until(self.link.now_s + parse_duration(words[0], "story"))
        elif verb in {"cut", "join"}:
            pair = (words[0], words[1])
            self.link.cuts = self.link.cuts | {pair} if verb == "cut" else self.link.cuts - {pair}
        else:
            self._happen(verb, self.link.node(words[0]), *words[1:])
        return [f"{when_s:.4f} {name} {text}" for when_s, name, text in self.link.told[told:]]

    def _add(self, name: str, *settings: str) -> None:
        numbers = {key: int(text) for key, _, text in (word.partition("=") for word in settings) if text}
        made = vhid(len(self.link.nodes) + 1, preempt="preempt" in settings, **numbers)
        self.link.nodes.append(Node(name, made))

    def _happen(self, verb: str, node: Node, *words: str) -> None:
        if verb == "lose":
            node.armed.clear()
            node.has_addresses = node.has_lease = False
            node.vhid = replace(node.vhid, role=Role.INIT)
            return
        make: dict[str, Callable[[], events.Event]] = {
            "enable": events.Enabled,
            "disable": lambda: events.Disabled(" ".join(words)),
            "stop": events.StopWanted,
            "demote": lambda: events.DemotionChanged(int(words[0]), " ".join(words[1:])),
            "lapse": lambda: events.LeaseLapsed(parse_duration(words[0], "story")),
            "outrank": lambda: events.Outranked(int(words[0])),
            "recover": events.SendRecovered,
        }
        self.link.give(node, make[verb]())


def tell(script: str) -> str:
    """The script, with what comes of it written below each of its rules."""
    teller = Teller()
    parts = []
    for part in script.split("\n\n"):
        lines = part.split("\n")
        inputs = lines[: lines.index("----")] if "----" in lines else lines
        if all(line.startswith("#") for line in inputs if line):
            parts.append("\n".join(inputs))
            continue
        told = [text for line in inputs if not line.startswith("#") for text in teller.play(line)]
        parts.append("\n".join([*inputs, "----", *told]))
    return "\n\n".join(parts).rstrip("\n") + "\n"


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, request: pytest.FixtureRequest):
    path = os.path.join(DIRECTORY, name)
    with open(path, encoding="utf-8") as file:
        script = file.read().rstrip("\n")
    told = tell(script)
    if request.config.getoption("--rewrite"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(told)
    with open(path, encoding="utf-8") as file:
        assert told == file.read(), f"{name} differs; after review: pytest --rewrite"
