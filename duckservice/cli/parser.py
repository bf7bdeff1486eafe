"""The command line: every command with its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from duckservice.cli import (
    ask,
    backup,
    batch,
    budget,
    cancel,
    chaos,
    completion,
    config,
    cost,
    dashboard,
    demo,
    drain,
    events,
    follow,
    hold,
    jobs,
    models,
    providers,
    queue,
    release,
    reload,
    restart,
    result,
    retry,
    show,
    shutdown,
    status,
    submit,
    tree,
    wait,
)
from duckservice.cli.doctor import command as doctor
from duckservice.cli.session import Session
from duckservice.cli.top import command as top


class Command(NamedTuple):
    """One command: its name, its line in the help, and the file that does it."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Session], int]


COMMANDS: Final = (
    Command("ask", "ask a model, and print its reply", ask.arguments, ask.run),
    Command("submit", "hand in a job", submit.arguments, submit.run),
    Command("jobs", "the jobs, the newest first", jobs.arguments, jobs.run),
    Command("ls", "the same as `jobs`", jobs.arguments, jobs.run),
    Command("show", "one job, and why it waits", show.arguments, show.run),
    Command("wait", "wait until jobs are over", wait.arguments, wait.run),
    Command("follow", "the reply of a job, as it comes", follow.arguments, follow.run),
    Command("result", "what came of a job", result.arguments, result.run),
    Command("cancel", "give jobs up", cancel.arguments, cancel.run),
    Command("retry", "begin failed jobs anew", retry.arguments, retry.run),
    Command("hold", "keep waiting jobs from running", hold.arguments, hold.run),
    Command("release", "let jobs run that are held", release.arguments, release.run),
    Command("batch", "many requests in a file", batch.arguments, batch.run),
    Command("status", "how the daemon is", status.arguments, status.run),
    Command("top", "the daemon, live, on one screen", top.arguments, top.run),
    Command(
        "dashboard",
        "the daemon on a page in your browser",
        dashboard.arguments,
        dashboard.run,
    ),
    Command("tree", "the supervision tree", tree.arguments, tree.run),
    Command("providers", "the providers", providers.arguments, providers.run),
    Command("models", "the models that can be asked", models.arguments, models.run),
    Command("cost", "what was spent", cost.arguments, cost.run),
    Command("budget", "what may still be spent", budget.arguments, budget.run),
    Command("queue", "what waits", queue.arguments, queue.run),
    Command("events", "what happens, as it happens", events.arguments, events.run),
    Command(
        "restart",
        "crash an actor, so that its supervisor restarts it",
        restart.arguments,
        restart.run,
    ),
    Command(
        "reload",
        "read the config again, and take over what has changed",
        reload.arguments,
        reload.run,
    ),
    Command("config", "the config file", config.arguments, config.run),
    Command("doctor", "find out why it does not work", doctor.arguments, doctor.run),
    Command("backup", "a copy of the store", backup.arguments, backup.run),
    Command("drain", "take no new work, finish the old", drain.arguments, drain.run),
    Command("shutdown", "drain, then stop", shutdown.arguments, shutdown.run),
    Command(
        "demo",
        "a show without key, config or network",
        demo.arguments,
        demo.run,
    ),
    Command(
        "chaos",
        "your config against providers that fail in every known way",
        chaos.arguments,
        chaos.run,
    ),
    Command(
        "completion",
        "a completion script for your shell",
        completion.arguments,
        completion.run,
    ),
)

_EPILOG = """\
exit codes: 0 done, 1 a job failed, 2 usage, 69 no daemon, 75 timed out or full,
77 not permitted, 78 config, 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """Says which command was perhaps meant."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # No public way leads there before Python 3.14, which suggests by itself.
        if action.nargs == argparse.PARSER and value not in (action.choices or ()):
            from duckservice.config_toml.refused import did_you_mean

            meant = did_you_mean(value, action.choices or ())
            if meant:
                raise argparse.ArgumentError(
                    None, f"there is no command {value!r}; {meant}"
                )
        super()._check_value(action, value)


def build() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="duck",
        description="The client of duckd, the daemon that owns this machine's LLM traffic.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    common(parser)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands"
    )
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            allow_abbrev=False,
        )
        fill(sub, command)
        sub.set_defaults(run=command.run)
    return parser


def fill(parser: argparse.ArgumentParser, command: Command) -> None:
    """Add all that *command* understands."""
    # Without SUPPRESS its defaults would overwrite what stands before the command.
    common(parser, argparse.SUPPRESS, argparse.SUPPRESS)
    command.arguments(parser)


def common(
    parser: argparse.ArgumentParser, text: Any = None, flag: Any = False
) -> None:
    """Add what is understood everywhere; *text* and *flag* are the defaults."""
    parser.add_argument(
        "--socket",
        default=text,
        metavar="PATH",
        help="the daemon's socket (default: $DUCK_SOCKET, then the config's,"
        " then $XDG_RUNTIME_DIR/duckd/duckd.sock)",
    )
    parser.add_argument(
        "--config",
        default=text,
        metavar="FILE",
        help="the config file (default: $DUCK_CONFIG, then"
        " $XDG_CONFIG_HOME/duckd/config.toml)",
    )
    parser.add_argument("--json", default=flag, action="store_true", help="print JSON")
