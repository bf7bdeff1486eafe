"""The process among others: what it gives up, tells the system, and says of itself.

hardening  what it gives up at its start
systemd, watchdog
           what it tells systemd
standard_error
           a stderr that nobody reads does not stop it
dump       what it does just now, for whoever looks for a fault
"""
