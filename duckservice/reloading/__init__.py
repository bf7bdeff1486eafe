"""A config that was read again, taken over while requests are under way.

changes    what it changes, and what of that must wait
renewal    taking it over, all or nothing
retirement what it has replaced, kept until nobody uses it
"""
