"""`row-router` in Python: each change of a configured table goes to the channels `TABLE` and `TABLE:KEY`.

The same policy as plugins/row-router, but for the messages of virtual tables, which it does not take. Its settings and
messages are in docs/plugins/row-router.md.
"""

import twohop
from twohop import ROWS, Change, Refusal, Routes, Settings, Subscription


class RowRouter(twohop.Router):
    def __init__(self, settings: Settings) -> None:
        # A change comes for the first subscription that it matches: `audit.orders` must stand before `orders`.
        self._tables = sorted(settings.list("tables"), key=lambda table: "." not in table)
        self._channels = [_channel(table) for table in self._tables]
        for index, channel in enumerate(self._channels):
            first = self._channels.index(channel)
            if first < index:
                raise Refusal(
                    f"the setting `tables` names `{self._tables[first]}` and `{self._tables[index]}`, which would "
                    f"share the channel `{channel}`: remove one of them"
                )
        retained = settings.optional_list("retain")
        for table in retained:
            if table not in self._tables:
                raise Refusal(
                    f"the setting `retain` names `{table}`, which `tables` does not: write it the same in both"
                )
        self._retained = [table in retained for table in self._tables]

    def subscriptions(self) -> list[Subscription]:
        return [Subscription(table, operations=ROWS, columns=("$key",)) for table in self._tables]

    def direct(self, change: Change, routes: Routes) -> None:
        channel = self._channels[change.subscription]
        routes.channel(channel, event=change.operation)
        key = change.key
        if key is None:
            return
        keep = "history"
        if self._retained[change.subscription]:
            keep = "forget" if change.operation == "delete" else "retained"
        routes.channel(f"{channel}:{key}", event=change.operation, keep=keep)


def _channel(table: str) -> str:
    """The channel of a table: its name, after its schema where the setting gives one other than `public`."""
    if table == "*" or table.startswith("$"):
        why = "name each table, as `table` or `schema.table`"
    elif ":" in table:
        why = "a name with `:` cannot be told from the channel of a row"
    elif table.startswith(".") or table.find(".") == len(table) - 1:
        why = "write `table` or `schema.table`"
    else:
        schema, _, name = table.partition(".")
        return name if schema == "public" and name and "." not in name else table
    raise Refusal(f"the setting `tables` names `{table}`: {why}")


Plugin, Router = twohop.export(RowRouter)
