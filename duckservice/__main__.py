"""``python -m duckservice`` is ``duckd``."""

from duckservice.start import main

main()
