"""Where things are at Azure OpenAI: by resource, or by resource, deployment and version.

base_url, api_version                          where a chat goes
https://R.openai.azure.com                     /openai/v1/chat/completions
https://R.openai.azure.com/openai/v1           the same
..., "preview"                                 the same, ?api-version=preview
..., "2024-10-21"                              /openai/deployments/MODEL/chat/completions
                                               ?api-version=2024-10-21
https://R.services.ai.azure.com/models, dated  /models/chat/completions?api-version=...
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from duckservice.config import ProviderConfig, base_url_of
from duckservice.providers.openai import Paths

_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d")
_ONE_MODEL: Final = re.compile(r"/deployments/[^/]+$")


def base_url(config: ProviderConfig) -> str:
    """Return the URL to which the paths of `paths` are added."""
    url = base_url_of(config).rstrip("/")
    if not url:
        return ""  # refused where it is used, with what to do
    if _is_dated(config):
        url = url.removesuffix("/v1")
        done = url.endswith(("/openai", "/models")) or _ONE_MODEL.search(url)
        return url if done else f"{url}/openai"
    if url.endswith("/openai"):
        return f"{url}/v1"
    return f"{url}/openai/v1" if url.count("/") == 2 else url  # no path yet


def paths(config: ProviderConfig) -> Paths:
    """Return where things are below `base_url`."""
    if not config.api_version:
        return Paths()
    query = f"?api-version={quote(config.api_version, safe='')}"
    if not _is_dated(config) or not base_url(config).endswith("/openai"):
        return Paths(query=query)
    return Paths(prefix="/deployments/{model}", query=query)


def _is_dated(config: ProviderConfig) -> bool:
    return _DATED.match(config.api_version) is not None
