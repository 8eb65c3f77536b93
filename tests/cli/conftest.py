"""Golden files: ``pytest tests/cli --rewrite`` writes them anew; review the diff."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

STORIES = os.path.join(os.path.dirname(__file__), os.pardir, "stories")


def pytest_addoption(parser: pytest.Parser) -> None:
    with contextlib.suppress(ValueError):  # another part of the tests may have the same option
        parser.addoption("--rewrite", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a file of tests/stories, or write it there."""

    def compare(name: str, text: str) -> None:
        path = os.path.join(STORIES, name)
        if request.config.getoption("--rewrite", default=False):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        with open(path, encoding="utf-8") as file:
            assert text == file.read(), f"{name} differs; after review: pytest tests/cli --rewrite"

    return compare
