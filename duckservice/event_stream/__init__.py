"""Events for outsiders: kept for whoever follows them, worded, and as JSON.

hub        the newest events, and who reads them
words      the word for each, and what may be kept of it
as_json    a line each
"""
