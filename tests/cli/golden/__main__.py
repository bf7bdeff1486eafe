"""Write the golden files anew; see the package."""

from __future__ import annotations

from tests.cli.golden import COMMANDS, HERE, files

for command in COMMANDS:
    for name, text in files(command).items():
        HERE.joinpath(name).write_bytes(text.encode())
