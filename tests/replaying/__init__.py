"""Recorded traffic, replayed through real adapters and judged; see `tests.replay`."""
