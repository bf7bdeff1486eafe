"""`duck completion SHELL`: a script that completes commands, options and names.

Names are asked of the daemon when the key is pressed, by `names`. They are other
people's text, so no script has its shell expand them: no `compgen -W` in bash.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

from duckservice.cli import names
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
    names: dict[str, str]
    """The kind of the names that follow: an option, a step, or (empty) the command."""


_BEFORE: Final = ("--socket", "--config")
"""What may stand before the command, and has a value."""

NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    **{c: {"": "jobs"} for c in ("show", "wait", "follow", "result")},
    **{c: {"": f"jobs-to-{c}"} for c in ("cancel", "retry", "hold", "release")},
    **{c: {"--batch": "batches"} for c in ("jobs", "ls")},
    "batch": dict.fromkeys(("status", "results", "cancel"), "batches"),
    "budget": {"": "budgets"},
    "providers": dict.fromkeys(
        ("enable", "disable", "reset", "check", "--models"), "providers"
    ),
    "restart": {"": "actors"},
}
"""As `_Words.names`, by command. What is called ``model`` is a model everywhere."""


def _words(command: str, text: str, parser: argparse.ArgumentParser) -> _Words:
    words = _Words(command, text, [], [], {}, dict(NAMES.get(command, {})))
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        known = [str(choice) for choice in action.choices or ()]
        if not action.option_strings:
            words.choices.extend(known)
        # Of a command in steps (`duck batch run`), the options of all of its steps.
        if action.nargs == argparse.PARSER:
            steps = cast("Mapping[str, argparse.ArgumentParser]", action.choices)
            for inner in steps.values():
                below = _words("", "", inner)
                words.options.extend(o for o in below.options if o not in words.options)
                words.values.update(below.values)
                words.names.update(below.names)
        for option in action.option_strings:
            if option.startswith("--") and option not in words.options:
                words.options.append(option)
            if action.nargs != 0:
                words.values[option] = known
            if action.dest == "model":
                words.names[option] = "models"
    return words


class _Row(NamedTuple):
    """What stands on the line, as a pattern of `case`, and what may follow it."""

    pattern: str
    words: list[str]
    kind: str = ""


def _by_value(words: list[_Words]) -> list[_Row]:
    """Return patterns of a command and the option before the cursor."""
    found = [
        _Row(f'"{w.command} {option}"', known, w.names.get(option, ""))
        for w in words
        for option, known in w.values.items()
    ]
    return [*found, *(_Row(f'" {option}"', []) for option in _BEFORE)]


def _by_step(words: list[_Words]) -> list[_Row]:
    """Return patterns of a command and what stands behind it, where names follow."""
    return [
        _Row(f'"{w.command} {step}"' if step else f'"{w.command} "*', w.options, kind)
        for w in words
        for step, kind in w.names.items()
        if not step.startswith("-")
    ]


def _bash(words: list[_Words]) -> str:
    commands = " ".join(w.command for w in words)
    values = "\n".join(f"        {_set(row)}" for row in _by_value(words))
    steps = "\n".join(f"            {_set(row)}" for row in _by_step(words))
    cases = "\n".join(
        f"                {w.command}) words=({' '.join(w.choices + w.options)}) ;;"
        for w in words
    )
    return f"""\
# bash completion for duck: eval "$(duck completion bash)"
_duck() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" last=-1 at word cut
    local current before="" lead="" command="" step="" socket="" config="" kind=""
    local -a typed=() words=()
    # Bash begins a word at : and = as well; what has no blank before it is one word.
    for word in "${{COMP_WORDS[@]:0:COMP_CWORD+1}}"; do
        if [[ $last -ge 0 && -n $line && $line != [[:space:]]* ]]; then
            typed[last]+="$word"
        else
            typed[++last]="$word"
        fi
        line="${{line#*"$word"}}"
    done
    current="${{typed[last]}}"
    for ((at = 1; at < last; at++)); do case "${{typed[at]}}" in
        --socket) socket="${{typed[++at]}}" ;;
        --config) config="${{typed[++at]}}" ;;
        --socket=*) socket="${{typed[at]#*=}}" ;;
        --config=*) config="${{typed[at]#*=}}" ;;
        -*) ;;
        *) if [[ -z $command ]]; then command="${{typed[at]}}"
           elif [[ -z $step ]]; then step="${{typed[at]}}"; fi ;;
    esac; done
    ((last > 1)) && before="${{typed[last - 1]}}"
    [[ $current == --*=* ]] && before="${{current%%=*}}" lead="${{current%%=*}}="
    case "$command $before" in
{values}
        *) [[ -z $lead ]] && case "$command $step" in
{steps}
            *) case "$command" in
{cases}
                "") words=({commands} --socket --config --json --version --help) ;;
            esac ;;
        esac ;;
    esac
    if [[ -n $kind && ${{current#"$lead"}} != -* ]]; then
        while IFS= read -r word; do
            [[ -n $word ]] && words+=("$word")
        done <<< "$(command duck {names.COMMAND} "$kind" "$socket" "$config" \\
            < /dev/null 2> /dev/null)"
    fi
    # What stands up to the last of those is there already, and is not to come again.
    cut="$current"
    while [[ -n $cut && $COMP_WORDBREAKS != *"${{cut: -1}}"* ]]; do cut="${{cut%?}}"; done
    COMPREPLY=()
    for word in "${{words[@]}}"; do
        [[ $lead$word == "$current"* ]] || continue
        word="$lead$word"
        COMPREPLY+=("${{word#"$cut"}}")
    done
}}
complete -o default -F _duck duck"""


def _set(row: _Row) -> str:
    kind = f" kind={row.kind}" if row.kind else ""
    return f"{row.pattern}) words=({' '.join(row.words)}){kind} ;;"


def _zsh(words: list[_Words]) -> str:
    commands = "\n".join(f"        '{w.command}:{_quoted(w.help)}'" for w in words)
    values = "\n".join(
        f"        {row.pattern}) {_offer(row)}; return ;;" for row in _by_value(words)
    )
    steps = "\n".join(
        f"        {row.pattern}) {_offer(row)}; return ;;" for row in _by_step(words)
    )
    cases = "\n".join(
        f"        {w.command}) compadd -- {' '.join(w.choices + w.options)} ;;"
        for w in words
    )
    return f"""\
#compdef duck
# zsh completion for duck: source <(duck completion zsh)
__duck_names() {{
    [[ ${{PREFIX-}} == -* ]] && return
    compadd -- ${{(f)"$(command duck {names.COMMAND} "$1" "$socket" "$config" \\
        < /dev/null 2> /dev/null)"}}
}}
_duck() {{
    local -a commands=(
{commands}
    )
    local command="" step="" before="" socket="" config="" word at
    for ((at = 2; at < CURRENT; at++)); do word="${{(Q)words[at]}}"; case "$word" in
        --socket) ((++at)); socket="${{(Q)words[at]}}" ;;
        --config) ((++at)); config="${{(Q)words[at]}}" ;;
        --socket=*) socket="${{word#*=}}" ;;
        --config=*) config="${{word#*=}}" ;;
        -*) ;;
        *) if [[ -z $command ]]; then command="$word"
           elif [[ -z $step ]]; then step="$word"; fi ;;
    esac; done
    ((CURRENT > 2)) && before="$words[CURRENT-1]"
    if [[ $words[CURRENT] == --*=* ]]; then
        before="${{words[CURRENT]%%=*}}"
        compset -P "$before="
    fi
    case "$command $before" in
{values}
    esac
    case "$command $step" in
{steps}
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


