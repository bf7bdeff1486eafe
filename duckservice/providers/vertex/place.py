"""Where Vertex AI listens, and where a model is found there.

A model is a publisher's: ``gemini-*`` Google's, ``claude-*`` Anthropic's. Another's is
written ``PUBLISHER/MODEL``, a tuned one ``endpoints/NUMBER``.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from duckservice.config import ProviderConfig
from duckservice.providers.gemini.models import bare_name, model_path

LOCATION: Final = "global"
"""Where Google decides itself; the newest models are nowhere else."""

GOOGLE_VERSION: Final = "v1beta1"
"""Of the API, for Google's own models; what its SDKs ask, for its newer fields."""

ANTHROPIC_VERSION: Final = "v1"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")
_WITH_VERSION: Final = re.compile(r"/v1(?:beta1|alpha)?$")


def base_url(config: ProviderConfig) -> str:
    """Return the address of the config's location; the paths have the version.

    Raises `ValueError` for a location that is no name of one.
    """
    if config.base_url:
        return _WITH_VERSION.sub("", config.base_url.rstrip("/"))
    location = _name(config.location or LOCATION, "location")
    if location == LOCATION or not config.project:
        return "https://aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def is_claude(model: str) -> bool:
    """Say whether *model* speaks Anthropic's format."""
    return bare_name(model).startswith("claude-")


@attrs.frozen
class Place:
    """A project in a location, or express mode, which has neither."""

    folder: str
    """``projects/P/locations/L/``, or nothing."""

    @classmethod
    def of(cls, config: ProviderConfig) -> Place:
        """Return the place that *config* names; raises `ValueError` as `base_url`."""
        if not config.project:
            return cls("")
        project = _name(config.project, "project")
        location = _name(config.location or LOCATION, "location")
        return cls(f"projects/{project}/locations/{location}/")

    def path(self, model: str, provider: str) -> str:
        """Return where *model* is, without a slash in front.

        Raises `ModelNotFound` for what cannot be a name.
        """
        claude = is_claude(model)
        publisher = "anthropic" if claude else "google"
        path = model_path(model, provider, shelf=f"publishers/{publisher}/models")
        version = ANTHROPIC_VERSION if claude else GOOGLE_VERSION
        match path.split("/"):
            case ["models", name]:
                path = f"publishers/{publisher}/models/{name}"
            case [owner, name] if owner not in ("endpoints", "tunedModels"):
                path = f"publishers/{owner}/models/{name}"
            case ["projects", *_]:
                return f"{version}/{path}"
            case _:
                pass
        return f"{version}/{self.folder}{path}"


def _name(text: str, key: str) -> str:
    if _NAME.fullmatch(text) is None:
        msg = f"{key}: {text!r} is no name of a Google Cloud {key}"
        raise ValueError(msg)
    return text
