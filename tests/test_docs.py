"""What the documents say is there, is there: commands, options, files."""

from __future__ import annotations

import os
import re

import click
import pytest

from gimli.cli import COMMANDS, gimli
from gimli.monitor.original import OPTIONS
from gimli.pair.config_file import _CARP, _GUARD, _SYNC, _TRACK
from gimli.pair.words import EVENTS

ROOT = os.path.join(os.path.dirname(__file__), "..")
DOCUMENTS = sorted(
    os.path.relpath(os.path.join(directory, name), ROOT)
    for top in (".", "docs")
    for directory, _, names in os.walk(os.path.join(ROOT, top))
    if top != "." or directory == os.path.join(ROOT, ".")
    for name in names
    if name.endswith(".md")
)
COMMAND_LINE = re.compile(r"(?:^\$ |`)gimli ((?:[a-z]+)(?: [^`#\n|]*)?)", re.MULTILINE)


def read(path: str) -> str:
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def options_of(name: str) -> set[str]:
    """Options of a command and of its subcommands, as written."""
    command = gimli.get_command(click.Context(gimli), name)
    assert command is not None
    commands = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    written = (option for each in commands for parameter in each.params for option in parameter.opts)
    return {option for option in written if option.startswith("-")} | {"--help"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_line_is_one_that_exists(document):
    for line in COMMAND_LINE.findall(read(document)):
        name, *words = line.split()
        assert name in COMMANDS, f"{document}: gimli {line}"
        if "--" in words:
            words = words[: words.index("--")]
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= options_of(name), f"{document}: gimli {line}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)\)", read(document)):
        path = os.path.join(ROOT, os.path.dirname(document), target)
        assert os.path.exists(path), f"{document} -> {target}"


def test_the_manual_has_every_command_and_every_option_of_run():
    manual = read("man/gimli.1").replace("\\-", "-")
    for name in COMMANDS:
        assert re.search(rf"gimli {name}\b|\|\\fB{name}\\fR", manual), name
    for option in options_of("run") - {"--help"}:
        assert option in manual, option


def test_the_originals_options_are_documented_with_their_variables_and_defaults():
    table = read("docs/reference/original.md").replace("**", "")
    manual = read("man/gimli-monitor.1").replace("\\-", "-").replace("\\fB", "")
    for option in OPTIONS:
        default = option.default if isinstance(option.default, int) else r"[^|]*"
        row = rf"^\| `{option.name}` \| `{option.variable}` \| {default} ?\|"
        assert re.search(row, table, re.MULTILINE), option.name
        assert re.search(rf"\b{option.name}\b", manual), option.name
        assert option.variable in manual, option.name


def test_every_key_of_a_pair_is_in_its_manual_and_in_the_reference():
    manual = read("man/pair.toml.5")
    reference = read("docs/reference/pair.md")
    keys = {key for parsers in (_CARP, _SYNC, _GUARD, _TRACK) for key in parsers}
    for key in keys | {"password", "password_file"}:
        assert re.search(rf"^\.BR? .*\b{key}\b", manual, re.MULTILINE), key
        assert f"`{key}`" in reference, key


def test_every_event_of_the_pair_is_in_the_reference():
    reference = read("docs/reference/pair.md")
    for event in EVENTS:
        assert f"`{event}`" in reference, event


def test_the_makefile_has_what_the_readme_says():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        assert set(re.findall(r"^\$ make ([a-z]+)", read(document), re.MULTILINE)) <= targets
