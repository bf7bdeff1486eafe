"""Whether calls and their results are in legal order.

Providers with strict turns refuse a conversation in which a result answers no call, or
a call has no result before the conversation goes on; a format that names the function in
a result, where others name the call, cannot even say such a result. What the assistant
says in several messages in a row is one turn to them.
"""

from __future__ import annotations

from duckservice.completion import ChatRequest, Role, ToolCall, ToolResult
from duckservice.errors import InvalidRequest
from duckservice.providers.translation import message_path, part_path


def check_turns(request: ChatRequest, *, provider: str) -> None:
    """Raise `InvalidRequest`, naming the message, if calls and results do not match.

    The last turn's calls may be open: some clients let the model go on from there.
    """
    open_calls: dict[str, str] = {}
    known: set[str] = set()
    before: Role | None = None
    for i, message in enumerate(request.messages):
        answers = any(isinstance(part, ToolResult) for part in message.parts)
        same_turn = message.role == before == "assistant"
        before = message.role
        if open_calls and not answers and not same_turn:
            call_id, where = next(iter(open_calls.items()))
            raise _refusal(
                provider, where, f"the call {call_id!r} has no result in the next turn"
            )
        for j, part in enumerate(message.parts):
            match part:
                case ToolCall(id=call_id):
                    open_calls[call_id] = _call_path(request, i, j)
                    known.add(call_id)
                case ToolResult(tool_call_id=call_id):
                    if call_id not in known:
                        raise _refusal(
                            provider,
                            part_path(request, i, j),
                            f"answers {call_id!r}, and no call before it has that id",
                        )
                    open_calls.pop(call_id, None)
                case _:
                    pass


def _call_path(request: ChatRequest, message: int, part: int) -> str:
    """Return where a call is: in a chat it is no part of the message's content."""
    if request.format == "openai":
        return message_path(request, message)
    return part_path(request, message, part)


def _refusal(provider: str, field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {reason}", provider=provider, param=field)
