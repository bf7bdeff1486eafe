"""The way of a command: read the arguments, run it, turn its end into an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from duckservice.cli import exits, names
from duckservice.cli.exits import Exit
from duckservice.cli.output import Output, standard
from duckservice.cli.session import Session
from duckservice.paths import StartupError


def main(argv: Sequence[str] | None = None) -> int:
    """Run `duck` with the process's own arguments, and return its exit code."""
    out = standard(os.environ)
    try:
        status = run(sys.argv[1:] if argv is None else argv, out, os.environ)
        out.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has gone: `duck models | head -1`.
        _drop_output()
        return exits.FAILED
    except OSError as error:
        # What the daemon's socket raises has become `Exit`: this is stdout.
        _drop_output()
        out.note(f"duck: cannot write the output: {error.strerror or error}")
        return exits.FAILED
    return status


def _drop_output() -> None:
    """Let stdout lead nowhere: Python would flush it at exit, and complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(argv: Sequence[str], out: Output, environ: Mapping[str, str]) -> int:
    """Run one command on *out*, and return its exit code."""
    # Here, so that a Ctrl-C while the commands are imported is caught as well.
    try:
        if argv and argv[0] == names.COMMAND:
            return names.run(argv[1:], out, environ)
        from duckservice.cli.parser import build

        parser = build()
        options = parser.parse_args(argv)
        if options.version:
            return _version(out)
        if options.command is None:
            parser.print_help(out.stderr)
            return exits.USAGE
        status: int = options.run(Session(options, out, environ))
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Exit as end:
        out.note(f"duck: {end.message}")
        return end.status
    except StartupError as error:
        out.note(f"duck: {error}")
        return error.exit_code
    return status


def _version(out: Output) -> int:
    from duckservice import __version__

    out.data(f"duck {__version__}")
    return exits.OK
