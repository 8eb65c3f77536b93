"""A result of the laboratory as one page to send to a colleague: no script, nothing fetched. Pure."""

from gimli.lab.page.document import render

__all__ = ["render"]
