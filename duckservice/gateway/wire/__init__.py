"""What goes over the socket: bytes to values and back, without any I/O.

Read a request in `openai_chat`, `anthropic_messages` or `openai_embeddings`;
a reply is written by the `_reply` and `_stream` module of the same format.
"""
