"""Cohere's format, version 2 of its API: `CohereDialect` speaks it."""
