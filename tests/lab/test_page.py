"""The page of a result: one file, well formed, nothing fetched, and nothing of it but words is a user's."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.lab.page import chart, render, sequence, spread, topology
from gimli.lab.page.chart import short, ticks
from gimli.lab.pictures import NOTHING, Chart, Curve, Spread
from tests.lab import drawn

_TAGS = """
    html head meta title style body h1 h2 p strong span figure figcaption div details summary table tr td th
    pre svg desc text tspan line polyline polygon circle rect
"""
_ATTRIBUTES = """
    lang charset name content class style id role aria-labelledby aria-hidden viewbox x y x1 y1 x2 y2 cx cy r
    rx width height points fill stroke stroke-width stroke-dasharray stroke-linecap xml:space
"""
TAGS, ATTRIBUTES = set(_TAGS.split()), set(_ATTRIBUTES.split())
VOID = {"meta", "line", "polyline", "polygon", "circle", "rect"}
NAMES = st.text(min_size=1, max_size=40)
HOSTILE = (
    "</title><script>alert(1)</script>",
    "\"' onload='alert(1)",
    "&lt;&#0;&amp;",
    "]]><!--",
    "\x00\x1b[31m\x7f\u202e\ud800",
    "</svg></style>",
)


class _Checked(HTMLParser):
    """Every element that is opened is closed, in order, and is one of those a page is made of."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.words = []
        self.ids = []
        self.labels = []
        self.values = []

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS
        assert {name for name, _ in attrs} <= ATTRIBUTES
        self.values += [value for _, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        self.labels += [part for name, value in attrs if name == "aria-labelledby" for part in value.split()]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)


def checked(page):
    parser = _Checked()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def drawings(page):
    return re.findall(r"<svg .*?</svg>", page, re.DOTALL)


def test_a_page_has_every_picture_and_fetches_nothing():
    page = render(drawn.result("dmz"))
    parser = checked(page)
    for key in ("map", "sequence", "chart-1", "spread"):
        assert f"{key}-title" in parser.ids
    assert len(parser.ids) == len(set(parser.ids))
    assert not re.search(r"url\(|@import|https?:|<script|<link|\bsrc=|\bhref=", page)


def test_every_drawing_is_xml_with_a_title_and_a_description():
    page = render(drawn.result("dmz"))
    parser = checked(page)
    assert set(parser.labels) == set(parser.ids)
    for text in drawings(page):
        root = ET.fromstring(text.replace("aria-", "aria_"))
        if root.get("role") == "img":
            assert root.findtext("title")
            assert root.findtext("desc")
        else:
            assert root.get("aria_hidden") == "true"


@given(NAMES)
def test_a_name_is_only_ever_words(name):
    """No name opens an element, ends one, or becomes an attribute; the drawings stay XML."""
    page = render(drawn.result(name))
    checked(page)
    for text in drawings(page):
        ET.fromstring(text)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown(name):
    page = render(drawn.result(name))
    parser = checked(page)
    printable = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in name
    )
    assert printable in "".join(parser.words)
    assert not any(name in value for value in parser.values)
    page.encode()  # a lone surrogate could not be written to a file


def test_the_same_result_is_the_same_page():
    assert render(drawn.result()) == render(drawn.result())


def test_colours_are_the_styles_and_are_there_for_light_and_dark():
    page = render(drawn.result("dmz"))
    used = set(re.findall(r"var\(--([a-z]+)\)", page))
    light, dark = page.split("prefers-color-scheme: dark")
    for colour in used:
        assert f"--{colour}:" in light
        assert f"--{colour}:" in dark


def test_a_result_without_pictures_has_its_time_line():
    page = render(replace(drawn.result("dmz"), pictures=NOTHING))
    parser = checked(page)
    assert "timeline-title" in parser.ids
    assert "map-title" not in parser.ids


# The map.


def test_the_map_says_which_port_is_flooded_and_where_it_breaks():
    page = topology.draw(drawn.network_map())
    words = checked(page).words
    for expected in ("10,349 copies", "cut at 12 s", "cut at 14 s", "off at 40 s", "floods group MACs"):
        assert expected in words
    assert "fw2 (gets 10,349 copies)" in page
    assert page.count("var(--copy)") == 5, "line, dot, head, words and legend"


