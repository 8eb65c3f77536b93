"""How is the monitor replaced by a new image of itself, in place?

    wish --> read the configuration anew --> the new image verifies the state --> execve in this process
              |  refused                        |  refused                          |  refused
              +---------------------------------+-----------------------------------+--> go on as before,
              say why

One process all the way: children stay children, descriptors stay open, blocked signals stay pending, and
there is never a moment with two monitors, nor one with none. Wishes that come meanwhile are the same wish:
however many, they lead to one more takeover, since the configuration may have changed after it was read.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Steps(Protocol):
        """What a takeover does, each step with a callback for how it went; ``runtime.Monitor`` has them."""

        def reread(self, done: Callable[[dict[str, Any] | None, str], None]) -> None:
            """Read the configuration anew: what it is, or what is wrong."""

        def verify(self, configuration: dict[str, Any] | None, done: Callable[[str], None]) -> None:
            """Have the new image check the state; an empty text is success."""

        def execute(self, configuration: dict[str, Any] | None, *, wished_again: bool) -> str:
            """Become the new image. Returns only when that has failed, with the reason."""

        def failed(self, why: str) -> None:
            """The old image goes on."""


class Takeover:
    """The wishes for a takeover, and the one under way."""

    def __init__(self, steps: Steps) -> None:
        self.failure = ""
        """Why the last one failed; empty while one is under way."""
        self._steps = steps
        self._is_under_way = False
        self._wished_again = False
        self._is_cancelled = False
        self._configuration: dict[str, Any] | None = None

    def wish(self) -> None:
        """A takeover is wanted; the one under way, if any, will do, and one more after it."""
        if self._is_cancelled:
            return
        if self._is_under_way:
            self._wished_again = True
            return
        self._is_under_way = True
        self._wished_again = False
        self.failure = ""
        self._steps.reread(self._reread)

    def cancel(self) -> None:
        """The monitor ends: what is under way stops where it is, and no other begins."""
        self._is_cancelled = True

    def _reread(self, configuration: dict[str, Any] | None, wrong: str) -> None:
        if wrong:
            self._fail(wrong)
            return
        self._configuration = configuration
        self._steps.verify(configuration, self._verified)

    def _verified(self, wrong: str) -> None:
        if not wrong and not self._is_cancelled:
            wrong = self._steps.execute(self._configuration, wished_again=self._wished_again)
        if wrong:
            self._fail(wrong)

    def _fail(self, why: str) -> None:
        self._is_under_way = False
        if self._is_cancelled:
            return
        self.failure = why
        self._steps.failed(why)
        if self._wished_again:
            self.wish()
