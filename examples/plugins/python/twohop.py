"""Routers for Twohop in Python: hides the lists of wit/policy.wit behind changes, rows and routes.

In: a subclass of `Router`. Out: the two classes that a component is made of, see `export`.
Always: a value is decoded only when it is asked for; a column that was not subscribed to is an error. What a policy
raises is in the host's log and in the fault. Absent on purpose: the other stages.
"""

import struct
import traceback
from dataclasses import dataclass, field
from enum import Enum

from componentize_py_types import Err
from wit_world.exports.router import Outcome
from wit_world.imports import log, types

OPERATIONS = ("snapshot", "insert", "update", "delete", "truncate", "schema", "message")

ROWS = OPERATIONS[:5]
"""The operations on rows: all but `schema` and `message`."""

PAYLOADS = ("row", "envelope", "nothing", "json", "text", "bytes")
KEEP = ("history", "live", "retained", "forget")


class Hidden(Enum):
    """Values of columns that are not there."""

    UNCHANGED = "unchanged"
    """The source did not send the column, or the table does not have it."""
    MASKED = "masked"
    """A filter hid it."""


class Refusal(Exception):
    """Settings that cannot be: one sentence for the person who deploys."""


@dataclass
class Subscription:
    """Changes that a policy wants to see, as wit/policy.wit has them. No operations: all of them."""

    table: str
    operations: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    source: str = ""


class Router:
    """What a policy derives from."""

    def __init__(self, settings: "Settings") -> None:
        """Called once in an instance. May raise a `Refusal`."""

    def subscriptions(self) -> list[Subscription]:
        raise NotImplementedError

    def direct(self, change: "Change", routes: "Routes") -> None:
        """Says where one change goes: the same change always to the same places."""
        raise NotImplementedError


def export(policy: type[Router]) -> tuple[type, type]:
    """Makes a component's classes of a policy: `Plugin, Router = export(MyPolicy)` in the module that is built."""
    running: _Running | None = None

    class Plugin:
        def configure(self, entries: list[types.Setting]) -> list[types.Subscription]:
            nonlocal running
            with _Reporting():
                settings = Settings({entry.key: entry.value for entry in entries})
                made = policy(settings)
                settings.refuse_unknown()
                running = _Running(made, made.subscriptions())
                return [_lowered(subscription) for subscription in running.subscriptions]

    class Exported:
        def direct(self, batch: types.Changes) -> Outcome:
            with _Reporting():
                return running.direct(batch)

    return Plugin, Exported


class Settings:
    """The settings of a deployment. One that was given but never asked for is refused."""

    def __init__(self, entries: dict[str, str]) -> None:
        self._entries = entries
        self._known: dict[str, None] = {}

    def get(self, key: str) -> str | None:
        """The value of a setting that may be left out."""
        self._known[key] = None
        return self._entries.get(key)

    def required(self, key: str) -> str:
        """The value of a setting that must be there."""
        value = self.get(key)
        if value is not None and value.strip():
            return value
        unknown = self._unknown()
        slip = "" if unknown is None else f", and `{unknown}` is not known"
        raise Refusal(f"the setting `{key}` is required{slip}")

    def list(self, key: str) -> list[str]:
        """The entries of a setting that must be there, written with commas between them; space around them is cut."""
        return _entries(key, self.required(key))

    def optional_list(self, key: str) -> "list[str]":
        """The entries of a setting that may be left out or empty."""
        value = self.get(key) or ""
        return _entries(key, value) if value.strip() else []

    def refuse_unknown(self) -> None:
        unknown = self._unknown()
        if unknown is None:
            return
        known = "`, `".join(self._known)
        knows = f"knows `{known}`" if known else "has no settings"
        raise Refusal(f"the setting `{unknown}` is not known: this plugin {knows}")

    def _unknown(self) -> str | None:
        return next((key for key in self._entries if key not in self._known), None)


def _entries(key: str, value: str) -> list[str]:
    entries = [entry.strip() for entry in value.split(",")]
    if "" in entries:
        raise Refusal(f"the setting `{key}` has an empty entry: write `a, b`")
    return entries


class Change:
    """One change."""

    __slots__ = ("_batch", "_index", "_columns", "subscription", "operation")

    def __init__(self, batch: types.Changes, index: int, subscription: int, columns: tuple[str, ...]) -> None:
        self._batch = batch
        self._index = index
        self._columns = columns
        self.subscription = subscription
        """The place of the subscription that it is here for."""
        self.operation = OPERATIONS[batch.operations[index]]
        """What happened: `snapshot`, `insert`, `update`, `delete`, `truncate`, `schema` or `message`."""

    @property
    def committed_at(self) -> int:
        """When it was committed: microseconds since the Unix epoch."""
        return self._batch.committed_at[self._index]

    @property
    def row(self) -> "Row | None":
        """The row after the change; none for delete, truncate and schema."""
        if self.operation in ("truncate", "schema"):
            return None
        return self._row_at(self._batch.rows[self._index])

    @property
    def old(self) -> "Row | None":
        """The row before the change; none where the source sent none."""
        return self._row_at(self._batch.old_rows[self._index])

    @property
    def key(self) -> str | None:
        """The row's key as text, `$key`; none for truncate and schema, and for a table that has none."""
        return self.virtual("$key")

    def virtual(self, column: str) -> "Value":
        """A virtual column: one that says something about the change itself."""
        first = self._batch.rows[self._index]
        if first == NONE:
            first = self._batch.old_rows[self._index]
        return Row(self._batch, first, self._columns)[column]

    def _row_at(self, first: int) -> "Row | None":
        return None if first == NONE else Row(self._batch, first, self._columns)


