"""Scenario files: what is read, how errors are said, and that the JSON Schema says the same."""

from __future__ import annotations

import os
import re
import tomllib

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gimli.lab.catalogue import names, text_of
from gimli.lab.network.incident import NetworkScenario
from gimli.lab.network.scenario_file import load, parse
from gimli.lab.network.scenario_keys import SCENARIO, Each, Named, Table
from gimli.lab.network.scenario_schema import schema
from gimli.lab.network.scenario_values import SENTENCES, parse_expectation
from gimli.lab.network.simulator.world import World
from gimli.lab.network.topology import (
    Binding,
    Block,
    Client,
    Expect,
    Expectation,
    Fault,
    Kind,
    Link,
    Linux,
    Merge,
    Model,
    Release,
    Switch,
)
from gimli.pair.syncactions import Mode
from gimli.toml_file import ConfigError
from tests.lab.network.designs import streams

FILES = [name for name in names() if name != "two-hups"]
REFERENCE = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "reference", "scenario.md")
SMALL = """
about = "a client, a server, a cable"
lasts = "10s"

[[client]]
name = "internet"
network = "cable"
address = "203.0.113.1/24"
gateway = "203.0.113.9"

[[server]]
name = "app"
network = "cable"
address = "203.0.113.9/24"
gateway = "203.0.113.1"

[traffic]
target = "203.0.113.9"
port = 8080
connections = 3
over = "1s"
requests = [1, 2]
thinks = ["100ms", "200ms"]

[[request]]
name = "page"
weight = 1
sends = ["300B", "900B"]
gets = ["2kB", "30kB"]
"""
FIREWALL = """
[[switch]]
name = "lan"
[[firewall]]
name = "fw"
gateway = "192.0.2.9"
[firewall.interfaces]
ext = { network = "lan", address = "192.0.2.1/24" }
[firewall.carp]
1 = { interface = "ext", address = "192.0.2.100" }
[[client]]
name = "outside"
network = "lan"
address = "192.0.2.9/24"
gateway = "192.0.2.100"
"""


def read(text):
    return parse(text, "mine.toml", "mine.toml")