def test_no_map_is_too_much_for_a_phone_unless_it_must():
    """What is in the story fits; one with many hosts scrolls instead of shrinking."""
    assert "min-width" not in topology.draw(drawn.network_map())
    plan = drawn.network_map()
    many = tuple(replace(plan.places[4], name=f"app{number}") for number in range(9))
    plugs = tuple(replace(plan.plugs[8], place=place.name) for place in many)
    wide = topology.draw(replace(plan, places=plan.places + many, plugs=plan.plugs + plugs))
    assert "min-width" in wide


# The sequence.


def test_each_step_is_an_arrow_of_its_kind():
    page = sequence.draw(drawn.sequence())
    root = ET.fromstring(drawings(page)[0])
    words = "".join(root.itertext())
    for step in drawn.sequence().steps:
        assert step.text in words
    crosses = [line for line in root.iter("line") if line.get("stroke-width") == "2.2"]
    assert len(crosses) == 2 * 2, "the packet that was dropped, and when it was sent again"
    assert "2.0 s later" in words
    assert page.count("<tr>") == 1 + len(drawn.sequence().steps)


# Charts.


def test_the_step_back_is_drawn_and_named():
    """From where the line was, down to where it is: a line of its own, of the colour of what is bad."""
    page = chart.draw(drawn.window(), "chart-1")
    root = ET.fromstring(drawings(page)[0])
    (back,) = [line for line in root.iter("line") if line.get("stroke-width") == "2.6"]
    assert back.get("x1") == back.get("x2")
    assert float(back.get("y1")) < float(back.get("y2")), "down"
    assert back.get("stroke") == "var(--bad)"
    assert "400 bytes back seqlo" in "".join(root.itertext())
    curves = [line for line in root.iter("polyline") if line.get("stroke") == "var(--first)"]
    assert any(f"{back.get('x1')},{back.get('y2')}" in curve.get("points") for curve in curves)


@pytest.mark.parametrize("points", [(), ((0.0, 1.0),)])
def test_too_few_points_are_no_chart(points):
    assert not chart.draw(Chart("t", "", (Curve("a", "b", points),)), "chart-1")


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.integers(1, 8))
def test_ticks_are_round_and_inside(least, span, about):
    found = ticks(least, least + span, about)
    assert len(found) <= about + 2
    slack = abs(least) * 1e-9 + span * 1e-9 + 1e-9
    assert all(least - slack <= tick <= least + span + slack for tick in found)


def test_numbers_are_short():
    assert [short(value) for value in (0.0, 950.0, 67_035.0, 2e6, 3e9)] == [
        "0",
        "950",
        "67.03 k",
        "2 M",
        "3 G",
    ]


# Spreads.


def test_every_run_is_in_a_dot():
    page = spread.draw(drawn.spreads())
    root = ET.fromstring(drawings(page)[0])
    counts = [int(text.text) for text in root.iter("text") if "tiny" in (text.get("class") or "")]
    dots = [*root.iter("circle"), *root.iter("rect")]
    singles = len(dots) - len(counts)
    drawn_rows = 2 * 2 * 4  # two rows are drawn, of two figures of four runs
    assert sum(counts) + singles == drawn_rows
    assert "none in 4 runs" in "".join(root.itertext())
    assert "5.5 (5-12) frozen, 4 (3-10) RST" in page


def test_many_runs_are_a_box():
    """From the first to the third quarter, with the median in it; the line is all of them."""
    values = tuple(float(value) for value in range(101))
    page = spread.draw((Spread("as it is", "as it is", {"frozen": values}),))
    root = ET.fromstring(drawings(page)[0])
    (box,) = root.iter("rect")
    whole = next(line for line in root.iter("line") if line.get("stroke-width") == "1.2")
    left, right = float(whole.get("x1")), float(whole.get("x2"))
    assert float(box.get("x")) == pytest.approx(left + (right - left) / 4)
    assert float(box.get("width")) == pytest.approx((right - left) / 2)
    assert "Of 101 runs" in page


def test_no_runs_are_no_spread():
    assert not spread.draw(())
    assert not spread.draw((Spread("as it is", "as it is", {}),))
