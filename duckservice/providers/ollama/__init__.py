"""Ollama's own format: `OllamaDialect` speaks it."""
