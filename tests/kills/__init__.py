"""Accepted jobs survive: the real daemon is killed again and again, beside a judge."""
