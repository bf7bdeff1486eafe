"""A fault bench: the user's own config against upstreams that fail in every known way.

    stand_ins   the config file, read with stand-ins in the place of every secret
    rehearsal   the daemon's config from it: shorter times, upstreams on loopback
    reach       which model to ask, so that as many providers as can be are behind it
    wires       what a healthy provider says, and how it refuses, in each format
    faults      what a sick one does instead
    upstream    the HTTP server that does it, and writes down every call
    client      asks the daemon over its socket, and writes down every byte
    judge       the verdict, from what the client has seen and the upstreams' log
    scenarios   which fault hits whom; `load` has those of many requests
    bench       runs them all

The judge knows nothing of the daemon but the contract: it reads the client's bytes
and the upstreams' log, and asks the daemon nothing.
"""
