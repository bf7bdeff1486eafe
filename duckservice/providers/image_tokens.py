"""How many tokens a picture takes: at most, for what must hold; probably, to compare.

Of OpenAI's models only gpt-image-1 and its mini have a published table: up to 408,
1,584 and 6,240 tokens for a picture of low, medium and high quality, whatever its
size. What other models take depends on sizes that are any, or on text that they write
beside: nobody can bound it.
"""

from __future__ import annotations

import re
from typing import Final

from duckservice.completion import ImageRequest, Usage
from duckservice.core.input_bound import TOKENS_PER_REQUEST
from duckservice.providers.estimate import text_tokens

_TABLED: Final = re.compile(r"gpt-image-1(?:-mini)?(?:-20\d\d-\d\d-\d\d)?")
_AT_MOST: Final = {"low": 512, "medium": 2048}
"""A little more than the table says; what is not named is `_HIGH`."""
_HIGH: Final = 8192

USUAL: Final = 1056
"""Tokens of a square of medium quality."""


def image_bound(request: ImageRequest) -> Usage | None:
    """Return what *request* cannot exceed, asked of the model that it names.

    None where nobody can say.
    """
    if _TABLED.fullmatch(request.model) is None or request.extra.get("partial_images"):
        return None
    drawn = _AT_MOST.get(request.quality or "", _HIGH) * (request.n or 1)
    # A lone surrogate has no UTF-8 form; it counts as the three bytes it would take.
    prompt = len(request.prompt.encode("utf-8", "surrogatepass"))
    return Usage(
        input_tokens=TOKENS_PER_REQUEST + prompt,
        output_tokens=drawn,
        image_tokens=drawn,
    )


def likely_images(request: ImageRequest) -> Usage:
    """Return a guess at what *request* will use, marked as one."""
    drawn = USUAL * (request.n or 1)
    return Usage(
        input_tokens=text_tokens(request.prompt),
        output_tokens=drawn,
        image_tokens=drawn,
        estimated=True,
    )
