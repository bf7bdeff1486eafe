"""Whether calls and their results are in legal order.

Providers with strict turns refuse a conversation in which a result answers no call, or
a call has no result before the conversation goes on; a format that names the function in
a result, where others name the call, cannot even say such a result.
"""

from __future__ import annotations

from duckservice.completion import ChatRequest, ToolCall, ToolResult
from duckservice.errors import InvalidRequest
from duckservice.providers.translation import message_path, part_path


def check_turns(request: ChatRequest, *, provider: str) -> None:
    """Raise `InvalidRequest`, naming the message, if calls and results do not match.

    The last turn's calls may be open: some clients let the model go on from there.
    """
    open_calls: dict[str, str] = {}
    known: set[str] = set()
    for i, message in enumerate(request.messages):
        answers = [part for part in message.parts if isinstance(part, ToolResult)]
        if open_calls and not answers:
            call_id, where = next(iter(open_calls.items()))
            raise _refusal(
                provider, where, f"the call {call_id!r} has no result in the next turn"
            )
        for j, part in enumerate(message.parts):
            match part:
                case ToolCall(id=call_id):
                    open_calls[call_id] = message_path(request, i)
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


def _refusal(provider: str, field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {reason}", provider=provider, param=field)
