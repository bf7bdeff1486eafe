"""From what stands at `api_key` to the key itself, which no message shows.

env:NAME            the variable NAME; it must be set and not be empty
env:NAME:default    the same, or else the default; an empty one means no key
file:/path          the file's text; only its owner may be able to read it
credential:NAME     what systemd's LoadCredential has put there
anything else       the key itself, where the config file is private
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs

from duckservice.config import Secret
from duckservice.config_toml.refused import Refused
from duckservice.redaction import redact

_ALLOWED = '"env:NAME", "env:NAME:default", "file:/path" or "credential:NAME"'
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
_REFERENCES = ("env:", "file:", "credential:")
_BYTES_MAX = 64 * 1024
_KEY_CHARS_MAX = 8192
TOKEN_CHARS_MIN = 16
STAND_IN = "stand-in-for-a-secret-of-elsewhere-"
"""What a stand-in begins with; each is another."""


@attrs.frozen
class Sources:
    """Where secrets may come from."""

    environ: Mapping[str, str]
    literal: bool
    """Whether the config file is private, so that a key may stand in it."""
    elsewhere: list[str] | None = None
    """Takes what only another environment can tell, which is refused without it."""

    def put_off(self, refused: Refused) -> tuple[str, str]:
        """Return a stand-in for what is not to be had here, and note why; or raise."""
        if self.elsewhere is None:
            raise refused
        self.elsewhere.append(refused.found)
        return f"{STAND_IN}{len(self.elsewhere)}", "the stand-in"


def is_literal(value: object) -> bool:
    """Say whether *value* is a key itself, and no reference to one."""
    return isinstance(value, str) and not value.startswith(_REFERENCES)


def resolve(sources: Sources, value: object, *, blanks: bool = False) -> Secret | None:
    """Return the key that *value* refers to; None for a default that is empty.

    *blanks* says whether there may be any in it, as in a header's ``Bearer …``.
    """
    found = _find(sources, value)
    return None if found is None else _secret(*found, blanks=blanks)


def _find(sources: Sources, value: object) -> tuple[str, str] | None:
    """Return the key and where it was found; None for a default that is empty."""
    if not isinstance(value, str):
        raise Refused("something else than a string (not shown)", _ALLOWED)
    kind, _, rest = value.partition(":")
    match kind:
        case "env" if value != kind:
            return _from_environ(sources, rest)
        case "file" if value != kind:
            return _from_file(sources.environ, rest), "the file"
        case "credential" if value != kind:
            return _from_credentials(sources, rest)
        case _:
            return _literal(sources, value)


def read_token(path: Path) -> Secret:
    """Return the token in the private file at *path*, which clients have to show.

    systemd guards the files in its folder of credentials itself.

    Raises:
        Refused: the file is not there, others can read it, or it holds no token.
    """
    path = path.expanduser()
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    token = _read(path, private=not credentials or path.parent != Path(credentials))
    if len(token) < TOKEN_CHARS_MIN:
        raise Refused(
            f"fewer than {TOKEN_CHARS_MIN} characters in {redact(str(path))}",
            "a token that nobody guesses",
            hint="openssl rand -hex 32",
        )
    return _secret(token, "the file")


def _literal(sources: Sources, value: str) -> tuple[str, str]:
    if sources.literal:
        return value, "the value"
    raise refused_literal()


def refused_literal() -> Refused:
    """Return what is said of a secret itself in a file that others can read."""
    return Refused(
        "a literal key (not shown)",
        _ALLOWED,
        hint="a literal key needs a config file with mode 0600, owned by you",
    )


def _from_environ(sources: Sources, reference: str) -> tuple[str, str] | None:
    name, colon, default = reference.partition(":")
    if not _VARIABLE.fullmatch(name):
        raise Refused("no name of a variable after env: (not shown)", _ALLOWED)
    if value := sources.environ.get(name):
        return value, f"the variable {redact(name)}"
    if colon:
        return (default, "the default") if default else None
    state = "empty" if name in sources.environ else "not set"
    name = redact(name)
    return sources.put_off(
        Refused(
            f"env:{name}, and the variable {name} is {state}",
            f"{name} set to the key",
            hint=f'"env:{name}:" (an empty default) if the provider needs no key',
        )
    )


def _from_credentials(sources: Sources, name: str) -> tuple[str, str]:
    if not _CREDENTIAL.fullmatch(name):
        raise Refused("no name of a credential after credential:", _ALLOWED)
    directory = sources.environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory.startswith("/"):
        return sources.put_off(
            Refused(
                f"credential:{redact(name)}, and $CREDENTIALS_DIRECTORY is not set",
                "a credential under systemd",
                hint="LoadCredential= in the unit sets it",
            )
        )
    # systemd guards the folder itself; its files' mode shows an access list's
    # mask where other files show a group.
    return _read(Path(directory, name), private=False), "the credential"


def _from_file(environ: Mapping[str, str], path: str) -> str:
    home = environ.get("HOME", "")
    if home.startswith("/") and path.startswith("~/"):
        path = home + path[1:]
    if not path.startswith("/") or "\0" in path:
        raise Refused("a relative path after file:", '"file:/absolute/path"')
    return _read(Path(path), private=True)


def _read(path: Path, *, private: bool) -> str:
    """Return the text of a regular file, without one newline at its end."""
    where = redact(str(path))
    try:
        # Without O_NONBLOCK, a FIFO would hold the start up for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        problem = f"{where}, which cannot be opened ({error.strerror})"
        raise Refused(problem, "a file with the key") from None
    try:
        # The open file is asked, and not the path, which may point elsewhere by now.
        _check(os.fstat(fd), where, private=private)
        content = os.read(fd, _BYTES_MAX)
    finally:
        os.close(fd)
    try:
        return content.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError:
        raise Refused(f"{where}, which is not ASCII text", "a key") from None


def _check(status: os.stat_result, where: str, *, private: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{where}, which is not a regular file", "a file with the key")
    if not private:
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise Refused(
            f"{where}, which belongs to user {status.st_uid}",
            f"a file of user {os.geteuid()} or of root",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        others = "can read it" if mode & 0o044 else "have rights to it"
        raise Refused(
            f"{where} with mode {mode:04o}: others {others}",
            "a file for its owner alone",
            hint=f"chmod 600 {where}",
        )


def _secret(value: str, where: str, *, blanks: bool = False) -> Secret:
    least = " " if blanks else "!"
    if 0 < len(value) <= _KEY_CHARS_MAX and all(least <= c <= "~" for c in value):
        return Secret(value)
    kinds = "control or other" if blanks else "spaces, control or other"
    problem = "nothing" if not value else f"{kinds} characters"
    raise Refused(
        f"{problem} in {where} (not shown)",
        f"1 to {_KEY_CHARS_MAX} characters of printable ASCII"
        + ("" if blanks else " without spaces"),
    )
