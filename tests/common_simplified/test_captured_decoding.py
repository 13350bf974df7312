"""Captured decoding against eager decoding: the same tokens, vectors and counts, whatever changes rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.errors import PipelineError
from common_simplified import captured_decoding
from common_simplified.captured_decoding import cuda_graph
from common_simplified.generation import BatchResult, GenerationEngine, Request
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer
from common_simplified.sampling import SampleKey
from common_simplified.sites import HookPoint, register_writer
from common_simplified.steering import Steering
from tests.common_simplified.conftest import PROMPTS
from tests.common_simplified.replaying import Replays
from tests.common_simplified.steering_cases import MODELS, direction, every_point, model_named
from tests.common_simplified.test_patching import patch_of
from tests.common_simplified.test_steered_generation import after, mixed_requests, never

pytestmark = pytest.mark.numeric
NEW_TOKENS = 40


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, loaded: LoadedModel) -> LoadedModel:
    """Every model, in turn; the bundled one's window of 64 tokens is shorter than its texts."""
    return model_named(request.param, loaded)


@pytest.fixture(autouse=True)
def many_shapes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The cache grows and rows are dropped every few steps."""
    monkeypatch.setattr(captured_decoding, "GROWTH", 7)
    monkeypatch.setattr(captured_decoding, "FEW_ROWS", 1)
    yield


def generated(loaded: LoadedModel, requests: list[Request], capture: Replays | None, heat: float = 0.0) -> BatchResult:
    """Returns what an engine of its own makes; vectors of every block's output are captured."""
    changes = [item.steering for item in requests if item.steering is not None]
    points = list(dict.fromkeys(change.point for change in changes))
    kinds = {"steering_points": [p for p in points if any(isinstance(c, Steering) and c.point == p for c in changes)]}
    kinds["patching_points"] = [p for p in points if any(not isinstance(c, Steering) and c.point == p for c in changes)]
    outputs = [HookPoint(layer, "resid_post") for layer in range(loaded.model.config.num_hidden_layers)]
    with GenerationEngine(loaded, max_new_tokens=NEW_TOKENS, points=outputs, capture=capture, **kinds) as engine:
        engine._newlines = frozenset(range(len(loaded.tokenizer)))
        engine._end_tokens = frozenset()
        return engine.generate(requests, heat)


def assert_equal_to_eager(loaded: LoadedModel, requests: list[Request], heat: float = 0.0) -> Replays:
    replays = Replays()
    eager, captured = generated(loaded, requests, None, heat), generated(loaded, requests, replays, heat)
    assert captured.rows == eager.rows
    for point, vectors in eager.captured.items():
        assert torch.equal(captured.captured[point], vectors)
    assert replays.captured > 1 and replays.replayed > 5, "steps must be captured, more than once, and replayed"
    return replays


def test_greedy_rows_equal_eager_ones(model: LoadedModel) -> None:
    assert_equal_to_eager(model, [Request(prompt, never) for prompt in PROMPTS])


def test_rows_that_end_early_leave_the_others_as_they_are(model: LoadedModel) -> None:
    ends = (3, 200, 25, 11, 1, 60)
    assert_equal_to_eager(model, [Request(PROMPTS[row % 3], after(end)) for row, end in enumerate(ends)])


def test_samples_that_share_a_prefill_equal_eager_ones(model: LoadedModel) -> None:
    keys = [SampleKey(0, task, 0.8, sample) for task in range(3) for sample in range(4)]
    requests = [Request(PROMPTS[key.task_id], after(30 + key.sample), key) for key in keys]
    assert_equal_to_eager(model, requests, heat=0.8)
    assert len({row.tokens for row in generated(model, requests, None, 0.8).rows}) > 3, "samples must differ"


def test_eight_coefficients_at_every_site_equal_eager_ones_with_their_counts(model: LoadedModel) -> None:
    requests = mixed_requests(model)
    assert_equal_to_eager(model, requests)
    rows = generated(model, requests, Replays()).rows
    assert [row.steered_steps for row in rows] == [len(row.tokens) for row in rows]
    alone = [generated(model, [request], Replays()).rows[0] for request in requests]
    assert rows == alone


def test_a_zero_coefficient_is_the_captured_baseline_exactly(model: LoadedModel) -> None:
    point = every_point(model)[1]
    still = [Request(prompt, never, None, Steering(direction(model), 0.0, point)) for prompt in PROMPTS]
    baseline = generated(model, [Request(prompt, never) for prompt in PROMPTS], Replays()).rows
    zero = generated(model, still, Replays()).rows
    assert [row.tokens for row in zero] == [row.tokens for row in baseline]


def test_set_features_equal_eager_ones(loaded: LoadedModel) -> None:
    patches = [patch_of(loaded, value, index) for index, value in enumerate((0.0, 6.0, 20.0))]
    requests = [Request(prompt, never, None, patch) for prompt, patch in zip(PROMPTS, patches, strict=True)]
    assert_equal_to_eager(loaded, requests)


def test_in_half_precision_a_batch_still_equals_eager_decoding(tiny_model: Path) -> None:
    half = load_model_and_tokenizer(str(tiny_model), device="cpu", dtype="bfloat16")
    eager = generated(half, [Request(prompt, never) for prompt in PROMPTS], None).rows
    captured = generated(half, [Request(prompt, never) for prompt in PROMPTS], Replays()).rows
    tokens = [zip(one.tokens, other.tokens, strict=True) for one, other in zip(eager, captured, strict=True)]
    agreeing = sum(a == b for row in tokens for a, b in row)
    assert agreeing >= 0.9 * sum(len(row.tokens) for row in eager)


def test_what_python_knows_is_frozen_by_a_replay(loaded: LoadedModel) -> None:
    """The trap itself: a hook that counts in Python steers by its count when eager, and by one count when replayed."""
    passes = [0]

    def by_count(stream: torch.Tensor) -> torch.Tensor:
        passes[0] += 1
        return stream + direction(loaded) * float(passes[0])

    handle = register_writer(loaded.model, HookPoint(1, "resid_post"), by_count)
    try:
        requests = [Request(prompt, never) for prompt in PROMPTS]
        eager = generated(loaded, requests, None).rows
        passes[0] = 0
        captured = generated(loaded, requests, Replays()).rows
    finally:
        handle.remove()
    assert captured != eager
    assert passes[0] < NEW_TOKENS


def test_a_step_that_cannot_be_captured_is_one_line_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        def __enter__(self) -> None:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: Refused())
    with pytest.raises(PipelineError, match=r"^a decoding step cannot be .* capturing; use --set decoding=eager$"):
        cuda_graph(lambda: torch.zeros(1))


@pytest.mark.parametrize("kept, live, pays", [(97, 388, True), (49, 97, False), (48, 97, True), (1, 16, False)])
def test_rows_are_dropped_where_that_pays_for_a_capture(
    monkeypatch: pytest.MonkeyPatch, kept: int, live: int, pays: bool
) -> None:
    monkeypatch.setattr(captured_decoding, "FEW_ROWS", 16)
    assert captured_decoding.CapturedDecoding.pays_to_drop(kept, live) is pays
