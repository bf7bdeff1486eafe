"""Bench programs: a real daemon as a process, under more than it was made for."""
