"""The module without a host: `python3 -m unittest test_twohop`."""

import struct
import sys
import types as module_types
import unittest
from dataclasses import dataclass
from enum import Enum

# What only a component has: the bindings of the interface, and the log.
lines: list[tuple[str, str]] = []


class Err(Exception):
    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


@dataclass
class Outcome:
    changes: list[int]
    kinds: bytes
    options: bytes
    spans: list[int]
    numbers: list[int]
    attributed_routes: list[int]
    attributes: list[int]
    arena: bytes


@dataclass
class Setting:
    key: str
    value: str


@dataclass
class Subscription:
    source: str
    table: str
    operations: bytes
    columns: list[str]


@dataclass
class Changes:
    subscriptions: list[int]
    operations: bytes
    committed_at: list[int]
    rows: list[int]
    old_rows: list[int]
    kinds: bytes
    values: list[int]
    arena: bytes


def _module(name: str, **contents: object) -> None:
    sys.modules[name] = module_types.ModuleType(name)
    sys.modules[name].__dict__.update(contents)


class Level(Enum):
    ERROR = 3


_module("componentize_py_types", Err=Err)
_module("wit_world")
_module("wit_world.exports")
_module("wit_world.exports.router", Outcome=Outcome)
_log = module_types.SimpleNamespace(Level=Level, write=lambda level, line: lines.append((level, line)))
_types = module_types.SimpleNamespace(Changes=Changes, Setting=Setting, Subscription=Subscription)
_module("wit_world.imports", log=_log, types=_types)

import twohop  # noqa: E402

COLUMNS = ("a", "b", "$key")


def batch(changes: list[tuple]) -> Changes:
    """Of changes that are each an operation, a row and an old row, rows being lists of kind and value."""
    made = Changes([0] * len(changes), bytes(change[0] for change in changes), [], [], [], b"", [], b"")
    kinds = []

    def lower(row):
        if row is None:
            return twohop.NONE
        first = len(kinds)
        for kind, value in row:
            kinds.append(kind)
            if kind >= 6:
                taken = value.encode() if kind == 6 else value
                value = len(made.arena) | len(taken) << 32
                made.arena += taken
            made.values.append(value)
        return first

    for index, (_, row, old) in enumerate(changes):
        made.committed_at.append(1000 + index)
        made.rows.append(lower(row))
        made.old_rows.append(lower(old))
    made.kinds = bytes(kinds)
    return made


def direct(changes: list[tuple], direct_change) -> Outcome:
    class Policy(twohop.Router):
        def subscriptions(self):
            return [twohop.Subscription("t", columns=COLUMNS)]

        def direct(self, change, routes):
            direct_change(change, routes)

    plugin, router = twohop.export(Policy)
    plugin().configure([])
    return router().direct(batch(changes))


def row(*texts: str) -> list[tuple]:
    return [(6, text) for text in texts]


ONE = (1, row("a", "b", "k"), None)


class Test(unittest.TestCase):
    def test_every_kind_of_cell_is_read_as_what_it_is(self):
        cells = [
            ((0, 0), None),
            ((1, 0), twohop.Hidden.UNCHANGED),
            ((2, 0), twohop.Hidden.MASKED),
            ((3, 1), True),
            ((3, 0), False),
            ((4, 2**64 - 5), -5),
            ((4, 2**63 - 1), 2**63 - 1),
            ((5, struct.unpack("<Q", struct.pack("<d", 1.1))[0]), 1.1),
            ((6, "é💡"), "é💡"),
            ((7, b"\0\xff"), b"\0\xff"),
        ]
        found = []
        changes = [(1, [(6, "é"), cell, (6, "k")], None) for cell, _ in cells]
        direct(changes, lambda change, routes: found.append(change.row["b"]))
        self.assertEqual(found, [value for _, value in cells])

    def test_a_change_has_the_rows_that_its_operation_has(self):
        new, old = row("new", "", "1"), row("old", "", "0")
        seen = []

        def see(change, routes):
            rows = [None if part is None else part["a"] for part in (change.row, change.old)]
            seen.append((change.operation, *rows, change.key, change.committed_at))

        direct([(2, new, old), (3, None, old), (4, new, None)], see)
        expected = [
            ("update", "new", "old", "1", 1000),
            ("delete", None, "old", "0", 1001),
            ("truncate", None, None, "1", 1002),
        ]
        self.assertEqual(seen, expected)

    def test_every_kind_of_route_lies_in_the_lists_as_the_interface_says(self):
        def all_kinds(change, routes):
            if change.committed_at == 1000:
                return routes.reject("nö")
            routes.channel("c")
            routes.channel("ç", event="e", payload=("json", "1"), keep="retained")
            routes.channel("c", payload=("bytes", b"hi"), keep="live")
            routes.audience("author", "item", payload="nothing")
            routes.inbox("user", "author", "item", payload=("text", "t"), at=5)
            routes.retract("author", "item")
            routes.follow("follower", "followee")
            routes.unfollow("follower", "followee")
            routes.cache("key")
            routes.cache("key", prefix=True)
            routes.topic("topic", key="k", payload="envelope")

        outcome = direct([ONE, ONE], all_kinds)
        self.assertEqual(outcome.changes, [0] + [1] * 11)
        self.assertEqual(list(outcome.kinds), [8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 7])
        self.assertEqual(list(outcome.options), [0, 0, 3 | 2 << 3, 5 | 1 << 3, 2, 4, 0, 0, 0, 0, 1 << 5, 1])
        self.assertEqual(outcome.numbers, [0, 0, 0, 0, 1001, 5, 0, 0, 0, 0, 0, 0])
        texts = [
            outcome.arena[span & 0xFFFF_FFFF :][: span >> 32].decode() for span in outcome.spans
        ]
        expected = [
            *("nö", "", "", ""),
            *("c", "", "", ""),
            *("ç", "e", "1", ""),
            *("c", "", "hi", ""),
            *("author", "item", "", ""),
            *("author", "item", "t", "user"),
            *("author", "item", "", ""),
            *("follower", "followee", "", ""),
            *("follower", "followee", "", ""),
            *("key", "", "", ""),
            *("key", "", "", ""),
            *("topic", "k", "", ""),
        ]
        self.assertEqual(texts, expected)

    def test_a_slip_of_the_pen_is_an_error_and_the_host_is_told(self):
        for slip in (
            lambda change, routes: change.row["c"],
            lambda change, routes: change.virtual("$table"),
            lambda change, routes: routes.channel("c", payload="rows"),
            lambda change, routes: routes.channel("c", keep="for ever"),
        ):
            lines.clear()
            with self.assertRaises((KeyError, ValueError)):
                direct([ONE], slip)
            self.assertEqual([level for level, _ in lines], [Level.ERROR])

    def test_subscriptions_and_refusals_are_as_the_interface_has_them(self):
        class Policy(twohop.Router):
            def __init__(self, settings):
                if settings.get("refuse") is not None:
                    raise twohop.Refusal("no")

            def subscriptions(self):
                return [twohop.Subscription("t", operations=twohop.ROWS, columns=("a",))]

        plugin, _ = twohop.export(Policy)
        self.assertEqual(plugin().configure([]), [Subscription("", "t", bytes(range(5)), ["a"])])
        refusals = {
            "refuse": "no",
            "x": "the setting `x` is not known: this plugin knows `refuse`",
        }
        for key, refusal in refusals.items():
            with self.assertRaises(Err) as raised:
                plugin().configure([Setting(key, "")])
            self.assertEqual(raised.exception.value, refusal)


if __name__ == "__main__":
    unittest.main()
