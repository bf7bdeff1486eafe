"""`duck`: the client on the command line.

Read `program` for the way of a command, `parser` for what there is, and then one
file per command. Everything here is imported when `duck` starts, so what is slow
to import (rich, trio, cattrs) is imported inside the function that needs it.
"""

from duckservice.cli.program import main as main
