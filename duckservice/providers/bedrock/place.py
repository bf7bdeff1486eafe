"""Where a Bedrock of the config is, and whose requests it gets.

region     the config's, else the one in its base_url, else $AWS_REGION
requests   the config's keys (Bedrock's own API keys, sent as they are), else its
           ``auth`` table, else $AWS_BEARER_TOKEN_BEDROCK, else what AWS's tools use
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from duckservice.config import AuthConfig, ProviderConfig, Secret, keys_of
from duckservice.providers.auth import Credentials
from duckservice.providers.auth.aws import AwsCredentials
from duckservice.providers.auth.keys import Keys

BEARER: Final = "AWS_BEARER_TOKEN_BEDROCK"
REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")

_IN_HOST: Final = re.compile(r"https?://bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")
_REGION: Final = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]{1,16}){1,4}")


def base_url(config: ProviderConfig, environ: Mapping[str, str] | None = None) -> str:
    """Return where the region's models run.

    Raises `ValueError` if nothing says which region, or what is said is none.
    """
    if config.base_url:
        return config.base_url
    region = _region(config, environ)
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://bedrock-runtime.{region}.{domain}"


def credentials(
    config: ProviderConfig, environ: Mapping[str, str] | None = None
) -> Credentials | None:
    """Return what authenticates the requests; None where the config's keys do.

    Raises `ValueError` for what cannot be used.
    """
    environ = os.environ if environ is None else environ
    auth = config.auth
    if keys_of(config) or (auth is not None and auth.type != "aws"):
        return None
    if auth is None and (token := environ.get(BEARER)):
        return Keys(config.name, [Secret(token)])
    auth = auth or AuthConfig(type="aws")
    return AwsCredentials(
        provider=config.name,
        region=_region(config, environ),
        access_key_id=auth.access_key_id,
        secret_access_key=auth.secret_access_key,
        session_token=auth.session_token,
        profile=auth.profile,
    )


def _region(config: ProviderConfig, environ: Mapping[str, str] | None) -> str:
    environ = os.environ if environ is None else environ
    in_host = _IN_HOST.match(config.base_url)
    said = (
        config.region,
        in_host[1] if in_host else "",
        *(environ.get(name, "") for name in REGIONS),
    )
    region = next(filter(None, said), "")
    if not region:
        raise ValueError(
            f"{config.name} needs to know its AWS region: set region, "
            'for example region = "eu-central-1"'
        )
    if not _REGION.fullmatch(region):
        raise ValueError(f"{config.name}: {region[:64]!r} is no AWS region")
    return region
