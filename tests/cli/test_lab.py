"""``gimli lab``: what it prints, and what it refuses."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from click.testing import CliRunner

from gimli.cli import gimli as group
from gimli.errors import UsageError
from gimli.lab.catalogue import names
from gimli.lab.two_hups.scenario import TwoHups


def call(*arguments):
    done = CliRunner().invoke(group, ["lab", *arguments], standalone_mode=False)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_list_names_the_scenarios():
    assert call("list").output.startswith("two-hups ")
    document = json.loads(call("list", "--json").output)
    assert [scenario["name"] for scenario in document["scenarios"]] == names()
    assert {"two-hups", "pfsync-multicast"} <= set(names())


def test_a_shipped_file_is_shown_to_begin_ones_own_with(tmp_path, monkeypatch):
    """What is shown plays as it is, and the result names the file: its hints can be pasted."""
    shown = call("show", "pfsync-multicast").output
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(shown)
    own = json.loads(call("run", "mine.toml", "--json").output)
    shipped = json.loads(call("run", "pfsync-multicast", "--json").output)
    assert own.pop("scenario") == "mine.toml"
    assert shipped.pop("scenario") == "pfsync-multicast"
    assert own == shipped


def test_what_no_file_describes_cannot_be_shown(gimli):
    done = gimli.call("lab", "show", "two-hups")
    assert done.returncode == UsageError.exit_status
    assert "files are: " in done.stderr


def test_the_schema_is_printed_as_one_document():
    assert json.loads(call("schema").output)["properties"]["switch"]["type"] == "array"


def test_run_is_repeatable_from_its_seed():
    first, again, other = (call("run", "two-hups", "--json", "--seed", seed).output for seed in "776")
    assert first == again
    assert first != other


def test_the_json_of_a_run_is_the_contract():
    document = json.loads(call("run", "two-hups", "--json", "--seed", "3").output)
    assert document["schema"] == 1
    assert document["scenario"] == "two-hups"
    assert document["seed"] == 3
    assert document["mode"] == "simulated"
    assert all(verdict["holds"] is True for verdict in document["verdicts"])
    assert document["metrics"]["naive"]["hups"] == 2
    assert document["timeline"]
    assert "sharedscripts" in document["explanation"]
    assert "causes" not in document


def test_an_expectation_that_does_not_hold_is_the_exit_status():
    """A night on which the rotation was slower than the takeover: nothing happens to the naive monitor."""
    seed = next(seed for seed in range(5000) if not TwoHups().simulate(seed).holds)
    done = call("run", "two-hups", "--seed", str(seed))
    assert done.return_value == 1
    assert "FAILED naive: doubled" in done.output


def test_the_json_of_an_explanation_has_causes_and_cures():
    document = json.loads(call("explain", "two-hups", "--json", "--runs", "50").output)
    assert {"text", "remedy", "without", "needed", "name", "kind"} == set(document["causes"][0])
    assert {"change", "cures", "price", "metrics"} == set(document["cures"][0])
    assert document["cures"][0]["metrics"]["runs"] == 50


def test_the_screens(golden):
    golden("lab-run-two-hups.txt", call("run", "two-hups").output)
    golden("lab-explain-two-hups.txt", call("explain", "two-hups").output)


def test_no_line_is_wider_than_the_screen():
    for line in call("explain", "two-hups").output.splitlines():
        assert len(line) <= 100, line


class _Page(HTMLParser):
    """Which elements a page has, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.tags = []
        self.fetched = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in {"src", "href"}]


def test_the_page_is_one_file_with_a_drawing(tmp_path):
    path = tmp_path / "lab.html"
    call("explain", "two-hups", "--runs", "20", "--html", str(path))
    page = _Page()
    page.feed(path.read_text())
    assert {"svg", "circle", "table", "pre"} <= set(page.tags)
    assert not page.fetched
    assert "script" not in page.tags


def test_a_page_that_cannot_be_written_is_an_error_with_words(gimli):
    done = gimli.call("lab", "run", "two-hups", "--html", "/proc/no/lab.html")
    assert done.returncode == 1
    assert "cannot write /proc/no/lab.html" in done.stderr


def test_an_unknown_scenario_names_those_there_are(gimli):
    done = gimli.call("lab", "run", "three-hups")
    assert done.returncode == UsageError.exit_status
    assert "there are: two-hups" in done.stderr
