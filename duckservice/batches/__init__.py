"""Batches: files of many requests, run as durable jobs.

batches    what a client asks of them
run        the task that runs one: from the check of its file to the last result
check, lines, result, values
           the input's lines read and checked, the results written, what is kept
files      the files in the store
as_json    as the API shows them
"""
