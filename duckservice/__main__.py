"""``python -m duckservice`` is ``duckd``."""

from duckservice.daemon import main

main()
