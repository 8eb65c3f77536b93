"""A result with every picture, made by hand: small, and with one of everything that can be drawn."""

from __future__ import annotations

from gimli.lab.pictures import (
    Chart,
    Curve,
    Lane,
    Map,
    Mark,
    Network,
    Pictures,
    Place,
    Plug,
    Sequence,
    Spread,
    Step,
)
from gimli.lab.scenario import Cause, Cure, Moment, Result, Verdict

LANES = (
    Lane("client", "client", "internet"),
    Lane("master", "MASTER", "fw1"),
    Lane("backup", "BACKUP", "fw2"),
    Lane("balancer", "balancer", "lb2"),
    Lane("server", "server", "app1"),
)


def network_map(word="dmz"):
    return Map(
        places=(
            Place("internet", "client"),
            Place("fw1", "firewall", ("MASTER", "pf 4.7-7.3")),
            Place("fw2", "firewall", ("BACKUP", "pf 4.7-7.3"), fault="off at 40 s"),
            Place(f"lb-{word}", "balancer"),
            Place("app1", "server"),
        ),
        networks=(
            Network("outside", is_switch=True),
            Network(word, is_switch=True, notes=("floods group MACs", word)),
            Network("inside", is_switch=True),
            Network("cross", is_switch=False),
        ),
        plugs=(
            Plug("internet", "outside", "wan"),
            Plug("fw1", "outside", "ext", fault="cut at 12 s"),
            Plug("fw2", "outside", "ext"),
            Plug("fw1", word, "dmz"),
            Plug("fw2", word, "dmz", flooded="10,349 copies"),
            Plug(f"lb-{word}", word, "dmz"),
            Plug("fw1", "inside", "app"),
            Plug("fw2", "inside", "app"),
            Plug("app1", "inside", "app"),
            Plug("fw1", "cross", "sync"),
            Plug("fw2", "cross", "sync", fault="cut at 14 s"),
        ),
    )


def sequence(word="the replica moves on"):
    return Sequence(
        f"connection 7, {word}",
        LANES,
        (
            Step(1000.0, ("balancer", "master", "server"), "request", "request: seq 1..500"),
            Step(1010.0, ("server", "master", "balancer"), "answer", "answer, 9 packets"),
            Step(1011.0, ("master", "backup"), "copy", f"flooded copy: {word}"),
            Step(1011.5, ("backup", "master"), "update", "pfsync update: server.seqlo 100"),
            Step(1012.0, ("master",), "back", "server.seqlo 500 -> 100: 400 bytes BACK"),
            Step(1300.0, ("balancer", "master"), "drop", "BAD state: dropped", is_lost=True),
            Step(3300.0, ("balancer", "master"), "again", "sent again: dropped", is_lost=True),
            Step(31000.0, ("server",), "note", "nothing moved for 30 s"),
            Step(31001.0, ("balancer", "master", "client"), "close", "FIN"),
            Step(31002.0, ("client", "master", "balancer"), "reset", "RST"),
        ),
        left_out="Acknowledgements are left out.",
    )


def window(word="seqlo"):
    return Chart(
        f"window, {word}",
        "bytes",
        (
            Curve(
                "fw1",
                word,
                ((1000.0, 0.0), (1010.0, 500.0), (1012.0, 100.0), (1020.0, 100.0)),
                is_stepped=True,
            ),
            Curve("fw2", word, ((1000.0, 0.0), (1011.0, 100.0), (1020.0, 100.0)), is_stepped=True),
            Curve("fw1", "seqhi", ((1000.0, 300.0), (1020.0, 700.0)), style="edge"),
            Curve("fw1", "what pf accepts", ((1012.0, 300.0), (1020.0, 300.0)), style="limit"),
        ),
        (
            Mark(1012.0, 100.0, "back", before=500.0, text=f"400 bytes back {word}"),
            Mark(1015.0, 450.0, "drop", text="dropped"),
        ),
    )


def spreads(word="static entries"):
    return (
        Spread("as it is", "as it is", {"frozen": (5.0, 5.0, 6.0, 12.0), "RST": (3.0, 4.0, 4.0, 10.0)}),
        Spread(word, "without flooding", {"frozen": (0.0, 0.0, 0.0, 0.0), "RST": (0.0, 0.0, 0.0, 0.0)}),
        Spread("guard", "remedies", {"frozen": (0.0, 0.0, 1.0, 0.0), "RST": (0.0, 0.0, 0.0, 0.0)}),
    )


def result(word="word"):
    """A result in which whatever a user may have named is ``word``."""
    return Result(
        scenario=word,
        seed=1,
        mode="simulated",
        headline=f"5 froze: {word}",
        verdicts=(Verdict(word, holds=False, figure=word),),
        metrics={},
        timeline=(Moment(1.0, word, word),),
        explanation=(word,),
        sure=(word,),
        causes=(Cause(word, word, word, needed=True),),
        cures=(Cure(word, cures=True, price=word, metrics={}, cells=(word,)),),
        cure_heads=(word,),
        change=(word,),
        subject=word,
        pictures=Pictures(network_map(word), sequence(word), (window(word),), spreads(word)),
    )
