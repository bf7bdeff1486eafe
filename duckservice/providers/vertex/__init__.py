"""Vertex AI: Gemini's format at another door, and Claude's behind it."""
