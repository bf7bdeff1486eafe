"""A `ChatRequest` in the words of Gemini's ``generateContent``.

There is no place for ``user``, which says nothing about the answer; it is left out.
``extra_body.google`` of a client of OpenAI's format (or ``google``, at the top) holds
what only Gemini knows, in its own words: ``thinking_config``, ``safety_settings``,
``cached_content``, more ``tools``, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    ResponseFormat,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from duckservice.providers.gemini.blobs import blob, own_pictures, picture
from duckservice.providers.gemini.contents import (
    Json,
    called_names,
    json_object,
    turns,
)
from duckservice.providers.gemini.signatures import FIELD
from duckservice.providers.gemini.thinking import thinking_config
from duckservice.providers.reading import mapping_or_empty
from duckservice.providers.translation import (
    foreign_fields,
    message_path,
    part_path,
    refusal,
    result_path,
    to_json,
)

if TYPE_CHECKING:
    from duckservice.completion import WireFormat

_NOBODYS: Final = cast("WireFormat", "gemini")
"""No client speaks Gemini's format: every field of a format is foreign here."""

_NATIVE: Final = frozenset({"google", "extra_body"})

_UNDERSTOOD: Final = frozenset({FIELD, "images"})
"""Fields of messages, parts and calls that are read here."""

_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}

_ARGUMENTS: Final = {"openai": "function.arguments", "responses": "arguments"}
"""What a client calls the arguments of a call."""

_RESOLUTIONS: Final = {"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH"}


def check(request: ChatRequest, *, provider: str) -> None:
    """Raise `InvalidRequest` for what this format has no words for."""
    for field, reason in _untranslatable(request):
        raise refusal(provider, "Gemini's format", field, reason)


def encode(request: ChatRequest, *, provider: str) -> bytes:
    """Return the body of the request. What `check` refuses is not looked for again."""
    return to_json(body_of(request), provider)


def body_of(request: ChatRequest) -> Json:
    """Return the request as a value: everything but its model, which the path has."""
    system, contents = turns(request)
    body: Json = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    options = _options(request)
    if options:
        body["generationConfig"] = options
    if request.tools:
        declared = [_declaration(tool) for tool in request.tools]
        body["tools"] = [{"functionDeclarations": declared}]
    calling = _calling(request)
    if calling is not None:
        body["toolConfig"] = {"functionCallingConfig": calling}
    if request.extra:
        _add_native(body, native_fields(request))
    return body


def native_fields(request: ChatRequest) -> Mapping[str, Any]:
    """Return what the client wrote in Gemini's own words."""
    inner = mapping_or_empty(request.extra.get("extra_body"))
    return {
        **mapping_or_empty(inner.get("google")),
        **mapping_or_empty(request.extra.get("google")),
    }


def _add_native(body: Json, fields: Mapping[str, Any]) -> None:
    named = {_camel(name): value for name, value in fields.items()}
    if "thinkingConfig" in named:
        thinking = {"thinkingConfig": named.pop("thinkingConfig")}
        options = mapping_or_empty(named.get("generationConfig"))
        named["generationConfig"] = {**options, **thinking}
    for key, value in named.items():
        ours: object = body.get(key)
        if isinstance(ours, dict) and isinstance(value, dict):
            body[key] = {**ours, **value}
        elif isinstance(ours, list) and isinstance(value, list):
            body[key] = [*ours, *value]  # pyright: ignore[reportUnknownVariableType]  # any JSON
        else:
            body[key] = value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def _untranslatable(request: ChatRequest) -> Iterator[tuple[str, str]]:
    # Parts of one format only are looked into below.
    for field in foreign_fields(
        request, _NOBODYS, understood=_UNDERSTOOD, opaque=False
    ):
        if field not in _NATIVE:
            yield field, ""
    yield from _in_native_fields(request)
    yield from _in_options(request)
    if all(m.role in ("system", "developer") for m in request.messages):
        yield "messages", "Gemini needs one that is not the system's"
    names = called_names(request)
    for i, message in enumerate(request.messages):
        if message.name is not None and message.role != "tool":
            yield f"{message_path(request, i)}.name", ""
        if message.extra and own_pictures(message.extra) is None:
            yield f"{message_path(request, i)}.images", ""
        for j, part in enumerate(message.parts):
            path = part_path(request, i, j)
            yield from _in_part(part, path, names, request.format)
            if isinstance(part, ToolResult):
                for k, inner in enumerate(part.content):
                    inside = result_path(request, path, k)
                    yield from _in_part(inner, inside, names, request.format)


