"""A call: one request's way through its plan, and each attempt of it.

call       what surrounds a request: wishes, and the account of what was done
offers, planning
           what is on offer; whom to ask, in which order, and why
pursuit, racing
           who is asked, again, instead, as well, or no more
opening, permissions, attempt_money, attempt, asking
           one attempt: money set aside, the leave to send, the request, the settling
streaming, metering
           streams of replies, and what has been seen of one that breaks off
verdict, story
           what came of all attempts, and who is told
"""
