"""`duck completion SHELL`: a script that completes commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

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
        words.append(_words(command.name, command.help, parser))
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
    values: dict[str, list[str]]
    """What may follow an option, by its name; empty: something that nobody knows."""


_BEFORE: Final = ("--socket", "--config")
"""What may stand before the command, and has a value."""


def _words(command: str, text: str, parser: argparse.ArgumentParser) -> _Words:
    words = _Words(command, text, [], [], {})
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        known = [str(choice) for choice in action.choices or ()]
        if not action.option_strings:
            words.choices.extend(known)
        # Of a command in steps (`duck batch run`), the options of all of its steps.
        if action.nargs == argparse.PARSER:
            steps = cast("Mapping[str, argparse.ArgumentParser]", action.choices)
            for step, inner in steps.items():
                below = _words(step, "", inner)
                words.options.extend(o for o in below.options if o not in words.options)
                words.values.update(below.values)
        for option in action.option_strings:
            if option.startswith("--") and option not in words.options:
                words.options.append(option)
            if action.nargs != 0:
                words.values[option] = known
    return words


def _bash(words: list[_Words]) -> str:
    cases = "\n".join(
        f'        {w.command}) words="{" ".join(w.choices + w.options)}" ;;'
        for w in words
    )
    values = "\n".join(
        f'        {pattern}) words="{" ".join(known)}" ;;'
        for pattern, known in _by_value(words)
    )
    names = " ".join(w.command for w in words)
    return f"""\
# bash completion for duck: eval "$(duck completion bash)"
_duck() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="" command="" words="" at
    for ((at = 1; at < COMP_CWORD; at++)); do case "${{COMP_WORDS[at]}}" in
        {"|".join(_BEFORE)}) ((at++)) ;;
        -*) ;;
        *) command="${{COMP_WORDS[at]}}"; break ;;
    esac; done
    ((COMP_CWORD > 1)) && before="${{COMP_WORDS[COMP_CWORD - 1]}}"
    case "$command $before" in
{values}
        *) case "$command" in
{_indented(cases)}
            "") words="{names} --socket --config --json --version --help" ;;
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _duck duck"""


def _by_value(words: list[_Words]) -> list[tuple[str, list[str]]]:
    """Return patterns of a command and the option before the cursor, with what follows."""
    found = [
        (f'"{w.command} {option}"', known)
        for w in words
        for option, known in w.values.items()
    ]
    return [*found, *((f'" {option}"', list[str]()) for option in _BEFORE)]


def _indented(lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines.split("\n"))


def _zsh(words: list[_Words]) -> str:
    names = "\n".join(f"        '{w.command}:{_quoted(w.help)}'" for w in words)
    cases = "\n".join(
        f"        {w.command}) compadd -- {' '.join(w.choices + w.options)} ;;"
        for w in words
    )
    values = "\n".join(
        f"        {pattern}) {_offer(known)}; return ;;"
        for pattern, known in _by_value(words)
    )
    return f"""\
#compdef duck
# zsh completion for duck: source <(duck completion zsh)
_duck() {{
    local -a commands=(
{names}
    )
    local command="" before="" at
    for ((at = 2; at < CURRENT; at++)); do case "$words[at]" in
        {"|".join(_BEFORE)}) ((at++)) ;;
        -*) ;;
        *) command="$words[at]"; break ;;
    esac; done
    ((CURRENT > 2)) && before="$words[CURRENT-1]"
    case "$command $before" in
{values}
    esac
    case "$command" in
        "")
            _describe command commands
            compadd -- --socket --config --json --version --help
            return ;;
{cases}
    esac
    _files
}}
compdef _duck duck"""


def _offer(known: list[str]) -> str:
    return f"compadd -- {' '.join(known)}" if known else "_files"


def _quoted(text: str) -> str:
    """Return *text* as it stands between single quotes of a shell."""
    return text.replace("'", "'\\''")


_FISH: Final = f"""\
# fish completion for duck: duck completion fish | source
function __duck_command
    set -l words (commandline -opc)[2..]
    while set -q words[1]
        switch $words[1]
            case {" ".join(_BEFORE)}
                set -e words[1]
                set -e words[1]
            case '-*'
                set -e words[1]
            case '*'
                echo $words[1]
                return
        end
    end
    return 1
end
function __duck_is
    set -l command (__duck_command); and test "$command" = "$argv[1]"
end
complete -c duck -n 'not __duck_command' -f -l version -d 'print the version'
complete -c duck -n 'not __duck_command' -f -l json -d 'print JSON'
complete -c duck -n 'not __duck_command' -f -l help"""


def _fish(words: list[_Words]) -> str:
    first = "-n 'not __duck_command'"
    lines = [_FISH, *(f"complete -c duck {first} -r -l {o[2:]}" for o in _BEFORE)]
    for w in words:
        about = w.help.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"complete -c duck {first} -f -a {w.command} -d '{about}'")
        here = f"-n '__duck_is {w.command}'"
        for option in w.options:
            known = w.values.get(option)
            after = f" -x -a '{' '.join(known)}'" if known else ""
            after = " -r" if known == [] else after
            lines.append(f"complete -c duck {here} -l {option[2:]}{after}")
        lines += [f"complete -c duck {here} -f -a {choice}" for choice in w.choices]
    return "\n".join(lines)


_SCRIPTS: Final[dict[str, Callable[[list[_Words]], str]]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