def _in_native_fields(request: ChatRequest) -> Iterator[tuple[str, str]]:
    for name in _NATIVE & request.extra.keys():
        value = request.extra[name]
        inner = mapping_or_empty(value)
        if value is None:
            continue
        if name == "google" and not isinstance(value, dict):
            yield name, "must be an object"
        if name == "extra_body":
            for other in inner.keys() - {"google"}:
                yield f"{name}.{other}", ""
            if not isinstance(inner.get("google"), dict):
                yield f"{name}.google", "must be an object"


def _in_options(request: ChatRequest) -> Iterator[tuple[str, str]]:
    if request.tools and request.parallel_tool_calls is False:
        field = "parallel_tool_calls"
        if request.format == "anthropic":
            field = "tool_choice.disable_parallel_tool_use"
        yield field, "Gemini cannot be told to make one call at a time"
    if len(_details(request)) > 1:
        yield (
            "messages[].content[].image_url.detail",
            "Gemini takes one detail for all pictures",
        )


def _in_part(
    part: Part, path: str, names: Mapping[str, str], form: WireFormat
) -> Iterator[tuple[str, str]]:
    match part:
        case ImagePart() if picture(part) is None:
            yield path, "its URL must end in .png, .jpg or the like, or come as data"
        case OpaquePart(value=value) if blob(part) is None:
            yield f"{path} ({value.get('type', 'part')})", ""
        case ReasoningPart(redacted=str()):
            yield path, "thoughts that are encrypted belong to who encrypted them"
        case ToolCall(arguments=arguments) if arguments:
            if json_object(arguments) is None:
                yield f"{path}.{_ARGUMENTS.get(form, 'input')}", "are no JSON object"
        case ToolResult(tool_call_id=call_id) if call_id not in names:
            yield path, f"no earlier message makes the call {call_id!r}"
        case _:
            pass


def _options(request: ChatRequest) -> Json:
    options: Json = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "candidateCount": request.n,
        "stopSequences": list(request.stop) or None,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "thinkingConfig": thinking_config(request),
        **_response_format(request.response_format),
    }
    if (details := _details(request)) and len(details) == 1:
        options["mediaResolution"] = _RESOLUTIONS[details.pop()]
    return {name: value for name, value in options.items() if value is not None}


def _details(request: ChatRequest) -> set[str]:
    return {
        part.detail
        for message in request.messages
        for part in message.parts
        if isinstance(part, ImagePart) and part.detail in _RESOLUTIONS
    }


def _response_format(wanted: ResponseFormat | None) -> Json:
    if wanted is None or wanted.type == "text":
        return {}
    options: Json = {"responseMimeType": "application/json"}
    if wanted.schema is not None:
        schema = dict(wanted.schema)
        if wanted.description is not None:
            schema.setdefault("description", wanted.description)
        options["responseJsonSchema"] = schema
    return options


def _declaration(tool: Tool) -> Json:
    declared: Json = {"name": tool.name}
    if tool.description is not None:
        declared["description"] = tool.description
    if tool.parameters is not None:
        declared["parametersJsonSchema"] = tool.parameters
    return declared


def _calling(request: ChatRequest) -> Json | None:
    choice = request.tool_choice or ToolChoice(mode="auto")
    mode = _MODES[choice.mode]
    if mode == "AUTO" and any(tool.strict for tool in request.tools):
        mode = "VALIDATED"  # free to call or not, but calls keep to the schema
    elif request.tool_choice is None:
        return None
    calling: Json = {"mode": mode}
    if choice.mode == "tool":
        calling["allowedFunctionNames"] = [choice.name]
    return calling
