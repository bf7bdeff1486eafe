"""OTP's own behaviour as recorded traces, and a player of them on this library.

`scenario` decodes a scenario into the library's specs, `play` plays it,
`normalise` puts into a fixed order what OTP leaves unordered, `compare` finds
the first difference, `judge` gives the verdict, `grammar` names what is beyond
the player. ``tests/otp_conformance.py`` is the program.

`model` is the oracle for scenarios that nobody has recorded; `generate` writes
them. ``vectors-open.json.gz`` holds the recorded traces, ``vectors-quirks.json.gz``
those that a library should not match.
"""
