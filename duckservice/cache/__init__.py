"""The cache: equal requests are answered once, and replies are kept.

caching    the service with its cache
key        which requests are equal
flight, flights
           one call for several that wait for it
replies    what is kept, in memory and behind it in a file: file, table, as_json
reply, recording, streams
           a kept reply as a client gets it, and a stream on its way into the cache
"""
