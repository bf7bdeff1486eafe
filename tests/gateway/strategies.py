"""Hypothesis strategies for the shared values, as a provider may yield them."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from duckservice.completion import (
    Choice,
    Completion,
    Finished,
    ImagePart,
    Message,
    Reasoning,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    RefusalPart,
    ResponseFormat,
    Started,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    Usage,
    UsageReport,
)

texts = st.text(max_size=20)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
seeds = st.integers(-(2**63), 2**63 - 1)
json_leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), texts
)
json_values = st.recursive(
    json_leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
    ),
    max_leaves=12,
)
json_objects = st.dictionaries(
    names,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=3,
)
arguments = json_objects.map(json.dumps)
counts = st.integers(0, 10**9)
reasons = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
native_reasons = st.none() | st.sampled_from(
    ["stop", "end_turn", "tool_use", "STOP", "pause_turn", "length", "odd"]
)


@st.composite
def usages(draw):
    cached, written, rest = draw(counts), draw(counts), draw(counts)
    reasoning = draw(counts)
    return Usage(
        input_tokens=cached + written + rest,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=reasoning + draw(counts),
        reasoning_tokens=reasoning,
    )


tool_calls = st.builds(ToolCall, id=names, name=names, arguments=arguments)
reply_parts = st.one_of(
    st.builds(TextPart, text=texts),
    st.builds(RefusalPart, text=texts),
    st.builds(ReasoningPart, text=texts, signature=st.none() | names),
    st.builds(ReasoningPart, redacted=names),
    tool_calls,
)


@st.composite
def completions(draw, choices_max=3):
    count = draw(st.integers(1, choices_max))
    return Completion(
        id=draw(names),
        model=draw(names),
        created=draw(counts),
        usage=draw(usages()),
        choices=tuple(
            Choice(
                index=index,
                parts=tuple(draw(st.lists(reply_parts, max_size=4))),
                finish_reason=draw(reasons),
                native_finish_reason=draw(native_reasons),
                stop_sequence=draw(st.none() | names),
            )
            for index in range(count)
        ),
    )


@st.composite
def streams(draw, *, choices=1):
    """Draw the chunks of a whole stream, cut into batches."""
    chunks = [Started(id=draw(names), model=draw(names), created=draw(counts))]
    calls = dict.fromkeys(range(choices), 0)
    for _ in range(draw(st.integers(0, 12))):
        choice = draw(st.integers(0, choices - 1))
        match draw(st.sampled_from(["text", "text", "think", "sign", "call", "more"])):
            case "text":
                chunks.append(TextDelta(text=draw(texts), choice=choice))
            case "think":
                chunks.append(ReasoningDelta(text=draw(texts), choice=choice))
            case "sign":
                chunks.append(ReasoningDelta(signature=draw(names), choice=choice))
            case "more" if calls[choice]:
                # Also for an earlier call: some providers interleave them.
                index = draw(st.integers(0, calls[choice] - 1))
                chunks.append(ToolCallDelta(index=index, arguments="", choice=choice))
            case _:
                index = calls[choice]
                calls[choice] += 1
                text = draw(arguments)
                cut = draw(st.integers(0, len(text)))
                head = ToolCallDelta(
                    index=index,
                    id=draw(names),
                    name=draw(names),
                    arguments=text[:cut],
                    choice=choice,
                )
                tail = ToolCallDelta(index=index, arguments=text[cut:], choice=choice)
                chunks += [head, tail]
    if draw(st.booleans()):
        chunks.append(RefusalDelta(text=draw(texts)))
    chunks += [
        Finished(
            reason=draw(reasons), native_reason=draw(native_reasons), choice=choice
        )
        for choice in range(choices)
    ]
    chunks.append(UsageReport(usage=draw(usages())))
    batches, rest = [], chunks
    while rest:
        size = draw(st.integers(1, len(rest)))
        batches.append(rest[:size])
        rest = rest[size:]
    return batches


images = st.one_of(
    st.builds(ImagePart, url=names.map("https://h/{}.png".format)),
    st.builds(ImagePart, data=st.just("iVBORw0KGgo="), media_type=st.just("image/png")),
)
user_parts = st.builds(TextPart, text=texts.filter(bool)) | images


@st.composite
def conversations(draw):
    """Draw messages that every format has words for."""
    messages = []
    if draw(st.booleans()):
        messages.append(Message.of("system", draw(texts.filter(bool))))
    for _ in range(draw(st.integers(1, 3))):
        parts = tuple(draw(st.lists(user_parts, min_size=1, max_size=3)))
        messages.append(Message(role="user", parts=parts))
        if draw(st.booleans()):
            call = draw(tool_calls)
            said = TextPart(text=draw(texts.filter(bool)))
            messages.append(Message(role="assistant", parts=(said, call)))
            content = (TextPart(text=draw(texts.filter(bool))),)
            result = ToolResult(tool_call_id=call.id, content=content)
            messages.append(Message(role="tool", parts=(result,)))
    return tuple(messages)


tools = st.builds(
    Tool,
    name=names,
    description=st.none() | texts,
    parameters=json_objects.map(lambda p: {"type": "object", "properties": p}),
)
tool_choices = st.one_of(
    st.builds(ToolChoice, mode=st.sampled_from(["auto", "none", "required"])),
    st.builds(ToolChoice, mode=st.just("tool"), name=names),
)
response_formats = st.builds(
    ResponseFormat, type=st.just("json_schema"), name=names, schema=json_objects
)
efforts = st.builds(Reasoning, effort=st.sampled_from(["low", "medium", "high"]))
