"""`duckd` with other time limits of its server: ``python -m tests.pressure.hasty``.

They are no keys of the configuration. What takes five minutes by the contract is tried
in seconds so; the limits are JSON in the variable `LIMITS`.
"""

from __future__ import annotations

import functools
import json
import os

from duckservice import daemon
from duckservice.gateway.limits import ServerLimits
from duckservice.start import main

LIMITS = "DUCK_PRESSURE_LIMITS"

if __name__ == "__main__":
    given = json.loads(os.environ.pop(LIMITS, "{}"))
    daemon.ServerLimits = functools.partial(ServerLimits, **given)  # type: ignore[misc]
    main()
