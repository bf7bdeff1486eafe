"""What an adapter is: the few values in which one provider differs from others.

A wire format is a `Dialect`; an adapter says which dialect a provider speaks,
where it listens, how it takes its key, and what its models are called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import attrs

from duckservice.completion import NOTHING
from duckservice.config import ProviderConfig, base_url_of
from duckservice.providers.auth import Credentials
from duckservice.providers.failures import Classifier, Reader, Rule, read_complaint
from duckservice.providers.remote import Dialect


@attrs.frozen(kw_only=True)
class Speaker:
    """What a dialect is made of."""

    provider: str
    """The name of the provider's table in the config, for errors."""
    errors: Classifier = attrs.field(repr=False)
    config: ProviderConfig = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Adapter:
    """What holds for the providers of one adapter where their config is silent."""

    dialect: Callable[[Speaker], Dialect]
    models: Sequence[str] = ("*",)
    """What it serves by default: exact names and globs."""
    foreign_models: Sequence[str] = ()
    """Not meant by a default glob."""
    base_url: Callable[[ProviderConfig], str] = base_url_of
    """Where it listens, without a slash at the end."""
    key_header: str = "authorization"
    """Which header takes the key: with ``Bearer`` in front in ``authorization``, bare
    in any other."""
    headers: Mapping[str, str] = NOTHING
    """Of every request."""
    price_list: str | None = None
    """Its name in genai-prices; None: found by the base URL."""
    reader: Reader = read_complaint
    """How its errors are read."""
    rules: tuple[Rule, ...] = ()
    """What its errors mean, before what those of all providers mean."""
    key_shape: re.Pattern[str] | None = None
    """What its keys look like; another one is warned about, not refused."""
    credentials: Callable[[ProviderConfig], Credentials | None] | None = None
    """What authenticates its requests; where it returns None, the config's keys do,
    or its ``auth`` table."""
