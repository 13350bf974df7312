"""Traps that cost silently: each test here fails where one is put back that no other test of the core would notice.

The others stand beside what they guard: hooks that come after compilation and steps that are not counted in
`test_steered_generation`, batch row 0 and the normalised last state in `test_activation_hooks`, padding and BOS in
`test_steering` and `test_model_loader`, conditions that share a batch in `test_generation_work`, SAEs in
`test_sae_loader`.
"""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from common.profiles import REPOSITORY
from common.runs.tables import EVALUATION_SCHEMA, GENERATION_SCHEMA, generation_table
from common.statistics.feature_tests import auroc_from_ranks, rank_sums
from common_simplified.generation import GenerationEngine, Request
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer
from common_simplified.sae_fit import read_prompts
from common_simplified.sampling import SampleKey
from common_simplified.sites import HookPoint
from common_simplified.steering import Steering
from common_simplified.stopping import RowStopper, newline_tokens
from tests.common_simplified.conftest import PROMPTS

pytestmark = pytest.mark.numeric
NEW_TOKENS = 12
POINT = HookPoint(2, "resid_post")


def never(text: str) -> bool:
    return False


def greedy(loaded: LoadedModel, prompts: tuple[str, ...] = PROMPTS, **options: Any) -> list[Any]:
    engine = GenerationEngine(loaded, **{"max_new_tokens": NEW_TOKENS, **options})
    engine._end_tokens = frozenset()
    return engine.generate([Request(prompt, never) for prompt in prompts]).rows


@contextmanager
def rows_of_passes(loaded: LoadedModel) -> Iterator[list[int]]:
    """Yields how many rows each forward pass works on."""
    seen: list[int] = []
    block = loaded.model.model.layers[0]
    handle = block.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    try:
        yield seen
    finally:
        handle.remove()


def calls_in_product() -> set[str]:
    """Returns every attribute, function and keyword that the product's code names in a call."""
    found: set[str] = set()
    folders = ("cli", "common", "common_simplified", "launcher", "experiment_pathway_token_analysis")
    files = [path for folder in (*folders, *(p.name for p in REPOSITORY.glob("phase*"))) for path in _python(folder)]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found |= {name, *(keyword.arg or "" for keyword in node.keywords)}
    return found


def _python(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


@pytest.mark.parametrize(
    "name",
    [
        "generate_batch",
        "init_continuous_batching",
        "stop_strings",
        "multinomial",
        "manual_seed",
        "set_seed",
        "fold_W_dec_norm",
        "from_pretrained_no_processing",
    ],
)
def test_what_is_known_to_be_silently_wrong_or_slow_is_called_nowhere(name: str) -> None:
    """Continuous batching drops the soft-cap, `stop_strings` costs seconds a call, global seeds depend on order."""
    called = calls_in_product()
    assert {"GenerationEngine", "from_pretrained"} <= called
    assert name not in called


def lacking_attention(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """What the first block's attention gives too little: computed by hand with cap · tanh(q·k · scale / cap)."""
    seen: dict[str, torch.Tensor] = {}
    attention = model.model.layers[0].self_attn
    handle = attention.register_forward_hook(
        lambda module, args, kwargs, output: seen.update(kwargs=kwargs["hidden_states"], output=output[0]),
        with_kwargs=True,
    )
    try:
        with torch.no_grad():
            model(input_ids=ids)
    finally:
        handle.remove()
    return _by_hand(model, attention, seen["kwargs"]) - seen["output"]


def _by_hand(model: Any, attention: Any, x: torch.Tensor) -> torch.Tensor:
    from transformers.models.gemma2.modeling_gemma2 import apply_rotary_pos_emb

    cap, config, n = model.config.attn_logit_softcapping, model.config, x.shape[1]
    assert cap == 50.0
    shape = (1, n, -1, config.head_dim)
    q, k, v = (part(x).view(shape).transpose(1, 2) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    cos, sin = model.model.rotary_emb(x, torch.arange(n).unsqueeze(0))
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    groups = config.num_attention_heads // config.num_key_value_heads
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) * config.query_pre_attn_scalar**-0.5
    scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
    return attention.o_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(1, n, -1))


def test_a_loaded_gemma_2_computes_its_attention_with_the_soft_cap(loaded: LoadedModel) -> None:
    ids = loaded.tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(
            lacking_attention(loaded.model, ids), torch.zeros(1, ids.shape[1], 32), atol=1e-4, rtol=0
        )


@pytest.fixture(scope="module")
def in_bfloat16(tiny_model: Path) -> LoadedModel:
    return load_model_and_tokenizer(str(tiny_model), "cpu", "bfloat16")


def test_positions_of_a_left_padded_row_begin_at_its_first_real_token(in_bfloat16: LoadedModel) -> None:
    """Without them a row is rotated further, which float32 forgives (rotation is relative) and bfloat16 does not."""
    seen: list[torch.Tensor] = []
    rotary = in_bfloat16.model.model.rotary_emb
    handle = rotary.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("position_ids", args[-1])), with_kwargs=True
    )
    try:
        greedy(in_bfloat16)
    finally:
        handle.remove()
    encoded = GenerationEngine(in_bfloat16, max_new_tokens=1).encode(PROMPTS)
    prefill, *steps = seen
    for row, mask in enumerate(encoded["attention_mask"].bool()):
        length = int(mask.sum())
        assert prefill.expand(len(PROMPTS), -1)[row][mask].tolist() == list(range(length))
        assert [int(step.expand(len(PROMPTS), -1)[row]) for step in steps] == list(range(length, length + len(steps)))


