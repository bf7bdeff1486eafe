"""The exporter: a reader of the event hub that sends what it reads to a collector.

    hub ──▶ follow: spans, counts ──▶ [ spans that wait ] ──▶ send: a thread
                                        at most SPANS_MAX

Requests only publish their events, as they do anyway. What is slow is in a thread, one
at a time, and what waits for it is bounded: a collector that is away, or slow, costs
spans, which are counted, and nothing else. The SDK's own batching is not used, as it
cannot be cancelled, nor seen in the tree.

A crash loses what one event would have told: where the reader is in the hub, and the
spans that wait, outlive it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, final
from uuid import uuid4

import attrs
import structlog
import trio

from duckservice.config import Config, TelemetryConfig
from duckservice.event_stream.hub import READ_MAX, Entry, EventHub, Gap, Item, Reader
from duckservice.events import AttemptEnded
from duckservice.otel.places import Places
from supervisors import Backoff, ChildSpec, child

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from duckservice.otel.pipe import Pipe

ID: Final = "telemetry"
WORDS: Final = frozenset(
    {"request.start", "request.stop", "request.exception", "attempt"}
)
SPANS_MAX: Final = 8192
"""So many spans may wait to be sent."""
BATCH_MAX: Final = 256
"""So many are sent at once; as soon as there are as many, they are. To encode more
would hold the interpreter for longer than a request should wait."""
GATHER: Final = 0.1
"""Seconds between two looks at the hub, while there is news."""
AT_ONCE: Final = 16
"""Events that are looked at before others get their turn: about a millisecond."""
FLUSH_WITHIN: Final = 2.0
"""Seconds that the last spans have, once the service ends."""
FIRST_RESTART: Final = 0.5
"""Seconds until the first restart after a crash."""

log = structlog.get_logger("duckservice")


@attrs.frozen(kw_only=True)
class ExporterStatistics:
    """What has become of all spans."""

    waiting: int
    sent: int
    lost: int
    """Not taken by the collector, or never sent as too many waited."""
    events_missed: int


@final
@attrs.define(eq=False)
class _Signal:
    """Traces or metrics: whether they arrive. It says so once, and not per batch."""

    name: str
    endpoint: str
    _failing: bool = False
    _lost: int = 0

    def note(self, reason: str, lost: int) -> None:
        """Take note of how a batch has fared: *reason*, or nothing if it was taken."""
        if reason:
            self._lost += lost
            if not self._failing:
                self._failing = True
                log.warning(
                    "telemetry.export_failed",
                    signal=self.name,
                    endpoint=self.endpoint,
                    reason=reason,
                    message="it is tried again; this is told once",
                )
        elif self._failing:
            log.info("telemetry.recovered", signal=self.name, spans_lost=self._lost)
            self._failing, self._lost = False, 0


@final
@attrs.define(eq=False)
class Exporter:
    """Sends traces and metrics of what happens, from its making on."""

    _config: TelemetryConfig
    _places: Places
    _reader: Reader
    _quotes: bool
    _signals: dict[str, _Signal] = attrs.field(factory=dict[str, _Signal])
    _unread: deque[Item] = attrs.field(factory=deque[Item])
    """Read from the hub, and not looked at yet."""
    _waiting: deque[ReadableSpan] = attrs.field(init=False)
    _enough: trio.Event = attrs.field(factory=trio.Event)
    _thread: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))
    _instance: str = attrs.field(factory=lambda: str(uuid4()))
    """Who we are among all of our name; a restart does not make us another."""
    _sent: int = 0
    _refused: int = 0
    _dropped: int = 0
    _missed: int = 0
    _under_way: int = 0
    """Spans that a thread is sending."""

    def __attrs_post_init__(self) -> None:
        self._waiting = deque()

    @classmethod
    def of(cls, config: Callable[[], Config], hub: EventHub) -> Exporter:
        """Follow *hub* from now on; *config* tells the config of the moment."""
        its = config().telemetry
        return cls(
            its,
            Places(config),
            hub.follow(words=WORDS),
            hub.quotes,
            {name: _Signal(name, its.otlp_endpoint) for name in ("traces", "metrics")},
        )

    def statistics(self) -> ExporterStatistics:
        """Return what has become of all spans."""
        return ExporterStatistics(
            waiting=len(self._waiting),
            sent=self._sent,
            lost=self._refused + self._dropped,
            events_missed=self._missed,
        )

    def counts(self) -> dict[str, int]:
        """Return what has become of all spans that do not wait, for the metrics."""
        its = self.statistics()
        return {"sent": its.sent, "lost": its.lost}

    async def run(self) -> None:
        """Send what happens, until cancelled; then what is left, within a limit."""
        pipe = await trio.to_thread.run_sync(
            _open_pipe, self._config, self._places, self._quotes, self._instance
        )
        try:
            with self._reader:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._follow, pipe)
                    nursery.start_soon(self._send, pipe)
        finally:
            try:
                with trio.move_on_after(FLUSH_WITHIN, shield=True):
                    while self._read():
                        self._look(pipe, len(self._unread))
                    await self._send_all(pipe)
            finally:
                self._tell_unsent()
                pipe.close()

    def _tell_unsent(self) -> None:
        # They count as lost only then: started again, we go on with those that wait.
        unsent = len(self._waiting) + self._under_way
        if unsent:
            log.warning(
                "telemetry.unsent",
                spans=unsent,
                message=f"not sent within {FLUSH_WITHIN:g} s: lost, if this is the end",
            )

    # From events to spans.

    async def _follow(self, pipe: Pipe) -> None:
        while True:
            if not self._unread and not self._read():
                self._unread.extend(await self._reader.read())
            more = len(self._unread) >= READ_MAX
            while self._unread:
                self._look(pipe, AT_ONCE)
                await trio.lowlevel.checkpoint()
            if not more:
                # To be woken by each event would cost more than all the rest.
                await trio.sleep(GATHER)

    def _read(self) -> bool:
        """Read what there is; return whether there is anything to look at."""
        self._unread.extend(self._reader.read_nowait())
        return bool(self._unread)

    def _look(self, pipe: Pipe, count: int) -> None:
        for item in self._next(count):
            match item:
                case Entry():
                    self._take(pipe, item)
                case Gap(missed=missed):
                    self._miss(missed or 0)

    def _next(self, count: int) -> Iterator[Item]:
        # Each is taken out before it is looked at: one that crashes us does so once.
        for _ in range(min(count, len(self._unread))):
            yield self._unread.popleft()

    def _take(self, pipe: Pipe, entry: Entry) -> None:
        if self._config.metrics and isinstance(entry.event, AttemptEnded):
            pipe.histograms.take(entry.event)
        if not self._config.traces:
            return
        span = pipe.spans.take(entry)
        if span is None:
            return
        if len(self._waiting) >= SPANS_MAX:
            self._dropped += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= BATCH_MAX:
            self._enough.set()

    def _miss(self, count: int) -> None:
        if not self._missed:
            log.warning("telemetry.events_missed", missed=count)
        self._missed += count

    # From spans to the collector.

    async def _send(self, pipe: Pipe) -> None:
        """Send spans when there are many, and everything once in a while; for ever."""
        due = trio.current_time() + self._config.export_interval
        while True:
            with trio.move_on_at(due):
                await self._enough.wait()
            if trio.current_time() < due:
                await self._send_spans(pipe, BATCH_MAX)
            else:
                await self._send_all(pipe)
                due = trio.current_time() + self._config.export_interval

    async def _send_all(self, pipe: Pipe) -> None:
        await self._send_spans(pipe, 1)
        if self._config.metrics:
            await self._in_thread("metrics", lambda: (pipe.send_metrics(), 0))

    async def _send_spans(self, pipe: Pipe, least: int) -> None:
        """Send batches of spans while at least so many wait."""
        while len(self._waiting) >= least:
            await self._in_thread("traces", partial(self._send_batch, pipe))
        if len(self._waiting) < BATCH_MAX:
            self._enough = trio.Event()

    def _send_batch(self, pipe: Pipe) -> tuple[str, int]:
        """Send the spans that wait longest; return what became of how many.

        It takes and counts them in the thread: whoever is cancelled before that has
        begun has taken none, and whoever is cancelled later need not wait for the end.
        """
        size = min(BATCH_MAX, len(self._waiting))
        batch = [self._waiting.popleft() for _ in range(size)]
        self._under_way, taken = size, False
        try:
            reason = pipe.send_spans(batch)
            taken = not reason
        finally:
            if taken:
                self._sent += size
            else:
                self._refused += size
            self._under_way = 0
        return reason, size

    async def _in_thread(
        self, signal: str, send: Callable[[], tuple[str, int]]
    ) -> None:
        """Send something in a thread; cancelled, the thread goes on to its own end."""
        reason, size = await trio.to_thread.run_sync(
            send, abandon_on_cancel=True, limiter=self._thread
        )
        self._signals[signal].note(reason, size)


def _open_pipe(
    config: TelemetryConfig, places: Places, quotes: bool, instance: str
) -> Pipe:
    from duckservice.otel.pipe import Pipe  # noqa: PLC0415 - 0.3 s, in a thread, and only where telemetry is on

    return Pipe.of(config, places, quotes=quotes, instance=instance)


def telemetry_child(exporter: Exporter) -> ChildSpec:
    """Return *exporter* as a part of the tree.

    Its restarts wait, longer each time: whatever is wrong with it, the tree is not to
    give up because of it.
    """
    spec = child(ID, exporter.run)
    return attrs.evolve(spec, backoff=Backoff(first=FIRST_RESTART, limit=60.0))
