"""What goes over the socket: bytes to values and back, without any I/O.

Read a request in `openai_chat`, `openai_responses`, `anthropic_messages`,
`openai_embeddings` or `openai_images`;
a reply is written by the `_reply` and `_stream` module of the same format.
"""
