"""An instrument for the length of a block, if that is inside a trio loop."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import trio


@contextmanager
def instrumented(*instruments: trio.abc.Instrument) -> Generator[None]:
    """Add *instruments* to the trio loop that runs here; do nothing outside of one.

    Whoever starts the loop inside the block gives them to it: `simulate` does.
    """
    with ExitStack() as stack:
        if trio.lowlevel.in_trio_run():
            for instrument in instruments:
                trio.lowlevel.add_instrument(instrument)
                stack.callback(trio.lowlevel.remove_instrument, instrument)
        yield
