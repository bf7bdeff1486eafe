"""Google's Gemini: ``generateContent`` and what stands beside it, at two doors.

The Gemini API and Vertex AI speak the same format; where they listen and how they
are authenticated differs.
"""