def problems(text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def changed(*pairs, text=SMALL):
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def documented():
    """The whole file of the reference, and the mistake with what is said of it."""
    with open(REFERENCE, encoding="utf-8") as file:
        page = file.read()
    example, *_ = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    return example, page


# What is read.


def test_a_small_file_is_a_scenario_that_can_be_played():
    topology = read(SMALL)
    assert topology.name == "mine.toml"
    client = topology.hosts[0]
    assert isinstance(client, Client)
    assert client.interface.link == Link()
    assert NetworkScenario(topology).simulate(1).metrics["answered"] >= 3


def test_values_become_those_of_the_topology():
    text = (
        changed(
            ('address = "203.0.113.1/24"', 'address = "203.0.113.1/24"\nlink = "slow"'),
            ('network = "cable"', 'network = "lan"'),
        )
        + """
[[switch]]
name = "lan"
snooping = true
static = { "01:00:5E:00:02:64" = ["app"] }
blocked = ["app"]
[[link]]
name = "slow"
rate = "1.5Mb/s"
latency = "250us"
loss = 0.01
queue = "64kB"
[[fault]]
at = "1s"
kind = "cut-to"
of = "app.eth0"
lasts = "500ms"
[[fault]]
at = "2s"
kind = "power"
of = "app"
"""
    )
    topology = read(text)
    assert topology.switches == (
        Switch("lan", snooping=True, static=(("01:00:5e:00:02:64", ("app",)),), blocked=("app",)),
    )
    client = topology.hosts[0]
    assert isinstance(client, Client)
    assert client.interface.link == Link(rate_mbit=1.5, latency_s=0.000_25, loss=0.01, queue_bytes=64_000)
    assert topology.faults == (
        Fault(1.0, Kind.CUT_TO, "app.eth0", 1.5),
        Fault(2.0, Kind.POWER, "app", None),
    )


def test_each_cause_is_set_alone_and_one_firewall_may_differ():
    text = changed(
        (
            "advskew = 100 }\n\n[[balancer]]",
            'advskew = 100 }\n[firewall.pf]\nmerge = "per-peer"\nforwards_groups = true\n\n[[balancer]]',
        ),
        ('release = "4.7-7.3"', 'release = "4.5"\nbinding = "if-bound"\nblock = "return"'),
        text=text_of("pfsync-multicast").replace("[[balancer]]", "[[balancer]]", 1),
    )
    first, second = read(text).firewalls
    assert first.pf.release is second.pf.release is Release.V4_5
    assert first.pf.binding is second.pf.binding is Binding.IF_BOUND
    assert first.pf.block is second.pf.block is Block.RETURN
    assert (first.pf.merge, first.pf.forwards_groups) == (None, None)
    assert (second.pf.merge, second.pf.forwards_groups) == (Merge.PER_PEER, True)


LINUX = """model = "linux"
linux = { mode = "kernel", liberal = false }
"""


def test_a_firewall_is_a_linux_pair_when_it_is_said():
    """What is not said is as the pair's own default, the guard among it."""
    text = changed(
        ('name = "fw"\n', f'name = "fw"\n{LINUX}'),
        ("[traffic]", "[linux]\nloose = true\n[traffic]"),
        text=SMALL + FIREWALL,
    )
    (firewall,) = read(text).firewalls
    assert firewall.model is Model.LINUX
    assert firewall.linux == Linux(mode=Mode.KERNEL, liberal=False, loose=True)
    assert firewall.is_guarded
    (firewall,) = read(changed((LINUX, f"{LINUX}guard = false\n"), text=text)).firewalls
    assert not firewall.is_guarded
    (firewall,) = read(SMALL + FIREWALL).firewalls
    assert firewall.model is Model.PF
    assert not firewall.is_guarded


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_expectation_can_be_written(sentence):
    assert parse_expectation(sentence).expect.value in sentence


def test_an_expectation_has_its_time():
    assert parse_expectation("failover under 500ms") == Expectation(Expect.FAILOVER, 0.5)
    assert parse_expectation("no connection freezes longer than 2m").limit_s == 120.0


# How errors are said.


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('lasts = "10s"', 'lasts = "10"', 'lasts: "10" is not a time'),
        ('lasts = "10s"', "lasts = 10", "lasts: expected a text in quotes, got a number"),
        ('about = "', 'abuot = "', 'abuot: unknown key; did you mean "about"?'),
        ('network = "cable"\naddress = "203.0.113.1', 'network = "cabel"\naddress = "203.0.113.1',
            "client.1.network: no switch is named so, and a cable has a second end"),
        ('name = "app"', 'name = "internet"', 'server.1.name: "internet" is the name of a client already'),
        ('address = "203.0.113.9/24"', 'address = "203.0.113.1/24"', "203.0.113.1 is that of internet.eth0"),
        ('address = "203.0.113.9/24"', 'address = "203.0.113.9/29"', "networks of 8, 16 or 24 bits"),
        ('gateway = "203.0.113.9"', 'gateway = "203.0.113.8"', "nobody has the address 203.0.113.8"),
        ('gateway = "203.0.113.9"', 'gateway = "10.0.0.1"', "10.0.0.1 is in the network of none of its"),
        ("port = 8080\n", "", "traffic.port: no balancer is between"),
        ('target = "203.0.113.9"', 'target = "203.0.113.8"', "traffic.target: nobody answers at 203.0.113.8"),
        ("requests = [1, 2]", "requests = [2, 1]", "the least, 2, is more than the most, 1"),
        ("requests = [1, 2]", "requests = 2", "expected the least and the most, got a number (2)"),
        ("weight = 1", "weight = -1", "request.1.weight: expected a number from 0.001 to 1e+06"),
        ('over = "1s"', 'over = "0.0s"', 'traffic.over: "0.0s" is not a time of more than 0'),
        ("[traffic]", '[[link]]\nrate = "0Mb/s"\n[traffic]', 'link.1.rate: "0Mb/s" is not a rate'),
        ('gets = ["2kB"', 'gets = ["0kB"', 'request.1.gets: "0kB" is not a size of more than 0'),
        ("connections = 3\n", "", "traffic.connections: missing; how many, in all: connections = 60"),
        ("[[request]]", "[request]", "request: expected tables [[request]], got a table"),
        ('about = "a', 'expects = ["failover under"]\nabout = "a', '"failover under" ends in no time'),
        ('about = "a', 'expects = ["no connection reset by a server"]\nabout = "a',
            'did you mean "no connection reset by an application"?'),
    ],
)  # fmt: skip
def test_an_error_says_where_and_what_was_expected(old, new, said):
    found = problems(changed((old, new)))
    assert [problem for problem in found if said in problem], found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('interface = "ext"', 'interface = "exd"', 'firewall.1.carp.1.interface: it has no interface "exd"'),
        ('"192.0.2.100" }', '"198.51.100.1" }', "firewall.1.carp.1.address: 198.51.100.1 is not in the"),
        ("1 = {", "0 = {", "firewall.1.carp.0: expected a number from 1 to 255"),
        ("1 = {", "one = {", "firewall.1.carp.one: expected a number"),
        (
            '"192.0.2.1/24" }', '"192.0.2.1/24", lnk = "a" }',
            'firewall.1.interfaces.ext.lnk: unknown key; did you mean "link"?',
        ),
        ('name = "fw"', 'name = "fw"\nsync = "s"', 'firewall.1.sync: it has no interface "s"'),
        ('name = "fw"', 'name = "fw"\nmodel = "bsd"', 'firewall.1.model: "bsd" is none of "pf", "linux"'),
        (
            'name = "fw"', 'name = "fw"\nlinux = { loose = true }', 'firewall.1.linux: its model is "pf"',
        ),
        (
            'name = "fw"', 'model = "linux"\nname = "fw"\npf = { block = "drop" }',
            'firewall.1.pf: its model is "linux"',
        ),
        (
            '"192.0.2.100" }', '"192.0.2.100", advbase = 0 }',
            "firewall.1.carp.1.advbase: expected 1 to 254; 0 is the fast mode",
        ),
        ('name = "fw"', 'name = "fw"\npf = { release = "4.8" }', 'firewall.1.pf.release: "4.8" is none of'),
        (
            'name = "lan"', 'name = "lan"\nblocked = ["fw2"]',
            'switch.1.blocked: no host "fw2" is plugged into it; did you mean "fw"?',
        ),
    ],
)  # fmt: skip
def test_an_error_in_a_nested_table_has_its_line(old, new, said):
    text = changed((old, new), text=SMALL + FIREWALL)
    (problem,) = [problem for problem in problems(text) if said in problem]
    line = int(problem.split(":")[0].removeprefix("line "))
    assert new.splitlines()[-1] in text.splitlines()[line - 1]


