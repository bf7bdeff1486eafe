"""OTP's own behaviour as recorded traces, and a player of them on this library.

`scenario` decodes a scenario into the library's specs, `play` plays it,
`normalise` puts into a fixed order what OTP leaves unordered, `compare` finds
the first difference. ``tests/otp_conformance.py`` is the program.
"""
