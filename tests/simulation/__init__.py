"""The whole service in memory for thousands of virtual minutes, and a judge beside it.

python -m tests.simulation --world outage --policy default

The real tree runs under a virtual clock. Its providers are simulated where an adapter
would be; each keeps its own clock, its own window and its own bill (`upstream`), and
has weather (`weather`). The same orders (`load`) go through the service (`daemon`) or
through plain clients that make well-known mistakes (`naive`). The judge (`judge`)
sees every call and every end, and holds them against `docs/promises.md`.
"""
