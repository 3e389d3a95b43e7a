"""Looks at keys while their file is loaded, part by part, where it is large.

Loading leaves a core idle now and then, and a look at all keys afterwards would take a
tenth of a run. Parts follow each other as in the file; what is seen of one, and what
follows from it, is said in SQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from psycopg import AsyncConnection

from etl.blocks import Block
from etl.streams import Stream

#: Bytes of a file from which its keys are looked at so: those of others are few.
LEAST_BYTES = 8 << 20

#: Blocks that are looked at together: those loaded side by side share pages, so that
#: one alone would be read with half of another. From nine on Postgres hashes the
#: transactions that it looks for, which takes 14 ns a row instead of 31.
MOST_BLOCKS = 12


@dataclass(frozen=True)
class _Loaded:
    """A block in its table: its bytes in the file, the transaction that loaded so many
    rows of it, and the first page on which they stand as a rule.
    """

    offset: int
    length: int
    xid: int
    rows: int
    first_page: int


@dataclass
class _Watched:
    """A stream whose keys are looked at; ``loaded`` waits, by the block's offset."""

    stream: Stream
    columns: Sequence[str]
    offset: int
    loaded: dict[int, _Loaded] = field(default_factory=dict)

    def next_part(self) -> list[_Loaded]:
        """The next blocks of the file that are loaded: many, or half as much as is to
        come, so that little is left to look at in the end.
        """
        part: list[_Loaded] = []
        offset = self.offset
        while len(part) < MOST_BLOCKS and (found := self.loaded.get(offset)):
            part.append(found)
            offset += found.length
        if len(part) < MOST_BLOCKS and offset - self.offset < self.stream.unloaded / 2:
            return []
        self.offset = offset
        for one in part:
            del self.loaded[one.offset]
        return part


class KeyWatch:
    """Looks at the keys of what is loaded, in turn, on a connection of its own."""

    def __init__(self, connection: AsyncConnection, streams: Sequence[Stream]) -> None:
        self._connection = connection
        self._streams = [each for each in streams if each.opened.size >= LEAST_BYTES]
        self._watched: dict[str, _Watched] = {}
        self._news = asyncio.Event()
        self._over = False

    def watches(self, stream: Stream) -> bool:
        """Whether keys of this stream are looked at."""
        return stream.source.name in self._watched

    def tell(
        self, stream: Stream, block: Block, xid: int, rows: int, first_page: int
    ) -> None:
        """So many rows of a block of a watched stream were loaded by a transaction."""
        loaded = _Loaded(block.offset, block.length, xid, rows, first_page)
        self._watched[stream.source.name].loaded[block.offset] = loaded
        self._news.set()

    def end(self) -> None:
        """No more will be loaded."""
        self._over = True
        self._news.set()

    async def begin(self) -> None:
        """Find out which keys there are to look at."""
        if not self._streams:
            return
        names = [stream.source.name for stream in self._streams]
        rows = await self._connection.execute(
            "select source, array_agg(column_name::text) from etl.watched_keys"
            " where source = any(%s) group by source",
            [names],
        )
        columns: dict[str, list[str]] = dict(await rows.fetchall())
        self._watched = {
            each.source.name: _Watched(
                each, columns[each.source.name], each.reader.offset
            )
            for each in self._streams
            if each.source.name in columns
        }

    async def watch(self) -> None:
        """Look at each part once it is loaded, until the end of all."""
        over = not self._watched
        while not over:
            await self._news.wait()
            self._news.clear()
            over = self._over
            for watched in self._watched.values():
                while part := watched.next_part():
                    await self._look(watched, part)
        for watched in self._watched.values():
            file = watched.stream.file
            await self._connection.execute(
                "select etl.keep_key_parts(%s, %s)",
                [watched.stream.source.name, file.records - file.rejected],
            )

    async def _look(self, watched: _Watched, part: Sequence[_Loaded]) -> None:
        for column in watched.columns:
            await self._connection.execute(
                "select etl.look_at_keys(%s, %s, %s, %s, %s::text[]::xid[], %s, %s)",
                [
                    watched.stream.source.name,
                    column,
                    watched.stream.table.as_string(),
                    part[0].offset,
                    [str(one.xid) for one in part],
                    min(one.first_page for one in part),
                    sum(one.rows for one in part),
                ],
            )
