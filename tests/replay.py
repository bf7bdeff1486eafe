"""Replay recorded provider traffic through the real adapters.

    python -m tests.replay DIR [--provider P] [--chunk N] [--requests]

Every ``*.jsonl.gz`` of DIR is read; each record's answer is served by a real upstream
on loopback (its body in pieces of N bytes), the adapter of its provider is driven
against it, and what it understood is compared with what the provider's own SDK did.
A request in OpenAI's or Anthropic's format also goes through our gateway's parser, and
what the adapter then sends must mean the same as what was recorded.

Prints a line for each difference, a line for each provider, and at the end
``N passed, M failed, K skipped``; ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs
import structlog
import trio

from duckservice.completion import EmbeddingRequest, ImageRequest
from duckservice.errors import ContentFiltered, DuckError, InvalidRequest
from duckservice.providers.base import Provider
from duckservice.providers.catalog import make_provider
from tests.providers import understanding
from tests.recordings import Record, read
from tests.replaying import bodies, deliberate, judging
from tests.replaying.asking import Asked, asked, plainly
from tests.replaying.setting import KEY, Setting, setting_of
from tests.replaying.upstream import CuttingTransport, Stage, open_stage

PATIENCE = 60.0
"""Seconds for one record, beyond which something hangs."""


@attrs.frozen(kw_only=True)
class Verdict:
    """What came of one record."""

    record: Record
    differences: tuple[str, ...] = ()
    skipped: str = ""
    request: str = ""
    """Of the request: "same", "refused" with the reason, or "" if not compared."""


@attrs.define
class Replayer:
    """Drives the adapters, each made once."""

    stage: Stage
    chunk: int = 0
    """Bytes in a piece of a body; 0: the whole."""
    _providers: dict[tuple[str, Setting], Provider] = attrs.field(factory=dict)

    async def replay(self, record: Record) -> Verdict:
        """Return what comes of *record*."""
        setting = setting_of(record)
        if isinstance(setting, str):
            return Verdict(record=record, skipped=setting)
        if (why := deliberate.reason(record)) is not None:
            return Verdict(record=record, skipped=f"differs on purpose: {why}")
        provider = self._provider(record.provider, setting)
        self.stage.set(record, self.chunk)
        ask = asked(record)
        try:
            provider.check(ask.request)
        except InvalidRequest as error:  # then its answer is asked for plainly
            ask = attrs.evolve(plainly(record), refused=str(error))
        found: list[str] = []
        with trio.move_on_after(PATIENCE) as patience:
            found += await _answer(record, provider, ask)
        if patience.cancelled_caught:
            found.append("it hangs")
        said = ""
        if ask.refused:
            said = f"refused: {ask.refused}"
        elif ask.recorded and self.stage.requests:
            sent = json.loads(self.stage.requests[0].body)
            different = bodies.differences(sent, record.request["body"])
            found += [f"the request: {text}" for text in different]
            said = "" if different else "same"
        return Verdict(record=record, differences=tuple(found), request=said)

    def _provider(self, name: str, setting: Setting) -> Provider:
        key = (name, setting)
        if key not in self._providers:
            transport = CuttingTransport(self.chunk) if self.chunk else None
            config = setting.config(name, self.stage.origin)
            self._providers[key] = make_provider(
                config, transport=transport, wall_clock=lambda: 1_700_000_000.0
            )
        return self._providers[key]

    async def aclose(self) -> None:
        """Close the adapters."""
        for provider in self._providers.values():
            await provider.aclose()


async def _answer(record: Record, provider: Provider, ask: Asked) -> list[str]:
    """Return how the understanding of the answer differs."""
    assert record.expected is not None
    try:
        differences = await _understand(record, provider, ask)
    except DuckError as error:
        if KEY in str(error):
            return ["the key is in the error"]
        if record.expected["ok"]:
            if "prompt_feedback" in record.expected and not record.expected.get(
                "choices"
            ):
                is_right = isinstance(error, ContentFiltered)
                return [] if is_right else [f"a blocked prompt is {error!r}"]
            return [f"{type(error).__name__}: {error}"]
        return list(judging.of_error(record, error))
    if not record.expected["ok"]:
        return [f"taken for an answer, and is {record.expected['error']['exception']}"]
    return differences


async def _understand(record: Record, provider: Provider, ask: Asked) -> list[str]:
    """Ask for what was recorded; return how the answer differs."""
    match record.base_operation:
        case "embeddings":
            return await _embeddings(record, provider)
        case "images":
            pictures = await provider.generate_images(
                ImageRequest(model=ask.request.model, prompt="a cat")
            )
            return list(judging.of_images(record, pictures))
        case "models":
            return list(judging.of_models(record, await provider.list_models()))
        case "count_tokens":
            counted = await provider.count_tokens(ask.request)
            return list(judging.of_count(record, counted))
        case _:
            return await _chat(record, provider, ask)


async def _chat(record: Record, provider: Provider, ask: Asked) -> list[str]:
    body = record.request.get("body")
    # An error that answers a request for a stream comes as no stream.
    was_asked = isinstance(body, dict) and body.get("stream") is True
    if record.streaming or (was_asked and record.response["status"] >= 400):
        chunks = []
        async with provider.stream(ask.request) as batches:
            async for batch in batches:
                chunks += batch
        understood = understanding.of_chunks(chunks)
    else:
        completion = await provider.complete(ask.request)
        understood = understanding.of_completion(completion)
    return list(judging.of_chat(record, understood))


async def _embeddings(record: Record, provider: Provider) -> list[str]:
    assert record.expected is not None
    count = record.expected.get("embeddings", {"count": 1})["count"]
    got = await provider.embed(
        EmbeddingRequest(model="model", input=("hello",) * count)
    )
    return list(judging.of_embeddings(record, got))


async def replay(
    records: Iterable[Record], take: Callable[[Verdict], None], chunk: int = 0
) -> None:
    """Call *take* with what comes of each of *records*."""
    async with open_stage() as stage:
        replayer = Replayer(stage, chunk)
        try:
            for record in records:
                take(await replayer.replay(record))
        finally:
            with trio.CancelScope(shield=True):
                await replayer.aclose()


def records_in(folder: Path, provider: str | None = None) -> Iterator[Record]:
    """Yield the records of *folder*, or only those of *provider*."""
    for file in sorted(folder.glob("*.jsonl.gz")):
        for record in read(file):
            if provider is None or record.provider == provider:
                yield record


@attrs.define
class Tally:
    """Counts verdicts."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    same: int = 0
    refused: int = 0
    reasons: Counter[str] = attrs.field(factory=Counter)

    def add(self, verdict: Verdict) -> None:
        if verdict.skipped:
            self.skipped += 1
            self.reasons[verdict.skipped] += 1
        elif verdict.differences:
            self.failed += 1
        else:
            self.passed += 1
        self.same += verdict.request == "same"
        self.refused += verdict.request.startswith("refused")

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


