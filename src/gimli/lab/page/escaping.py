"""How is text from outside made part of a page, so that it stays text?"""

from __future__ import annotations

import html


def escape(words: str) -> str:
    """As HTML and as XML: no tag, no entity, no character that either forbids."""
    if not words.isprintable():
        words = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in words
        )
    return html.escape(words)
