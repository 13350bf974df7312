"""The reference procedure finds what the pipeline finds, one problem at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.reference import one_at_a_time
from benchmarks.workloads import PROFILE, Workload, tiny
from common.execution.extraction import extract_code
from common.profiles import load_profile
from common_simplified.sae_loader import load_encoder, load_sae

LIMIT = 120


@pytest.fixture(scope="module")
def work() -> Workload:
    return tiny(2)


@pytest.mark.smoke
def test_a_problem_is_solved_as_the_engine_solves_it(work: Workload, tmp_path: Path) -> None:
    profile, problem = load_profile(PROFILE), work.problems[1]
    points = {point.layer: point for point in work.points[1:3]}
    saes = {layer: load_sae(profile, layer) for layer in points}
    solved = one_at_a_time.solve(work.loaded, problem, saes, points, LIMIT, tmp_path)
    ours = work.engine(points=list(points.values())).generate(work.requests[1:])
    assert solved.code == extract_code(ours.rows[0].text, entry_point=problem.entry_point)
    assert solved.n_tokens == LIMIT > len(ours.rows[0].tokens), "the reference knows no rule of stopping"
    for layer, point in points.items():
        fires = load_encoder(profile, layer).encode(ours.captured[point])[0] > 0
        assert solved.firing[layer] == fires.nonzero().flatten().tolist() != []
    assert len(list(tmp_path.glob("*.npz"))) == 2 and len(list(tmp_path.glob("*.json"))) == 1


@pytest.mark.unit
def test_hooks_are_set_up_for_one_problem_and_gone_afterwards(small: Workload) -> None:
    made = one_at_a_time.generate_one(small.loaded, small.requests[0].prompt, small.points, 5)
    ours = small.engine(points=small.points).generate(small.requests[:1])
    assert made.n_tokens == 5
    for point in small.points:
        torch.testing.assert_close(made.vectors[point], ours.captured[point], atol=1e-5, rtol=1e-5)
    assert not [module for module in small.loaded.model.modules() if module._forward_pre_hooks]


@pytest.mark.unit
def test_the_limit_is_bounded_by_the_models_window(work: Workload) -> None:
    prompts = [request.prompt for request in work.requests]
    longest = max(len(work.loaded.tokenizer(prompt)["input_ids"]) for prompt in prompts)
    assert one_at_a_time.bounded_limit(work.loaded, prompts) == 1024 - longest
    assert one_at_a_time.TOKEN_LIMIT == 2000


@pytest.mark.unit
def test_features_are_asked_one_by_one() -> None:
    class Sae:
        def encode(self, vectors: torch.Tensor) -> torch.Tensor:
            assert vectors.shape == (1, 4)
            return vectors

    assert one_at_a_time.firing_features(Sae(), torch.tensor([0.0, 2.0, -1.0, 0.5])) == [1, 3]
