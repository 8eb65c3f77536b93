"""The pictures of a result as text: what a terminal, a pipe and a reader without colours see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gimli.cli import lab_lanes, lab_pictures, lab_plot, lab_text
from gimli.lab.pictures import NOTHING, Chart, Curve, Pictures, Spread
from gimli.lab.scenario import Cause, Cure, Verdict
from tests.lab import drawn


def plain(lines):
    return "\n".join(line.plain for line in lines)


def result():
    """With words of a usual length."""
    made = drawn.result("dmz")
    cause = Cause("the switch floods", "static entries", "0 froze", needed=True)
    return replace(
        made,
        verdicts=(Verdict("no connection freezes", holds=False, figure="5 froze"),),
        causes=(cause,),
        cures=(Cure("static entries", cures=True, price="by hand", metrics={}, cells=("0",)),),
        cure_heads=("frozen",),
    )


def test_the_pictures_as_text(golden):
    golden("lab-pictures.txt", plain(lab_text.render(result(), 100, is_drawn=True)) + "\n")


def test_an_explanation_is_drawn_when_asked_and_a_run_always():
    explained = result()
    assert "LANES" not in plain(lab_text.render(explained, 100))
    once = replace(explained, causes=(), cures=())
    text = plain(lab_text.render(once, 100))
    assert "LANES" in text
    assert "MAP" not in text
    assert "WINDOW" not in text


@pytest.mark.parametrize("width", [100, 80, 70])
def test_no_line_of_a_picture_is_wider_than_the_screen(width):
    for line in lab_text.render(result(), width, is_drawn=True):
        if not line.plain.startswith("more:"):
            assert len(line.plain) <= width, line.plain


def test_on_a_narrow_screen_the_story_is_words():
    made = replace(result(), causes=(), cures=())
    text = plain(lab_text.render(made, 60))
    assert "LANES" not in text
    assert "t=0.0010" in text


def test_a_result_without_pictures_reads_as_before():
    made = replace(result(), pictures=NOTHING)
    assert plain(lab_text.render(made, 100)) == plain(lab_text.render(made, 100, is_drawn=True))


def test_arrows_say_where_they_end():
    lines = plain(lab_lanes.lines(drawn.sequence(), 100)).splitlines()
    copy = next(line for line in lines if "flooded copy" in line)
    assert "|.......>|" in copy
    assert "|<=======|" in next(line for line in lines if "pfsync update" in line)
    assert "x-----" in next(line for line in lines if "BAD state" in line)
    assert "|<-------o-----" in next(line for line in lines if "FIN" in line)


def test_a_name_moves_no_cursor():
    """Whatever a scenario's author has named so: only printable characters come out."""
    hostile = drawn.result("\x1b[2J\x07\u202e")
    for line in lab_text.render(hostile, 100, is_drawn=True):
        assert line.plain.isprintable(), line.plain


def test_the_step_back_and_what_is_dropped_stand_in_the_grid():
    lines = plain(lab_plot.lines(drawn.window(), "WINDOW", 100)).splitlines()
    grid = [line.partition("|")[2] for line in lines[1:12]]
    columns = [row.index("!") for row in grid if "!" in row]
    assert len(columns) >= 8, "from 500 down to 100"
    assert len(set(columns)) == 1
    assert sum("x" in row for row in grid) == 1
    assert "o fw1 seqlo   + fw2 seqlo" in lines[-2]


def test_a_line_that_is_not_stepped_rises_evenly():
    chart = Chart("log", "bytes", (Curve("naive", "log", ((0.0, 0.0), (1000.0, 1000.0))),))
    grid = [line.plain.partition("|")[2] for line in lab_plot.lines(chart, "WINDOW", 60)[1:12]]
    firsts = [row.index("o") for row in grid]
    assert firsts == sorted(firsts, reverse=True)
    assert len(set(firsts)) == len(firsts)


def test_digits_count_the_runs():
    lines = plain(lab_pictures.spread(drawn.spreads(), 100)).splitlines()
    rows = {line[9:].split("  ")[0].strip(): line for line in lines}
    assert rows["as it is"].count("2") == 2
    assert "4" in rows["without flooding: static entries"]
    assert rows["guard"].endswith("4")
    many = Spread("as it is", "as it is", {"frozen": (1.0,) * 12})
    assert "#" in plain(lab_pictures.spread((many,), 100))


def test_no_runs_are_no_spread():
    assert lab_pictures.spread((), 100) == []


def test_a_map_that_has_no_room_is_a_list():
    plan = drawn.network_map()
    assert "outside" in plain(lab_pictures.network_map(plan, 100))
    assert "inside: fw1, fw2, app1" in plain(lab_pictures.network_map(plan, 40))


def test_the_json_of_a_result_has_the_pictures():
    """Figures and words for programs: no coordinate, no colour."""
    document = result().to_json()["pictures"]
    assert set(document) == set(Pictures.__match_args__)
    assert document["sequence"]["steps"][2]["path"] == ("master", "backup")
    assert document["charts"][0]["marks"][0]["before"] == 500.0
    assert document["map"]["plugs"][4]["flooded"] == "10,349 copies"
    assert document["spreads"][0]["values"]["frozen"] == (5.0, 5.0, 6.0, 12.0)
