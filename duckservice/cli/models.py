"""`duck models`: what can be asked, one model a line."""

from __future__ import annotations

import argparse

from duckservice.cli.exits import OK
from duckservice.cli.output import cell, table
from duckservice.cli.session import Session


def arguments(_: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(session: Session) -> int:
    """Print the models and who serves them."""
    answer = session.get("/v1/models")
    if session.options.json:
        session.out.json(answer)
        return OK
    result = table("MODEL", "OWNED BY")
    for model in answer["data"]:
        result.add_row(cell(model["id"]), cell(model.get("owned_by", "")))
    session.out.show(result)
    return OK
