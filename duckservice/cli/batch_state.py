"""What is kept beside a batch's output, so that it can be gone on with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import attrs

from duckservice.cli.exits import USAGE, Exit

SUFFIX = ".batch"


@attrs.frozen(kw_only=True)
class BatchState:
    """How far the submission has come."""

    digest: str
    """Of the input."""
    file: str
    """The input's id at the daemon; it may not be there as a whole."""
    order: dict[str, Any]
    """The body of the order of the batch."""
    headers: dict[str, str]
    max_tokens: int | None = None
    """What was put into the lines that are sent."""
    batch: str | None = None
    """The batch's id, once the daemon has taken it."""


def state_path(output: Path) -> Path:
    """Return where the state for *output* is."""
    return output.with_name(output.name + SUFFIX)


def load_state(path: Path) -> BatchState | None:
    """Return what was kept, None if nothing was.

    Raises:
        Exit: it cannot be read.
    """
    try:
        fields: Any = json.loads(path.read_text("utf-8"))
        return BatchState(**cast("dict[str, Any]", fields))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        msg = f"{path}: not what `duck batch run` has written; remove it"
        raise Exit(msg, USAGE) from error


def save_state(path: Path, state: BatchState) -> None:
    """Write *state*, whole or not at all.

    Raises:
        Exit: it cannot be written.
    """
    new = path.with_name(path.name + ".new")
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump(attrs.asdict(state), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise Exit(f"{path}: {error.strerror or error}", USAGE) from error