def test_vectors_of_padded_prompts_in_bfloat16_are_those_of_the_prompts_alone(in_bfloat16: LoadedModel) -> None:
    together = read_prompts(in_bfloat16, PROMPTS, [POINT])
    for row, prompt in enumerate(PROMPTS):
        alone = read_prompts(in_bfloat16, [prompt], [POINT]).streams[POINT]
        stream = together.streams[POINT][together.owner == row]
        away = (stream - alone).norm(dim=1) / alone.norm(dim=1)
        assert float(away.median()) < 0.01, f"prompt {row}: {away}"


def test_rows_that_are_finished_leave_the_batch(loaded: LoadedModel) -> None:
    engine = GenerationEngine(loaded, max_new_tokens=NEW_TOKENS)
    engine._newlines, engine._end_tokens = frozenset(range(len(loaded.tokenizer))), frozenset()
    requests = [Request(PROMPTS[row % 3], never if row == 7 else lambda text: len(text) >= 3) for row in range(8)]
    with rows_of_passes(loaded) as seen:
        engine.generate(requests)
    assert seen[0] == 3 and seen[1] == 8
    assert seen[-1] == 1 and len(seen) == NEW_TOKENS


def test_the_global_generator_is_neither_read_nor_moved(loaded: LoadedModel) -> None:
    requests = [Request(PROMPTS[row], never, SampleKey(1, row, 0.8, 0)) for row in range(3)]
    drawn = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
        drawn.append([row.tokens for row in GenerationEngine(loaded, max_new_tokens=8).generate(requests, 0.8).rows])
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[union-attr]
    assert drawn[0] == drawn[1]