Value = Hidden | bool | int | float | str | bytes | None


class Row:
    """A row before or after a change: `row["status"]`."""

    __slots__ = ("_batch", "_first", "_columns")

    def __init__(self, batch: types.Changes, first: int, columns: tuple[str, ...]) -> None:
        self._batch = batch
        self._first = first
        self._columns = columns

    def __getitem__(self, column: str) -> Value:
        if column not in self._columns:
            raise KeyError(f"the subscription does not ask for the column `{column}`")
        return _value(self._batch, self._first + self._columns.index(column))


class Routes:
    """Where the changes of a batch go."""

    def __init__(self) -> None:
        self._outcome = Outcome([], bytearray(), bytearray(), [], [], [], [], bytearray())
        self._change = 0
        self._committed_at = 0

    def channel(self, channel: str, *, event: str = "", payload="row", keep: str = "history") -> None:
        """A message on a channel.

        - `event`: what it is about, the event of an SSE frame;
        - `payload`: `"row"` (the row as JSON, which the host encodes once for all), `"envelope"` (Debezium's),
          `"nothing"`, or a pair: `("json", text)`, `("text", text)`, `("bytes", bytes)`;
        - `keep`: `"history"` for those who resume, `"live"` not at all, `"retained"` also as the channel's value for
          those who come new, `"forget"` also forgetting that value.
        """
        kind, body = _payload(payload)
        self._push(0, kind | KEEP.index(keep) << 3, (channel, event, body))

    def audience(self, author: str, item: str, *, payload="row", at: int | None = None) -> None:
        """A post to the author's followers. Again with the same author and item it is an edit."""
        kind, body = _payload(payload)
        self._push(1, kind, (author, item, body), self._committed_at if at is None else at)

    def inbox(self, user: str, author: str, item: str, *, payload="row", at: int | None = None) -> None:
        """A post into the timeline of one user, whoever that user follows."""
        kind, body = _payload(payload)
        self._push(2, kind, (author, item, body, user), self._committed_at if at is None else at)

    def retract(self, author: str, item: str) -> None:
        """Takes a post back from wherever it went."""
        self._push(3, 0, (author, item))

    def follow(self, follower: str, followee: str) -> None:
        self._push(4, 0, (follower, followee))

    def unfollow(self, follower: str, followee: str) -> None:
        self._push(5, 0, (follower, followee))

    def cache(self, key: str, *, prefix: bool = False) -> None:
        """Deletes a key of the cache, or all keys that begin so."""
        self._push(6, prefix << 5, (key,))

    def topic(self, topic: str, *, key: str = "", payload="row") -> None:
        """A message for other services."""
        kind, body = _payload(payload)
        self._push(7, kind, (topic, key, body))

    def reject(self, reason: str) -> None:
        """Sets this change aside as a dead letter. Its other routes are not followed."""
        self._push(8, 0, (reason,))

    def _push(self, kind: int, options: int, texts: tuple[str | bytes, ...], number: int = 0) -> None:
        outcome = self._outcome
        outcome.changes.append(self._change)
        outcome.kinds.append(kind)
        outcome.options.append(options)
        outcome.numbers.append(number)
        arena = outcome.arena
        for text in texts:
            start = len(arena)
            arena += text.encode() if isinstance(text, str) else text
            length = len(arena) - start
            outcome.spans.append(start | length << 32 if length else 0)
        outcome.spans.extend((0,) * (4 - len(texts)))


NONE = 0xFFFF_FFFF


class _Running:
    """A policy and what it subscribed to."""

    def __init__(self, policy: Router, subscriptions: list[Subscription]) -> None:
        self.policy = policy
        self.subscriptions = subscriptions

    def direct(self, batch: types.Changes) -> Outcome:
        routes = Routes()
        columns = [subscription.columns for subscription in self.subscriptions]
        direct = self.policy.direct
        for index, subscription in enumerate(batch.subscriptions):
            routes._change = index
            routes._committed_at = batch.committed_at[index]
            direct(Change(batch, index, subscription, columns[subscription]), routes)
        outcome = routes._outcome
        outcome.kinds = bytes(outcome.kinds)
        outcome.options = bytes(outcome.options)
        outcome.arena = bytes(outcome.arena)
        return outcome


class _Reporting:
    """A `Refusal` is an answer; any other error is told to the host, which would else see only that we stopped."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Refusal):
            raise Err(str(error)) from None
        if error is not None:
            last = traceback.extract_tb(trace)[-1]
            log.write(log.Level.ERROR, f"{kind.__name__}: {error} ({last.filename}:{last.lineno})")


def _lowered(subscription: Subscription) -> types.Subscription:
    operations = bytes(OPERATIONS.index(operation) for operation in subscription.operations)
    return types.Subscription(subscription.source, subscription.table, operations, list(subscription.columns))


def _payload(payload: str | tuple[str, str | bytes]) -> tuple[int, str | bytes]:
    name, body = (payload, "") if isinstance(payload, str) else payload
    return PAYLOADS.index(name), body


def _value(batch: types.Changes, cell: int) -> Value:
    value = batch.values[cell]
    match batch.kinds[cell]:
        case 0:
            return None
        case 1:
            return Hidden.UNCHANGED
        case 2:
            return Hidden.MASKED
        case 3:
            return value == 1
        case 4:
            return value - (1 << 64) if value >> 63 else value
        case 5:
            return struct.unpack("<d", value.to_bytes(8, "little"))[0]
    start = value & 0xFFFF_FFFF
    taken = batch.arena[start : start + (value >> 32)]
    return taken.decode() if batch.kinds[cell] == 6 else taken
