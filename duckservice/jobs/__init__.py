"""Durable jobs, from their submission to the commit of what became of them.

jobs       what a client asks of them: submit, look, wait, follow, change
request, kinds, as_json
           what is submitted, read and checked, and jobs as the API shows them
run        the task that runs one; work: its request sent; attempts, deltas: its records
verdict    what becomes of a job after an error
outlook    whether it can run now, and if not, why and until when
news       every change of a state, told once it is committed
durable    how these are put together
"""
