"""How does JSON Schema say what a scenario file is? From the same rows that the reader follows.

References between tables are what it cannot say: an editor takes a network that no switch has, the reader
does not.
"""

from __future__ import annotations

from typing import Any

from gimli.lab.network.scenario_keys import SCENARIO, Each, Named, Node, Table
from gimli.lab.network.scenario_values import Value


def schema() -> dict[str, Any]:
    """Of the whole file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCENARIO.about,
        **_of(SCENARIO),
    }


def _of(node: Node) -> dict[str, Any]:
    match node:
        case Value():
            return dict(node.schema)
        case Each(table):
            return {"type": "array", "items": _of(table), "minItems": 1}
        case Named(table, name):
            return {
                "type": "object",
                "patternProperties": {name.schema["pattern"]: _of(table)},
                "additionalProperties": False,
                "minProperties": 1,
            }
        case Table():
            return _of_table(node)


def _of_table(table: Table) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"description": key.about, **_of(key.node)} for name, key in table.keys.items()},
        "required": [name for name, key in table.keys.items() if key.is_required],
        "additionalProperties": False,
    }