def test_sampling_draws_one_number_a_row_and_no_noise_over_the_vocabulary(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common_simplified import generation

    sizes: list[int] = []
    original = generation.sample

    def counted(logits: torch.Tensor, temperature: float, draws: torch.Tensor) -> torch.Tensor:
        sizes.append(draws.numel())
        return original(logits, temperature, draws)

    monkeypatch.setattr(generation, "sample", counted)
    requests = [Request(PROMPTS[row], never, SampleKey(1, row, 0.8, 0)) for row in range(3)]
    GenerationEngine(loaded, max_new_tokens=4).generate(requests, 0.8)
    assert sizes == [3] * 4


class CountingTokenizer:
    """Counts what is asked of a tokenizer of one character a token."""

    def __init__(self) -> None:
        self.decoded = self.listed = 0

    def __len__(self) -> int:
        return 256

    def convert_ids_to_tokens(self, ids: Any) -> list[str]:
        self.listed += 1
        return [chr(index) for index in ids]

    def decode(self, ids: list[int], **_: Any) -> str:
        self.decoded += 1
        return "".join(map(chr, ids))


def test_a_row_is_looked_at_only_where_its_newest_token_ends_a_line_or_begins_one() -> None:
    tokenizer = CountingTokenizer()
    stopper = RowStopper(tokenizer, newline_tokens(tokenizer), never)
    text = "def f(x):\n    return x + 1\n\nprint(f(1))"
    for end in range(1, len(text) + 1):
        stopper.is_done([ord(letter) for letter in text[:end]])
    newlines = text.count("\n")
    assert newlines < tokenizer.decoded <= 2 * newlines


def test_the_vocabulary_is_looked_through_once_an_engine_and_not_once_a_batch(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[int] = []
    original = type(loaded.tokenizer).convert_ids_to_tokens

    def counted(self: Any, ids: Any, *more: Any, **named: Any) -> Any:
        listed.append(1)
        return original(self, ids, *more, **named)

    monkeypatch.setattr(type(loaded.tokenizer), "convert_ids_to_tokens", counted)
    engine = GenerationEngine(loaded, max_new_tokens=2)
    for _ in range(3):
        engine.generate([Request(prompt, never) for prompt in PROMPTS])
    assert len(listed) == 1


def test_a_stop_in_the_prompt_stops_nothing(loaded: LoadedModel) -> None:
    asked: list[str] = []

    def finished(text: str) -> bool:
        asked.append(text)
        return "assert" in text

    engine = GenerationEngine(loaded, max_new_tokens=NEW_TOKENS)
    engine._newlines, engine._end_tokens = frozenset(range(len(loaded.tokenizer))), frozenset()
    (row,) = engine.generate([Request(PROMPTS[0], finished)]).rows
    assert "assert" in PROMPTS[0] and row.stop_reason == "max_new_tokens"
    assert asked and not any(text.startswith("Write") for text in asked)


def test_generating_does_not_import_sae_lens(tiny_model: Path) -> None:
    code = (
        "import sys\n"
        "from common_simplified.generation import GenerationEngine, Request\n"
        "from common_simplified.generation_runner import GenerationRunner\n"
        "from common_simplified.steering_runner import SteeringRunner\n"
        "from common_simplified.model_loader import load_model_and_tokenizer\n"
        f"loaded = load_model_and_tokenizer({str(tiny_model)!r}, 'cpu')\n"
        "GenerationEngine(loaded, max_new_tokens=2).generate([Request('a', lambda _: False)])\n"
        "print(sorted({'sae_lens', 'transformer_lens'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def python_calls(n_features: int) -> int:
    """Returns how many function calls, of Python and of C, the areas of so many features take."""
    values = np.maximum(np.random.default_rng(0).standard_normal((40, n_features)), 1.0).astype(np.float32) - 1
    labels = np.arange(40) % 2 == 0
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:  # noqa: ARG001
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        auroc_from_ranks(rank_sums(values, labels))
    finally:
        sys.setprofile(None)
    return calls


def test_areas_of_many_features_take_no_call_a_feature() -> None:
    few, many = python_calls(64), python_calls(4096)
    assert many < few + 4096 / 4, f"{few} calls for 64 features, {many} for 4096"


@pytest.mark.parametrize("schema", [GENERATION_SCHEMA, EVALUATION_SCHEMA], ids=["generation", "evaluation"])
def test_tables_have_their_types_whatever_is_missing_from_their_rows(schema: pa.Schema) -> None:
    """pandas would make missing truth values objects, missing whole numbers floats and an empty column nothing."""
    key = {"position": 0, "task_id": 1, "temperature": 0.0, "sample": 0}
    for rows in ([], [key], [key, {**key, "position": 1}]):
        assert pa.Table.from_pylist(rows, schema=schema).schema == schema
    made = generation_table([key], {3: np.full((1, 4), np.nan, dtype=np.float32)})
    assert made.schema.field("n_new_tokens").type == pa.int32()
    assert made.schema.field("generated_text").type == pa.string()
    assert made["n_new_tokens"].to_pylist() == [None] and made["vector_3"].to_pylist() == [None]
    assert generation_table([], {}).schema == GENERATION_SCHEMA


def test_a_compiled_engine_whose_first_batch_is_not_steered_steers_the_next_one(loaded: LoadedModel) -> None:
    """A hook that is registered for the steered batch only is never seen by code that was compiled before it."""
    torch._dynamo.reset()
    own = loaded._replace(model=copy.deepcopy(loaded.model))
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0))
    plain = [Request(prompt, never) for prompt in PROMPTS]
    steered = [request._replace(steering=Steering(direction, 20.0, POINT)) for request in plain]
    with GenerationEngine(own, max_new_tokens=5, steering_points=[POINT]) as engine:
        expected = [engine.generate(plain).rows, engine.generate(steered).rows]
        engine.model = torch.compile(own.model, backend="eager")
        assert [engine.generate(requests).rows for requests in (plain, steered, plain)] == [*expected, expected[0]]
    assert expected[0] != expected[1]
    torch._dynamo.reset()