def test_the_two_of_a_pair_are_of_one_model_with_timers_that_leave_time_for_a_lease():
    linux = FIREWALL.replace('name = "fw"', 'name = "fw"\nmodel = "linux"')
    second = FIREWALL.replace('name = "fw"', 'name = "fw2"').replace("192.0.2.1/", "192.0.2.2/")
    second = second[second.index("[[firewall]]") : second.index("[[client]]")]
    assert [problem for problem in problems(SMALL + linux + second) if "both are of one model" in problem]
    fast = changed(('"192.0.2.100" }', '"192.0.2.100", advbase = 0, advskew = 4 }'), text=SMALL + linux)
    assert read(fast).firewalls[0].carp[0].advbase == 0
    (problem,) = problems(changed(("advskew = 4", "advskew = 1"), text=fast))
    assert "carp.1.advskew: advertisements every 4 ms are too rare for a peer that waits 12 ms" in problem
    assert "there is no firewall with model" in problems(changed(("[traffic]", "[linux]\n[traffic]")))[0]


def test_only_a_daemon_of_the_pair_can_hang():
    hang = '[[fault]]\nat = "1s"\nkind = "hang"\nof = "{}"\n'
    linux = SMALL + FIREWALL.replace('name = "fw"', 'name = "fw"\nmodel = "linux"')
    assert read(linux + hang.format("fw")).faults == (Fault(1.0, Kind.HANG, "fw"),)
    for what in ("app", "fw.ext"):
        assert 'is of a firewall with model = "linux"' in problems(linux + hang.format(what))[0]
    assert 'is of a firewall with model = "linux"' in problems(SMALL + FIREWALL + hang.format("fw"))[0]


def test_all_errors_are_found_in_one_go_in_the_order_of_the_file():
    found = problems(
        changed(('lasts = "10s"', 'lasts = "x"'), ('name = "app"', 'nam = "app"'), ("weight = 1", ""))
        + '[[fault]]\nat = "1s"\nkind = "cutt"\nof = "nobody"\n'
    )
    assert [problem.split(": ")[1] for problem in found] == [
        "lasts",
        "server.1.name",
        "server.1.nam",
        "request.1.weight",
        "fault.1.kind",
        "fault.1.of",
    ]


