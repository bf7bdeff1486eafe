"""How a config.toml becomes a `duckservice.config.Config`, or complaints.

Read `load` first: text to tables to values. `structure` carries the tables into
the values by their annotations, `scalars` knows what each marker allows,
`secrets` follows references to keys, `rules` holds what concerns several keys,
and `complaints` turns all that was refused into sentences.
"""
