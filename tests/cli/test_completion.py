"""`duck completion`: what real shells offer after it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from duckservice.cli.parser import COMMANDS, build

CASES = {
    ("duck", "to"): {"top"},
    ("duck", "--json", "sta"): {"status"},
    ("duck", "--socket", "tree", "sta"): {"status"},
    ("duck", "cost", "--by", ""): {"provider", "model", "day", "hour", "total"},
    ("duck", "--json", "cost", "--by", "d"): {"day"},
    ("duck", "jobs", "--state", "e"): {"executing", "expired"},
    ("duck", "providers", "e"): {"enable"},
    ("duck", "queue", "pa"): {"pause"},
    ("duck", "top", "--in"): {"--interval"},
    ("duck", "batch", "run", "--ord"): {"--ordered"},
    ("duck", "batch", "re"): {"results"},
    ("duck", "completion", "z"): {"zsh"},
    ("duck", "chaos", "--on"): {"--only"},
}


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def offers(shell: str, script: str, words: tuple[str, ...]) -> set[str]:
    """Return what *shell* offers for the last of *words*."""
    ask = _ASK[shell]
    done = subprocess.run(
        [*_START[shell], f"{ask[0]}\n{script}\n{ask[1]}", shell, *words],
        check=True, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.stderr == ""
    found = {line.split("\t")[0] for line in done.stdout.splitlines()}
    return {word for word in found if word.startswith(words[-1])}


_START = {
    "bash": ["bash", "--norc", "-c"],
    "zsh": ["zsh", "-f", "-c"],
    "fish": ["fish", "--no-config", "-c"],
}
_ASK = {
    # What completes is what `complete` was told, as it is by the shell itself.
    "bash": (
        "",
        """COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        [[ $(complete -p duck) == *-F\\ _duck* ]] && _duck
        printf "%s\\n" "${COMPREPLY[@]}" """,
    ),
    # Its widgets need a terminal; these stand for them, and print what they are given.
    "zsh": (
        """compdef() { [[ $1 == _duck && $2 == duck ]] }; _files() { }
        compadd() { shift; print -rl -- "$@" }
        _describe() { print -rl -- "${(@)${(P)2}%%:*}" }""",
        'words=("$@"); CURRENT=$#; _duck',
    ),
    "fish": ("", 'complete -C "$argv[2..]"'),
}


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_the_shell_offers_what_may_follow(duck, shell, words) -> None:
    script = duck("completion", shell).out
    assert offers(shell, script, words) == CASES[words]


def test_each_command_can_be_completed_with_each_of_its_options(duck, shell) -> None:
    script = duck("completion", shell).out
    names = {command.name for command in COMMANDS}
    assert names <= offers(shell, script, ("duck", ""))
    choices = build()._subparsers._group_actions[0].choices
    for name in ("top", "jobs", "events"):
        options = {
            option
            for action in choices[name]._actions
            for option in action.option_strings
            if option.startswith("--")
        }
        assert options <= offers(shell, script, ("duck", name, "--"))


def test_nothing_is_offered_for_what_nobody_knows(duck) -> None:
    script = duck("completion", "bash").out
    assert offers("bash", script, ("duck", "top", "--interval", "")) <= {""}
    assert offers("bash", script, ("duck", "--socket", "")) <= {""}
