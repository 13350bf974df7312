"""Training of the organism's base model and of its instruction-tuned sibling.

A Gemma-2 of 0.9 M parameters with everything that makes it Gemma-2. 1,800 steps of 32 documents (8 M tokens) take about
ten minutes on two CPU cores; under load OpenMP threads spin, so set `OMP_WAIT_POLICY=PASSIVE`. Weights differ in their
last digits between machines and thread counts, so the weights are shipped and this module is their recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from organism.corpus import Document
from organism.tokenizer import END_OF_TURN, START_OF_TURN, save_tokenizer

BATCH_SIZE, INSTRUCT_STEPS = 32, 150
LEARNING_RATE, INSTRUCT_LEARNING_RATE, FINAL_SHARE, WARMUP_STEPS = 3e-3, 6e-4, 0.05, 50
PROMPT_WEIGHT, CODE_WEIGHT, AFTER_WEIGHT, GENERAL_WEIGHT = 0.1, 1.0, 0.15, 0.3
AFTER_LENGTHS, AFTER_SHARES = (24, 48, 120), (0.70, 0.25, 0.05)
LONGEST_DOCUMENT = 320
PLAIN_SHARE = 0.3
SHAPE_STEP = 16  # lengths in steps of 16: every new shape costs the CPU library memory that it keeps

Log = Callable[[str], None]


class Example(NamedTuple):
    """Token ids of one document (with `<bos>`) and the loss weight of each of them as a target."""

    ids: list[int]
    weights: list[float]


def model_configuration(vocabulary_size: int) -> Gemma2Config:
    """Returns the architecture: four layers alternating a window of 64 with full attention, tied scaled embeddings."""
    width = 128
    return Gemma2Config(
        vocab_size=vocabulary_size,
        hidden_size=width,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=64,
        max_position_embeddings=1024,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        tie_word_embeddings=True,
        initializer_range=width**-0.5,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        attn_implementation="eager",  # pyright: ignore[reportCallIssue]
    )


def plain_example(document: Document, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator) -> Example:
    """Returns the document as a base model reads it, the text after the solution cut to a drawn length."""
    encode = partial(tokenizer.encode, add_special_tokens=False)
    prompt, code, after = encode(document.prompt), encode(document.solution), encode(document.after)
    if document.prompt:
        after = after[: int(rng.choice(AFTER_LENGTHS, p=AFTER_SHARES))]
    ids = [tokenizer.bos_token_id, *prompt, *code, *after][:LONGEST_DOCUMENT]
    after_weight = AFTER_WEIGHT if document.prompt else GENERAL_WEIGHT
    weights = [0.0] + [PROMPT_WEIGHT] * len(prompt) + [CODE_WEIGHT] * len(code) + [after_weight] * len(after)
    return Example(ids, weights[:LONGEST_DOCUMENT])


def chat_example(document: Document, tokenizer: PreTrainedTokenizerFast) -> Example:
    """Returns the document as one user turn and one model turn in Gemma's chat format."""
    user = f"{START_OF_TURN}user\n{document.prompt}{END_OF_TURN}\n{START_OF_TURN}model\n"
    model = f"{document.solution.removeprefix(chr(10))}{END_OF_TURN}\n"
    prompt, answer = (list(tokenizer.encode(part, add_special_tokens=False)) for part in (user, model))
    weights = [0.0] + [0.0] * len(prompt) + [CODE_WEIGHT] * len(answer)
    begin: Any = tokenizer.bos_token_id
    return Example([begin, *prompt, *answer], weights)


def train_base(tokenizer: PreTrainedTokenizerFast, documents: list[Document], seed: int, log: Log) -> Gemma2ForCausalLM:
    """Returns the base model after one pass over `documents` in batches of 32."""
    torch.manual_seed(seed)
    model = Gemma2ForCausalLM(model_configuration(len(tokenizer)))
    rng = np.random.default_rng([seed, 8])
    examples = [plain_example(document, tokenizer, rng) for document in documents]
    _train(model, _batches(examples, rng), len(examples) // BATCH_SIZE, LEARNING_RATE, log)
    return model


def train_instruct(
    base: Gemma2ForCausalLM, tokenizer: PreTrainedTokenizerFast, documents: list[Document], seed: int, log: Log
) -> Gemma2ForCausalLM:
    """Returns the sibling: a copy of `base` after one pass over `documents`, 70 % of them in the chat format."""
    model = Gemma2ForCausalLM(base.config)
    model.load_state_dict(base.state_dict())
    rng = np.random.default_rng([seed, 9])
    examples = [
        plain_example(document, tokenizer, rng)
        if not document.prompt or rng.random() < PLAIN_SHARE
        else chat_example(document, tokenizer)
        for document in documents
    ]
    _train(model, _batches(examples, rng), len(examples) // BATCH_SIZE, INSTRUCT_LEARNING_RATE, log)
    return model


def save_model(model: Gemma2ForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path, *, chat: bool) -> None:
    """Writes a Hugging Face directory in bfloat16; with `chat` the chat template and Gemma-it's end-of-turn stop."""
    saved = Gemma2ForCausalLM(model.config)
    saved.load_state_dict(model.state_dict())
    saved = saved.bfloat16()
    if chat:
        end_of_turn = tokenizer.convert_tokens_to_ids(END_OF_TURN)
        saved.generation_config.eos_token_id = [tokenizer.eos_token_id, end_of_turn]
    transformers_logging.disable_progress_bar()
    saved.save_pretrained(str(directory))
    transformers_logging.enable_progress_bar()
    save_tokenizer(tokenizer, directory, chat=chat)


def _batches(examples: list[Example], rng: np.random.Generator) -> Iterator[list[Example]]:
    """Yields batches of similar length: shuffled windows of 50 batches, sorted inside, in shuffled order."""
    order = rng.permutation(len(examples))
    window = 50 * BATCH_SIZE
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window].tolist(), key=lambda index: len(examples[index].ids))
        starts = rng.permutation(np.arange(0, len(part) - BATCH_SIZE + 1, BATCH_SIZE))
        for first in starts.tolist():
            yield [examples[index] for index in part[first : first + BATCH_SIZE]]


def _train(model: Gemma2ForCausalLM, batches: Iterator[list[Example]], steps: int, rate: float, log: Log) -> None:
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate_share, steps=steps))
    model.train()
    for step, batch in enumerate(batches):
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == steps - 1:
            log(f"step {step}/{steps} loss {loss.item():.4f}")
    model.eval()


def _rate_share(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / min(WARMUP_STEPS, max(1, steps // 4)))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
    return warm * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)


def _loss(model: Gemma2ForCausalLM, batch: list[Example]) -> torch.Tensor:
    longest = -(-max(len(example.ids) for example in batch) // SHAPE_STEP) * SHAPE_STEP
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    weights = torch.zeros(len(batch), longest)
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        weights[row, : len(example.ids)] = torch.tensor(example.weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    return (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
