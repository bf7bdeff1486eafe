"""The API as an OpenAPI document: data by area, put together in `document`.

`tests/openapi` holds it against the routes, and against what a daemon answers.
"""
