"""Reads a stream of response events as a careful client does, and complains."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

EVENT = TypeAdapter(ResponseStreamEvent)


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """Split a stream; every event must be one of the SDK's, and numbered in order."""
    assert not raw or raw.endswith(b"\n\n")
    events = []
    for block in raw.decode().split("\n\n")[:-1]:
        (name, kind), (field, data) = (
            line.split(": ", 1) for line in block.split("\n")
        )
        assert (name, field) == ("event", "data")
        event = json.loads(data)
        assert event["type"] == kind
        EVENT.validate_json(data)
        events.append(event)
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(len(events)))
    return events


class Reader:
    """Collects the output from its events alone, and compares it with the end.

    What has not been announced must not grow, and what has ended must not either.
    """

    def __init__(self, raw: bytes) -> None:
        self.events = events_of(raw)
        self.names = [event["type"].removeprefix("response.") for event in self.events]
        self._items: dict[int, dict[str, Any]] = {}
        self._parts: dict[tuple[int, int], dict[str, Any]] = {}
        self.done: dict[int, dict[str, Any]] = {}
        self._ended: set[tuple[int, int]] = set()
        assert self.names[:2] == ["created", "in_progress"]
        for event in self.events[2:-1]:
            self._take(event)
        self.last = self.events[-1]
        self.response = self.last["response"]
        Response.model_validate(self.response)
        assert self._parts.keys() == self._ended
        assert [self.done[index] for index in sorted(self.done)] == self.output
        assert self._items.keys() == self.done.keys() == set(range(len(self.output)))

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items that the last event has."""
        return self.response["output"]

    def _take(self, event: dict[str, Any]) -> None:
        index = event["output_index"]
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert index not in self._items
            self._items[index] = event["item"]
            return
        assert index not in self.done, "it has ended"
        item = self._items[index]
        assert event.get("item_id", item["id"]) == item["id"]
        match kind:
            case "output_item.done":
                assert event["item"]["id"] == item["id"]
                self.done[index] = event["item"]
            case "function_call_arguments.delta":
                item["arguments"] += event["delta"]
            case "function_call_arguments.done":
                assert event["arguments"] == item["arguments"]
                assert event["name"] == item["name"]
            case "content_part.added":
                self._add(event, item["content"])
            case "reasoning_summary_part.added":
                self._add(event, item["summary"])
            case _:
                self._grow(kind, event, self._part(event))

    def _add(self, event: dict[str, Any], parts: list[dict[str, Any]]) -> None:
        index, number = self._key(event)
        assert number == len(parts)
        parts.append(event["part"])
        self._parts[index, number] = event["part"]

    def _grow(self, kind: str, event: dict[str, Any], part: dict[str, Any]) -> None:
        match kind:
            case "output_text.delta" | "reasoning_summary_text.delta":
                part["text"] += event["delta"]
            case "refusal.delta":
                part["refusal"] += event["delta"]
            case "output_text.annotation.added":
                assert event["annotation_index"] == len(part["annotations"])
                part["annotations"].append(event["annotation"])
            case "output_text.done" | "reasoning_summary_text.done":
                assert event["text"] == part["text"]
            case "refusal.done":
                assert event["refusal"] == part["refusal"]
            case "content_part.done" | "reasoning_summary_part.done":
                assert {**event["part"], "logprobs": []} == {**part, "logprobs": []}
                self._ended.add(self._key(event))
            case _:
                raise AssertionError(kind)

    def _key(self, event: dict[str, Any]) -> tuple[int, int]:
        inner = "content_index" if "content_index" in event else "summary_index"
        return event["output_index"], event[inner]

    def _part(self, event: dict[str, Any]) -> dict[str, Any]:
        key = self._key(event)
        assert key not in self._ended, "it has ended"
        return self._parts[key]
