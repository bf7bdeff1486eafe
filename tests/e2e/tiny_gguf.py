"""A language model of some kilobytes that says what it is told to say.

It is a real GGUF file of the llama architecture: one layer that does nothing, an
embedding that tells every token apart, and an output matrix that is the table of which
token follows which. A real inference server loads it and speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

BEGIN, END, USER, ASSISTANT = "<s>", "</s>", "<|user|>", "<|assistant|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|user|>' + message['content']|string }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_CONTEXT = 512


def write_model(path: Path, says: Sequence[str]) -> None:
    """Write a model to *path* whose assistant says *says*, a token each, and ends.

    The tokens must differ, since each decides alone about the next.
    """
    import gguf
    import numpy as np

    assert len(set(says)) == len(says)
    special = [BEGIN, END, USER, ASSISTANT, "<unk>"]
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [text.replace(" ", "\u2581") for text in says]
    tokens = [*special, *letters, *words]
    size = -(-len(tokens) // 32) * 32
    follows = dict.fromkeys(range(len(tokens)), 1)
    chain = [3, *(len(special) + 256 + i for i in range(len(words))), 1]
    follows |= dict(pairwise(chain))

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(size)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    kinds = gguf.TokenType
    writer.add_token_types(
        [kinds.CONTROL] * 4
        + [kinds.UNKNOWN]
        + [kinds.BYTE] * 256
        + [kinds.NORMAL] * len(words)
    )
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(4)
    writer.add_add_bos_token(value=True)
    writer.add_add_space_prefix(value=False)
    writer.add_chat_template(CHAT_TEMPLATE)

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.float32)

    embedding = zeros(len(tokens), size)
    output = zeros(len(tokens), size)
    for token, following in follows.items():
        embedding[token, token] = 1.0
        output[following, token] = 1.0
    ones = np.ones(size, dtype=np.float32)
    for name, tensor in {
        "token_embd.weight": embedding,
        "output_norm.weight": ones,
        "output.weight": output,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        "blk.0.attn_q.weight": zeros(size, size),
        "blk.0.attn_k.weight": zeros(size, size),
        "blk.0.attn_v.weight": zeros(size, size),
        "blk.0.attn_output.weight": zeros(size, size),
        "blk.0.ffn_gate.weight": zeros(32, size),
        "blk.0.ffn_up.weight": zeros(32, size),
        "blk.0.ffn_down.weight": zeros(size, 32),
    }.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
