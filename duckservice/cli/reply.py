"""A reply on stdout, as it comes: filtered on a terminal, as it is into a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duckservice.cli.output import Output
from duckservice.cli.text import count, money
from duckservice.terminal import ReplyFilter


class ReplyPrinter:
    """Writes the text of one reply, piece by piece."""

    def __init__(self, out: Output) -> None:
        self._stdout = out.stdout
        self._filter = ReplyFilter() if out.on_terminal else None
        self._last = ""

    def feed(self, text: str) -> None:
        """Write *text* at once."""
        self._write(self._filter.feed(text) if self._filter else text)

    def finish(self) -> None:
        """Write what was held back, and end the last line."""
        if self._filter:
            self._write(self._filter.finish())
        if not self._last.endswith("\n"):
            self._write("\n")

    def break_off(self) -> None:
        """End the line, where there is one: what follows is another reply."""
        if self._last:
            self.finish()
            self._last = ""

    def _write(self, text: str) -> None:
        if text:
            self._stdout.write(text)
            self._stdout.flush()
            self._last = text


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, or of a piece of one, in OpenAI's form."""
    return f"{message.get('content') or ''}{message.get('refusal') or ''}"


def print_result(out: Output, body: Mapping[str, Any]) -> None:
    """Print a job's result: the reply's text; JSON, where it is not text."""
    choices = body.get("choices")
    if not choices or not text_of(choices[0]["message"]):
        out.json(body)
        return
    printer = ReplyPrinter(out)
    printer.feed(text_of(choices[0]["message"]))
    printer.finish()


def account(job: Mapping[str, Any]) -> str:
    """Return who has answered a job, and what it took, on one line."""
    parts = [str(job["provider"] or "")]
    if usage := job.get("usage"):
        tokens = (
            f"{count(usage['prompt_tokens'])} in, "
            f"{count(usage['completion_tokens'])} out"
        )
        parts.append(f"{tokens} tokens")
    parts.append(money(job["cost_usd"]))
    if job["attempt"] > 1:
        parts.append(f"{job['attempt']} attempts")
    return " · ".join(part for part in parts if part)