def _offer(row: _Row) -> str:
    offers = [f"__duck_names {row.kind}"] if row.kind else []
    offers += [f"compadd -- {' '.join(row.words)}"] if row.words else []
    return "; ".join(offers) or "_files"


def _quoted(text: str) -> str:
    """Return *text* as it stands between single quotes of a shell."""
    return text.replace("'", "'\\''")


_FISH: Final = f"""\
# fish completion for duck: duck completion fish | source
function __duck_words
    set -l words (commandline -opc)[2..]
    while set -q words[1]
        switch $words[1]
            case {" ".join(_BEFORE)}
                set -e words[1]
                set -q words[1]; and set -e words[1]
            case '-*'
                set -e words[1]
            case '*'
                printf '%s\\n' $words[1]
                set -e words[1]
        end
    end
end
function __duck_begins
    test (count (__duck_words)) -eq 0
end
function __duck_is
    set -l words (__duck_words)
    test "$words[1]" = "$argv[1]"; or return
    set -q argv[2]; or return 0
    contains -- "$words[2]" $argv[2..]
end
function __duck_value
    set -l words (commandline -opc)[2..]
    set -l value ""
    for at in (seq (count $words))
        if test "$words[$at]" = "$argv[1]"
            set value "$words[$(math $at + 1)]"
        else if string match -q -- "$argv[1]=*" "$words[$at]"
            set value (string replace -- "$argv[1]=" "" "$words[$at]")
        end
    end
    printf '%s\\n' "$value"
end
function __duck_names
    set -l socket (__duck_value --socket)
    set -l config (__duck_value --config)
    command duck {names.COMMAND} $argv[1] "$socket" "$config" </dev/null 2>/dev/null
end
complete -c duck -n __duck_begins -f -l version -d 'print the version'
complete -c duck -n __duck_begins -f -l json -d 'print JSON'
complete -c duck -n __duck_begins -f -l help"""


def _fish(words: list[_Words]) -> str:
    first = "-n __duck_begins"
    lines = [_FISH, *(f"complete -c duck {first} -r -l {o[2:]}" for o in _BEFORE)]
    for w in words:
        about = w.help.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"complete -c duck {first} -f -a {w.command} -d '{about}'")
        lines += _fish_options(w)
        lines += _fish_words(w)
    return "\n".join(lines)


def _fish_options(w: _Words) -> list[str]:
    lines: list[str] = []
    for option in {**dict.fromkeys(w.options), **w.names}:
        if not option.startswith("-"):
            continue
        known, kind = w.values.get(option), w.names.get(option)
        after = f" -x -a '{' '.join(known)}'" if known else ""
        after = " -r" if known == [] else after
        after = f" -x -a '(__duck_names {kind})'" if kind else after
        name = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
        lines.append(f"complete -c duck -n '__duck_is {w.command}' {name}{after}")
    return lines


def _fish_words(w: _Words) -> list[str]:
    here = f"__duck_is {w.command}"
    lines: list[str] = []
    for step, kind in w.names.items():
        if not step.startswith("-"):
            at = f"-n '{here} {step}'" if step else f"-n '{here}'"
            lines.append(f"complete -c duck {at} -f -a '(__duck_names {kind})'")
    steps = " ".join(step for step in w.names if step and not step.startswith("-"))
    at = f"-n '{here}; and not {here} {steps}'" if steps else f"-n '{here}'"
    return [*lines, *(f"complete -c duck {at} -f -a {c}" for c in w.choices)]


_SCRIPTS: Final[dict[str, Callable[[list[_Words]], str]]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