def test_a_cable_has_two_ends():
    third = (
        SMALL
        + '[[server]]\nname = "b"\nnetwork = "cable"\naddress = "203.0.113.7/24"\ngateway = "203.0.113.1"'
    )
    assert "a cable has two ends, not 3; for a switch: [[switch]]" in problems(third)[0]


# The schema.


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", FILES)
def test_the_shipped_files_fit_the_schema(name):
    jsonschema.validate(tomllib.loads(text_of(name)), schema())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('lasts = "10s"', 'lasts = "10"'),
        ('about = "', 'abuot = "'),
        ("requests = [1, 2]", "requests = 2"),
        ("weight = 1", "weight = -1"),
        ("connections = 3\n", ""),
        ("[[request]]", "[request]"),
        ('about = "a', 'expects = ["failover under"]\nabout = "a'),
        ('gets = ["2kB", "30kB"]', 'gets = ["2kB", "30KiB"]'),
        ('over = "1s"', 'over = "0.0s"'),
    ],
)
def test_what_the_reader_refuses_of_a_single_value_the_schema_refuses(old, new):
    text = changed((old, new))
    assert problems(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), schema())


# The reference.


def keys_of(table, found):
    for name, key in table.keys.items():
        found.add(name)
        match key.node:
            case Table():
                keys_of(key.node, found)
            case Each(inner) | Named(inner, _):
                keys_of(inner, found)
    return found


def test_every_key_and_every_expectation_is_in_the_reference():
    _, page = documented()
    for key in keys_of(SCENARIO, set()):
        assert re.search(rf"`(\[+)?({key}|[a-z.]+\.{key})\]*`", page), key
    for sentence in SENTENCES:
        assert sentence.removesuffix(" 1s") in page, sentence


def test_the_example_of_the_reference_plays_as_it_says(tmp_path):
    example, page = documented()
    path = tmp_path / "office.toml"
    path.write_text(example)
    result = NetworkScenario(load(str(path))).simulate(1)
    told = [f"{'ok    ' if item.holds else 'FAILED'} {item.expect}" for item in result.verdicts]
    assert told
    for line in told:
        assert line in page


def test_the_mistake_of_the_reference_is_told_as_it_says(tmp_path, monkeypatch):
    """The page shows a change to its example as a diff, and then what gimli says."""
    example, page = documented()
    (removed,) = re.findall(r"^-(\w.*)$", page, re.MULTILINE)
    (added,) = re.findall(r"^\+(\w.*)$", page, re.MULTILINE)
    assert example.count(removed) == 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / "office.toml").write_text(example.replace(removed, added))
    with pytest.raises(ConfigError) as caught:
        load("office.toml")
    error = caught.value
    said = [f"gimli: {error.what}", *(error.why or "").splitlines(), str(error.fix)]
    for line in said:
        assert line in page


# Whatever is written.

LINES = {name: text_of(name).splitlines() for name in ("asymmetric-link", "linux-failover")}
WORDS = (
    "1",
    '"x"',
    '"1s"',
    "[]",
    "{ }",
    '["fw1"]',
    '"192.0.2.100"',
    '"10.2.0.1/24"',
    "true",
    '"fw2.dmz"',
    "[1, 2]",
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(LINES)),
    st.lists(
        st.tuples(st.integers(0, 145), st.sampled_from(("drop", "twice", "swap", *WORDS))),
        min_size=1,
        max_size=3,
    ),
)
def test_whatever_is_written_is_played_or_has_an_error_with_a_line_of_the_file(name, edits):
    """What the reader accepts, the simulator can wire up and start. Nothing but ConfigError is raised."""
    lines = list(LINES[name])
    for line, edit in edits:
        place = line % len(lines)
        key, sign, _ = lines[place].partition("=")
        match edit:
            case "drop":
                lines[place] = ""
            case "twice":
                lines[place] += "\n" + lines[place]
            case "swap":
                lines[place], lines[0] = lines[0], lines[place]
            case word if sign:
                lines[place] = f"{key}= {word}"
    text = "\n".join(lines)
    try:
        World(read(text), streams(1)).play(4.2)
        found = []
    except ConfigError as error:
        found = error.problems
    assert all(1 <= problem.line <= len(text.splitlines()) + 1 for problem in found)
