"""Options that a provider lacks, left out where its config says so.

By default what a provider cannot do is refused, naming the field. Who would rather have
an answer without it names the options in ``leave_out``; each is left out only where it
would be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, get_args

import attrs

from duckservice.completion import NOTHING, ChatRequest, ImagePart, Message, Part
from duckservice.config import Option
from duckservice.errors import InvalidRequest
from duckservice.providers.translation import option

_OPTIONS: Final = len(get_args(Option))

_ABSENT: Final[Mapping[Option, Mapping[str, Any]]] = {
    "n": {"n": None},
    "stop": {"stop": ()},
    "seed": {"seed": None},
    "top_k": {"top_k": None},
    "top_p": {"top_p": None},
    "temperature": {"temperature": None},
    "presence_penalty": {"presence_penalty": None},
    "frequency_penalty": {"frequency_penalty": None},
    "parallel_tool_calls": {"parallel_tool_calls": None},
    "reasoning_effort": {"reasoning": None},
}
"""The field of a `ChatRequest` behind each option, and its value when it is not said."""


def able(
    request: ChatRequest,
    leave_out: Collection[Option],
    check: Callable[[ChatRequest], None],
) -> ChatRequest:
    """Return *request* without those of *leave_out* that *check* refuses.

    Raises `InvalidRequest` for what is refused and not to be left out.
    """
    for _ in range(_OPTIONS + len(request.extra) + 1):
        try:
            check(request)
        except InvalidRequest as error:
            less = _without(request, error.param or "", leave_out)
            if less is None:
                raise
            request = less
        else:
            return request
    raise AssertionError("each turn leaves something out")


def _without(
    request: ChatRequest, field: str, leave_out: Collection[Option]
) -> ChatRequest | None:
    for name in leave_out:
        if name in _ABSENT and field in (name, option(request, name)):
            return attrs.evolve(request, **_ABSENT[name])
        if name == "names" and field.endswith(".name"):
            return attrs.evolve(
                request, messages=tuple(map(_unnamed, request.messages))
            )
        if name == "image_detail" and field.endswith(".detail"):
            return attrs.evolve(request, messages=tuple(map(_plain, request.messages)))
    if "extra" in leave_out and field in request.extra:
        extra = {key: value for key, value in request.extra.items() if key != field}
        return attrs.evolve(request, extra=extra or NOTHING)
    return None


def _unnamed(message: Message) -> Message:
    return attrs.evolve(message, name=None)


def _plain(message: Message) -> Message:
    return attrs.evolve(message, parts=tuple(map(_without_detail, message.parts)))


def _without_detail(part: Part) -> Part:
    return attrs.evolve(part, detail=None) if isinstance(part, ImagePart) else part
