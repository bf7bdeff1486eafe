"""Whether a body that an adapter sends means the same as the recorded one."""

from __future__ import annotations

from typing import Any


def differences(sent: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Return the fields that mean something else, as paths."""
    if "functions" in recorded or "function_call" in recorded:
        return []  # OpenAI's older words for tools, which go on as tools
    return list(_differences("", normal(sent), normal(recorded)))


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return *body* with all that says the same in the same words."""
    body = _without_nothing(body)
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if not body.get("stream"):
        body.pop("stream", None)
    body.pop("stream_options", None)  # always asked for the usage; tested elsewhere
    if isinstance(body.get("stop"), str):
        body["stop"] = [body["stop"]]
    if "system" in body:
        body["system"] = _as_blocks(body["system"])
    for message in body.get("messages", ()):
        _normal_message(message)
    if body.get("tool_choice") == "any":  # Mistral's word
        body["tool_choice"] = "required"
    for tool in (*body.get("tools", ()), body.get("tool_choice")):
        if isinstance(tool, dict) and "function" in tool:
            tool.setdefault("type", "function")
    if "input" in body:
        _normal_response(body)
    return body


def _normal_message(message: dict[str, Any]) -> None:
    if message.get("role") == "developer":
        message["role"] = "system"  # its name before 2024, and still so elsewhere
    if "reasoning" in message:  # two names of one thing
        message["reasoning_content"] = message.pop("reasoning")
    message["content"] = _as_blocks(message.get("content"))
    for block in message["content"]:
        if isinstance(block.get("image_url"), str):
            block["image_url"] = {"url": block["image_url"]}
        if block.get("type") == "tool_result":
            block["content"] = _as_blocks(block.get("content"))
    for call in message.get("tool_calls", ()):
        call.pop("index", None)  # of a stream's delta, sent back as it was


def _normal_response(body: dict[str, Any]) -> None:
    """Bring a body of the Responses API, which says its input in many ways, to one."""
    body.pop("store", None)  # never kept: the daemon is stateless
    if not body.get("instructions"):
        body.pop("instructions", None)
    if isinstance(body["input"], str):
        body["input"] = [{"role": "user", "content": body["input"]}]
    for item in body["input"]:
        for name in ("id", "status"):  # of what the provider keeps
            item.pop(name, None)
        if item.get("content") and item.get("type") == "reasoning":
            item.pop("summary", None)  # says the same
        if "role" in item:
            item.pop("type", None)
            kind = "output_text" if item["role"] == "assistant" else "input_text"
            content = item.get("content", [])
            item["content"] = (
                [{"type": kind, "text": content}]
                if isinstance(content, str)
                else content
            )


def _as_blocks(content: object) -> list[dict[str, Any]]:
    match content:
        case None:
            return []
        case str():
            return [{"type": "text", "text": content}]
        case list():
            return content
        case _:
            raise AssertionError(content)


def _without_nothing(value: Any) -> Any:
    match value:
        case dict():
            return {
                k: _without_nothing(v)
                for k, v in value.items()
                if v is not None and v != [] and (k, v) != ("is_error", False)
            }
        case list():
            return [_without_nothing(item) for item in value]
        case _:
            return value


def _differences(path: str, ours: Any, wanted: Any) -> list[str]:
    if isinstance(ours, dict) and isinstance(wanted, dict):
        found = []
        for key in sorted(ours.keys() | wanted.keys()):
            where = f"{path}.{key}" if path else key
            if key not in wanted:
                found.append(f"{where} is sent, and was not recorded")
            elif key not in ours:
                found.append(f"{where} is not sent")
            else:
                found += _differences(where, ours[key], wanted[key])
        return found
    if isinstance(ours, list) and isinstance(wanted, list):
        if len(ours) != len(wanted):
            return [f"{path}: {len(ours)} items, not {len(wanted)}"]
        return [
            difference
            for i, (a, b) in enumerate(zip(ours, wanted, strict=True))
            for difference in _differences(f"{path}[{i}]", a, b)
        ]
    return [] if ours == wanted else [f"{path}: {ours!r:.60}, not {wanted!r:.60}"]