async def _main(arguments: argparse.Namespace) -> int:
    whole, each = Tally(), dict[str, Tally]()
    records = list(records_in(arguments.folder, arguments.provider))
    if not records:
        print(f"no records in {arguments.folder}", file=sys.stderr)
        return 2

    def take(verdict: Verdict) -> None:
        record = verdict.record
        for difference in verdict.differences:
            print(f"{record.provider} {record.api} {record.id}: {difference}")
        if arguments.requests and verdict.request.startswith("refused"):
            print(f"{record.provider} {record.api} {record.id}: {verdict.request}")
        whole.add(verdict)
        each.setdefault(record.provider, Tally()).add(verdict)

    await replay(records, take, arguments.chunk)
    for reason, count in whole.reasons.most_common():
        print(f"skipped {count}: {reason}")
    for name, tally in each.items():
        print(
            f"{name}: {tally}; requests: {tally.same} the same, {tally.refused} refused"
        )
    print(whole)
    return 1 if whole.failed else 0


def main() -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--provider", help="only records of this provider")
    parser.add_argument(
        "--chunk",
        type=int,
        default=0,
        metavar="N",
        help="serve bodies in pieces of N bytes",
    )
    parser.add_argument(
        "--requests",
        action="store_true",
        help="say which requests are refused, and why",
    )
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)
    return trio.run(_main, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
