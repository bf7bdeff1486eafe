"""The replies that are kept: in memory, and in the file behind it, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar, final

import attrs
import trio

from duckservice.cache.file import CacheFile
from duckservice.cache.key import digest, key_of
from duckservice.cache.recording import size_of
from duckservice.cache.reply import Kept, Reply, is_worth_keeping
from duckservice.calls.call import CallReport
from duckservice.completion import AnyRequest
from duckservice.config import Config, ProviderConfig, Secret
from duckservice.core.response_cache import CacheLimits, ResponseCache
from duckservice.tree import Seams

T = TypeVar("T")

FILE: Final = "cache.db"
ANSWERS_ANYWAY: Final = frozenset(
    {
        *("api_key", "api_keys", "auth", "max_concurrency", "timeout"),
        *("rate_limit", "limits", "key_limits", "breaker", "ca_file", "proxy"),
    }
)
"""What of a provider's config decides when it is asked, or with which key; what is
added to a config is taken to change answers, until it is named here."""
KEY_BYTES: Final = 200
"""About what the key of a reply takes, and its place in the cache."""


@final
@attrs.define(eq=False)
class ReplyCache:
    """Keeps whole answers, and counts of what use they were."""

    _memory: ResponseCache[Kept]
    max_bytes: int
    file: CacheFile | None = None
    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    """Requests that waited for the call of another one."""
    _origin: bytes = b""
    """Who serves which model since a reload; empty: as it was at the start."""
    first_origin: bytes = b""
    """Who did at the start: the file's keys are without it."""

    @classmethod
    def of(cls, config: Config) -> ReplyCache | None:
        """Return an empty cache as *config* wants it; None if it wants none."""
        its = config.cache
        if not its.enabled:
            return None
        cache = ResponseCache[Kept](_limits(config))
        return cls(cache, its.max_bytes, first_origin=_served_by(config))

    def renew(self, config: Config) -> None:
        """Find no reply from now on that providers of before another config gave."""
        origin = _served_by(config)
        self._origin = b"" if origin == self.first_origin else origin

    def key_of(self, request: AnyRequest) -> bytes | None:
        """Return what the reply to *request* is kept under; None: it cannot be."""
        key = key_of(request)
        if key is None or not self._origin:
            return key
        return sha256(self._origin + key).digest()

    def open_file(self, config: Config, directory: Path, seams: Seams) -> CacheFile:
        """Have a file behind the memory; somebody must run it."""
        path = directory / FILE
        self.file = CacheFile(path, _limits(config), seams, _served_by(config))
        return self.file

    async def find(
        self, key: bytes, read: Callable[[Reply], T | None]
    ) -> tuple[T, Kept] | None:
        """Return what is kept, if *read* can give it in the form that is asked for.

        Unless it has to look into the file, it has no checkpoint. After it has, too,
        none is between the look into the memory and the return.
        """
        kept = self._memory.get(key, trio.current_time())
        if self.file is not None:
            if kept is None:
                kept = await self._find_in_file(self.file, key)
            else:
                self.file.touch(key)
        value = None if kept is None else read(kept.reply)
        return None if kept is None or value is None else (value, kept)

    def keep(self, key: bytes, reply: Reply | None, report: CallReport) -> None:
        """Keep a whole answer, in the place of an older one; None: it was too large."""
        if reply is not None and is_worth_keeping(reply):
            kept = Kept(reply=reply, provider=report.provider, model=report.model)
            if self._memory.put(key, kept, _size(kept), trio.current_time()):
                if self.file is not None:
                    self.file.put(key, kept)
                return
        self._memory.remove(key)
        if self.file is not None:
            self.file.remove(key)

    def status(self) -> dict[str, int]:
        """Return what is kept, and of what use it was."""
        size = self._memory.size(trio.current_time())
        return {
            "entries": size.entries,
            "bytes": size.bytes,
            "hits": self.hits,
            "misses": self.misses,
            "coalesced": self.coalesced,
        }

    async def _find_in_file(self, file: CacheFile, key: bytes) -> Kept | None:
        found = await file.get(key)
        now = trio.current_time()
        # What has come in meanwhile is newer than what was read.
        newer = self._memory.get(key, now)
        if newer is not None or found is None:
            return newer
        self._memory.put(key, found.kept, _size(found.kept), now, found.ttl)
        return found.kept


def _limits(config: Config) -> CacheLimits:
    its = config.cache
    return CacheLimits(
        ttl=its.ttl, max_entries=its.max_entries, max_bytes=its.max_bytes
    )


def _served_by(config: Config) -> bytes:
    """Return a digest of who serves which model: another answers otherwise.

    What a provider is told in headers is in it as a digest: it may be a secret. Keys
    and the like are not: another key of the same account changes no answer.
    """
    providers = [_answers_by(its) for its in config.providers.values()]
    return digest((providers, config.routing))


def _answers_by(provider: ProviderConfig) -> list[tuple[str, object]]:
    """Return all of *provider* that may change an answer, and no secret."""
    fields: dict[str, object] = attrs.asdict(
        provider, recurse=False, filter=lambda its, _: its.name not in ANSWERS_ANYWAY
    )
    if provider.auth is not None:
        auth = attrs.asdict(
            provider.auth, filter=lambda _, its: not isinstance(its, Secret)
        )
        fields["auth"] = {name: str(its) for name, its in auth.items()}
    fields["headers"] = {
        name.lower(): digest(text).hex() for name, text in provider.headers.items()
    }
    # The first pattern that fits counts.
    fields["model_map"] = tuple(provider.model_map.items())
    return list(fields.items())


def _size(kept: Kept) -> int:
    return size_of(kept) + KEY_BYTES
