"""`duck completion SHELL`: a script that completes commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final, NamedTuple

from duckservice.cli.exits import OK
from duckservice.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=sorted(_SCRIPTS))


def run(session: Session) -> int:
    """Print the script for the shell."""
    from duckservice.cli.parser import COMMANDS, fill

    words: list[_Words] = []
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        fill(parser, command)
        words.append(_Words(command.name, command.help, *_words_of(parser)))
    script = _SCRIPTS[session.options.shell](words)
    if session.options.json:
        session.out.json({"shell": session.options.shell, "script": script})
    else:
        session.out.data(script)
    return OK


class _Words(NamedTuple):
    """What may follow one command."""

    command: str
    help: str
    options: list[str]
    choices: list[str]


def _words_of(parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    options: list[str] = []
    choices: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        options += [o for o in action.option_strings if o.startswith("--")]
        if not action.option_strings:
            choices += [str(choice) for choice in action.choices or ()]
    return options, choices


def _bash(words: list[_Words]) -> str:
    cases = "\n".join(
        f'        {w.command}) words="{" ".join(w.choices + w.options)}" ;;'
        for w in words
    )
    names = " ".join(w.command for w in words)
    return f"""\
# bash completion for duck: eval "$(duck completion bash)"
_duck() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" words="{names} --version --help"
    if [[ $COMP_CWORD -gt 1 ]]; then case "${{COMP_WORDS[1]}}" in
{cases}
        *) words="" ;;
    esac; fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _duck duck"""


def _zsh(words: list[_Words]) -> str:
    names = "\n".join(f"        '{w.command}:{w.help}'" for w in words)
    cases = "\n".join(
        f"        {w.command}) compadd -- {' '.join(w.choices + w.options)} ;;"
        for w in words
    )
    return f"""\
#compdef duck
# zsh completion for duck: source <(duck completion zsh)
_duck() {{
    local -a commands=(
{names}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    case "$words[2]" in
{cases}
    esac
    _files
}}
compdef _duck duck"""


def _fish(words: list[_Words]) -> str:
    lines = [
        "# fish completion for duck: duck completion fish | source",
        "complete -c duck -n __fish_use_subcommand -f -l version -d 'print the version'",
    ]
    for w in words:
        lines.append(
            f"complete -c duck -n __fish_use_subcommand -f -a {w.command} -d '{w.help}'"
        )
        seen = f"-n '__fish_seen_subcommand_from {w.command}'"
        lines += [
            f"complete -c duck {seen} -l {o.removeprefix('--')}" for o in w.options
        ]
        lines += [f"complete -c duck {seen} -f -a {choice}" for choice in w.choices]
    return "\n".join(lines)


_SCRIPTS: Final[dict[str, Callable[[list[_Words]], str]]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
