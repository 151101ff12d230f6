# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy that makes a server seem far away, and counts round trips.

What it can not delay is the handshake of TCP: the client is connected to the proxy at once. So it delays all that follows
by the round trip that a connection over the same distance would have taken: the end of a dialogue comes when it would come.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import typing as t

HOST = "127.0.0.1"
DELAY = 0.025
"""Seconds in each direction."""


class Distance:
    """One connection, as two clocks that count round trips instead of seconds (after Lamport).

    Whatever the client sends begins a round trip after all that it has got so far; whatever the server sends belongs to
    the round trip of the latest that it has got. So things that do not wait for each other are in one round trip,
    however many packets they are. SYN and SYN-ACK are the first one; the second begins with the ACK. What comes when
    the client has hung up does not count: it did not wait for it.
    """

    def __init__(self) -> None:
        self.client = 1
        self.server = 2
        self._hung_up = False

    def sent_by_client(self, data: bytes) -> int:
        self._hung_up = self._hung_up or not data
        return self.client + 1

    def sent_by_server(self, _data: bytes) -> int:
        return self.server

    def reached_client(self, round_trip: int) -> None:
        if not self._hung_up:
            self.client = max(self.client, round_trip)

    def reached_server(self, round_trip: int) -> None:
        self.server = max(self.server, round_trip)


class Far:
    """While the ``with`` block runs, :attr:`port` of loopback is *port* of *host* at a distance."""

    def __init__(self, port: int, host: str = HOST, delay: float = DELAY) -> None:
        self._target = (host, port)
        self._delay = delay
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0
        self.connections: t.List[Distance] = []

    @property
    def round_trips(self) -> int:
        """Of the one connection there was: up to the last that the client got."""
        (connection,) = self.connections
        return connection.client

    def __enter__(self) -> Far:
        self._thread.start()
        self._listener = self._run(asyncio.start_server(self._serve, HOST, 0))
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_exc: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _stop(self) -> None:
        """End what is still under way; what a client has got does not change any more."""
        self._listener.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        distance = Distance()
        self.connections.append(distance)
        with contextlib.suppress(asyncio.CancelledError):
            await self._connect(distance, client_reader, client_writer)

    async def _connect(self, distance: Distance, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        connected = self._loop.time() + 2 * self._delay
        to_server: asyncio.Queue[t.Tuple[float, int, bytes]] = asyncio.Queue()
        to_client: asyncio.Queue[t.Tuple[float, int, bytes]] = asyncio.Queue()
        reading = asyncio.ensure_future(self._take(client_reader, to_server, distance.sent_by_client, connected))
        try:
            await asyncio.sleep(3 * self._delay)
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            try:
                await asyncio.gather(
                    reading,
                    self._give(to_server, server_writer, distance.reached_server),
                    self._take(server_reader, to_client, distance.sent_by_server, 0.0),
                    self._give(to_client, client_writer, distance.reached_client),
                )
            finally:
                server_writer.close()
        finally:
            reading.cancel()
            client_writer.close()

    async def _take(
        self, reader: asyncio.StreamReader, queue: asyncio.Queue[t.Tuple[float, int, bytes]], sent: t.Callable[[bytes], int], not_before: float
    ) -> None:
        data = b"-"
        while data:
            data = b""
            with contextlib.suppress(ConnectionError):
                data = await reader.read(65536)
            queue.put_nowait((max(self._loop.time(), not_before) + self._delay, sent(data), data))

    async def _give(
        self, queue: asyncio.Queue[t.Tuple[float, int, bytes]], writer: asyncio.StreamWriter, reached: t.Callable[[int], None]
    ) -> None:
        while True:
            due, round_trip, data = await queue.get()
            await asyncio.sleep(due - self._loop.time())
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            reached(round_trip)
            writer.write(data)
