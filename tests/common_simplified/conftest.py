"""A tiny random Gemma-2 and its prompts, shared by the tests of the core."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer
from tests.common_simplified.fixtures import write_model

PROMPTS = (
    "Write a function to add two numbers.\n\nassert add(1, 2) == 3\n\n# Solution:",
    "Short.\n\n# Solution:",
    "Write a python function to find the last element that is not zero.\n\nassert last([1, 0]) == 1\n\n# Solution:",
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random Gemma-2 of four layers that writes varied text.

    A random model with tied embeddings repeats its last token; here the blocks outweigh the embedding, and attention
    logits are large enough to meet the soft-cap.
    """
    path = write_model(tmp_path_factory.mktemp("tiny") / "model", n_layers=4, hidden_size=32)
    loaded = load_model_and_tokenizer(str(path), device="cpu")
    source = torch.Generator().manual_seed(0)
    for block in loaded.model.model.layers:
        attention, mlp = block.self_attn, block.mlp
        for norm in (block.post_attention_layernorm, block.post_feedforward_layernorm):
            norm.weight.fill_(4.0)
        for part in (attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj):
            part.weight.normal_(0, 0.5, generator=source)
        for part in (attention.q_proj, attention.k_proj):
            part.weight.normal_(0, 1.2, generator=source)
    with torch.no_grad():
        loaded.model.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model_and_tokenizer(str(tiny_model), device="cpu")
