"""All that can be fuzzed, by name, each with the inputs that a run begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from tests.fuzz import gateway_targets, seeds, upstream_targets, value_targets


@attrs.frozen
class Target:
    """One promise about any bytes: `check` returns, or raises for what breaks it."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]


TARGETS: Final[Mapping[str, Target]] = {
    "http1": Target(gateway_targets.connection, seeds.requests),
    "chunked": Target(gateway_targets.chunked, seeds.chunked_bodies),
    "multipart": Target(gateway_targets.multipart, seeds.forms),
    "head": Target(upstream_targets.head, seeds.answer_heads),
    "sse": Target(upstream_targets.sse, seeds.events),
    "ndjson": Target(upstream_targets.ndjson, seeds.lines),
    "eventstream": Target(upstream_targets.eventstream, seeds.messages),
    "answers": Target(upstream_targets.answers, seeds.answers),
    "bodies": Target(value_targets.bodies, seeds.bodies),
    "toml": Target(value_targets.toml, seeds.configs),
}
