"""``gimli lab search``: random designs until one fails, and the least of it that still does."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from gimli.cli import lab_search_text
from gimli.cli.lab_options import JSON, SEED, progress
from gimli.cli.terminal import WIDTH, console
from gimli.clock import parse_duration
from gimli.errors import GimliError
from gimli.lab.catalogue import topology_of
from gimli.lab.network.circumstances import HARMS, SPACE
from gimli.lab.network.goal import Goal
from gimli.lab.network.hunt import OTHER_SEEDS, Hunt
from gimli.lab.network.scenario_text import write
from gimli.lab.network.scenario_values import parse_expectation

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.hunt import Found, Hunted

_SUFFIX = ".toml"
_DESIGNS = 2000


@click.command("search")
@click.argument("scenario", default="plain")
@SEED
@click.option(
    "--designs", type=click.IntRange(1), help=f"How many to try at most; {_DESIGNS} unless --for is given."
)
@click.option("--for", "for_", metavar="TIME", help="For how long to try at most, like 5m.")
@click.option(
    "--fails",
    metavar="EXPECTATION",
    multiple=True,
    help="An expectation, as a scenario has them, that a design must break; may be given again. Without it: "
    "any of SCENARIO's, while many connections are well and one firewall is MASTER all the time.",
)
@click.option("--faults", is_flag=True, help="Let things break as well: a cable, a host, frames lost.")
@click.option("--all", "is_all", is_flag=True, help="Go on after the first; group what fails for the same.")
@click.option(
    "-o",
    "--output",
    metavar="FILE.toml",
    help="Where the scenario that is left is written; found-SEED.toml without it. With --all, numbered.",
)
@JSON
def command(  # noqa: PLR0913 - one argument per option, as click calls it
    *,
    scenario: str,
    seed: int,
    designs: int | None,
    for_: str | None,
    fails: tuple[str, ...],
    faults: bool,
    is_all: bool,
    output: str | None,
    as_json: bool,
) -> int:
    """Draw networks at random until one fails, and shrink it to what it takes.

    It begins with SCENARIO, in which nothing is wrong: a name that the list has, a FILE.toml of your own, or
    the network named plain. Each design has some things more: balancers that share a MAC, pfsync, another
    release's rules, larger requests ...

    Exit status: 0 when no design failed, 1 when one did.
    """
    plain = topology_of(scenario)
    goal = Goal(tuple(map(parse_expectation, fails)), is_silent=False) if fails else Goal.silent(plain)
    hunt = Hunt(plain, (*SPACE, *HARMS) if faults else SPACE, goal, seed, progress())
    path = output or f"found-{seed}{_SUFFIX}"
    if output or not as_json:
        _check_writable(path)
    most = designs or (_DESIGNS if for_ is None else sys.maxsize)
    hunted = hunt.search(most, _clock(for_), is_first_enough=not is_all)
    texts = [write(found.topology, _comment(scenario, seed, found)) for found in hunted.found]
    paths = _written(path, texts, is_all=is_all) if output or not as_json else [""] * len(texts)
    if as_json:
        document = _document(scenario, seed, hunted, texts, paths)
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        screen = console()
        for line in lab_search_text.render(scenario, seed, hunted, paths, min(screen.width, WIDTH)):
            screen.print(line, soft_wrap=True)
    return 1 if hunted.found else 0


def _clock(for_: str | None) -> Callable[[], bool]:
    """Whether the time is over."""
    if for_ is None:
        return lambda: False
    until_s = time.monotonic() + parse_duration(for_, "--for")
    return lambda: time.monotonic() >= until_s


def _comment(scenario: str, seed: int, found: Found) -> str:
    changes = "\n".join(f"- {pick.setting.text}" for pick in found.left)
    by = f"Found by gimli lab search {scenario} --seed {seed}"
    return f"{by}: what design {found.design} needs to fail.\n{changes}"


def _check_writable(path: str) -> None:
    """Before there is anything to be lost."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK) or os.path.isdir(path):
        raise GimliError(
            f"cannot write {path}",
            why=f"{directory} is no directory that you may write to",
            fix="name a file in one that is yours: -o /tmp/found.toml",
        )


def _written(path: str, texts: list[str], *, is_all: bool) -> list[str]:
    """The files, written; numbered where there may be several."""
    stem = path.removesuffix(_SUFFIX)
    paths = [
        f"{stem}-{number}{_SUFFIX}" if is_all else f"{stem}{_SUFFIX}" for number, _ in enumerate(texts, 1)
    ]
    for name, text in zip(paths, texts, strict=True):
        try:
            with open(name, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise GimliError(f"cannot write {name}", why=os.strerror(error.errno or 0)) from error
    return paths


def _document(scenario: str, seed: int, hunted: Hunted, texts: list[str], paths: list[str]) -> dict[str, Any]:
    return {
        "schema": 1,
        "scenario": scenario,
        "seed": seed,
        "designs": hunted.designs,
        "judged": {judgement.name.lower(): count for judgement, count in hunted.judged.items()},
        "rare": hunted.rare,
        "by_what_broke": hunted.by_harm,
        "found": [
            {
                "design": found.design,
                "designs": found.designs,
                "drawn": [{"name": pick.name, "text": pick.setting.text} for pick in found.drawn],
                "left": [{"name": pick.name, "text": pick.setting.text} for pick in found.left],
                "metrics": found.metrics,
                "other_seeds": {"failed": found.failed, "of": len(OTHER_SEEDS)},
                "file": path or None,
                "toml": text,
            }
            for found, text, path in zip(hunted.found, texts, paths, strict=True)
        ],
    }
