"""Permanent steering sites against TransformerLens, at their positions, and at their limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from common.errors import UsageError
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.sites import HookPoint, reading_module
from common_simplified.steering import Steering, SteeringSites, create_steering_hook
from tests.common_simplified.conftest import PROMPTS
from tests.common_simplified.steering_cases import (
    CLOSE,
    MODELS,
    batch,
    direction,
    every_point,
    hooked_transformer,
    lens_logits,
    logits,
    model_named,
    n_hooks,
)

pytestmark = [pytest.mark.numeric, pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated")]


@pytest.fixture(params=MODELS)
def steerable(request: pytest.FixtureRequest, loaded: LoadedModel) -> LoadedModel:
    """Every model that can be steered here, in turn."""
    return model_named(request.param, loaded)


def steered_by_sites(loaded: LoadedModel, rows: list[Steering | None], prompts: tuple[str, ...]) -> torch.Tensor:
    """Returns logits of a prefill through permanent hooks at the points of the rows."""
    points = list(dict.fromkeys(row.point for row in rows if row is not None))
    given = batch(loaded, prompts)
    with SteeringSites(loaded.model, points) as sites, sites.loaded(rows):
        sites.at_prompt(given["input_ids"], given["attention_mask"])
        found = logits(loaded, prompts)
        assert sites.counts() == [None if row is None else 1 for row in rows]
    return found


def test_a_steered_logit_difference_equals_transformer_lens_at_every_layer_and_site(steerable: LoadedModel) -> None:
    lens = hooked_transformer(steerable)
    vector = direction(steerable)
    for prompt in PROMPTS:
        ids, _ = tokenize_prompts(steerable.tokenizer, [prompt])
        plain, ours = lens_logits(lens, ids), logits(steerable, (prompt,))
        torch.testing.assert_close(ours, plain, **CLOSE)
        for point in every_point(steerable):
            expected = lens_logits(lens, ids, point, 6.0 * vector) - plain
            assert expected.abs().amax() > 0.1, point
            by_sites = steered_by_sites(steerable, [Steering(vector, 6.0, point)], (prompt,)) - ours
            torch.testing.assert_close(by_sites, expected, **CLOSE)
            with create_steering_hook(vector, 6.0, steer_generated=True).on(steerable.model, point):
                by_hook = logits(steerable, (prompt,)) - ours
            torch.testing.assert_close(by_hook, expected, **CLOSE)


def test_writing_resid_mid_where_it_is_read_would_miss_the_skip_connection(loaded: LoadedModel) -> None:
    point, vector = HookPoint(1, "resid_mid"), direction(loaded)
    with create_steering_hook(vector, 1.5, steer_generated=True).on(loaded.model, point):
        right = logits(loaded, PROMPTS[:1])
    hook = create_steering_hook(vector, 1.5, steer_generated=True)
    handle = reading_module(loaded.model, point).register_forward_pre_hook(hook)
    wrong = logits(loaded, PROMPTS[:1])
    handle.remove()
    assert hook.n_passes == 1 and (right - wrong).abs().amax() > 0.1


def test_rows_of_one_batch_are_steered_each_in_its_own_way_and_padding_never(steerable: LoadedModel) -> None:
    points = every_point(steerable)
    rows = [
        Steering(direction(steerable, 1), 2.0, points[1]),
        None,
        Steering(direction(steerable, 2), -1.0, points[-1]),
    ]
    together = steered_by_sites(steerable, rows, PROMPTS)
    for place, (row, prompt) in enumerate(zip(rows, PROMPTS, strict=True)):
        alone = steered_by_sites(steerable, [row], (prompt,)) if row else logits(steerable, (prompt,))
        torch.testing.assert_close(together[place, -alone.shape[1] :], alone[0], **CLOSE)


@pytest.mark.parametrize("spared", [False, True])
def test_the_stream_moves_by_the_vector_at_real_positions_alone(steerable: LoadedModel, spared: bool) -> None:
    bos = steerable.tokenizer.bos_token_id
    prompts = (*PROMPTS[:2], f"twice {steerable.tokenizer.bos_token} begun")
    given = batch(steerable, prompts)
    real = given["attention_mask"].bool()
    assert not bool(real.all()) and int((given["input_ids"][2] == bos).sum()) == 2
    vector = direction(steerable)
    for point in every_point(steerable):
        with SteeringSites(steerable.model, [point], spared_bos=bos if spared else None) as sites:
            before = stream_at(steerable, point, prompts)
            with sites.loaded([Steering(vector, 3.0, point)] * 3):
                sites.at_prompt(given["input_ids"], given["attention_mask"])
                moved = stream_at(steerable, point, prompts) - before
        expected = 3.0 * vector * real.unsqueeze(-1)
        if spared:
            for row, first in enumerate(real.int().argmax(dim=1).tolist()):
                expected[row, first] = 0.0
        torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(moved[expected == 0], torch.zeros_like(moved[expected == 0]))


def stream_at(loaded: LoadedModel, point: HookPoint, prompts: tuple[str, ...]) -> torch.Tensor:
    """Returns the stream at a point, every position, read by a hook of this test's own."""
    seen: list[torch.Tensor] = []
    handle = reading_module(loaded.model, point).register_forward_pre_hook(lambda part, args: seen.append(args[0]))
    logits(loaded, prompts)
    handle.remove()
    return seen[0]


def test_a_zero_coefficient_leaves_every_logit_bitwise_as_it_is(steerable: LoadedModel) -> None:
    plain = logits(steerable, PROMPTS)
    for point in every_point(steerable):
        rows = [Steering(direction(steerable), 0.0, point)] * 3
        assert torch.equal(steered_by_sites(steerable, rows, PROMPTS), plain)


def test_the_vector_is_made_in_float32_and_added_in_the_models_dtype(loaded: LoadedModel) -> None:
    import copy

    model = copy.deepcopy(loaded.model).to(torch.bfloat16)
    half = loaded._replace(model=model, dtype=torch.bfloat16)
    point, vector, coefficient = HookPoint(1, "resid_post"), direction(loaded), 1.0 + 2.0**-10
    with SteeringSites(model, [point]) as sites:
        before = stream_at(half, point, PROMPTS[:1])
        with sites.loaded([Steering(vector, coefficient, point)]):
            given = batch(half, PROMPTS[:1])
            sites.at_prompt(given["input_ids"], given["attention_mask"])
            after = stream_at(half, point, PROMPTS[:1])
    assert after.dtype == torch.bfloat16
    assert torch.equal(after, before + (coefficient * vector).to(torch.bfloat16))


def test_rows_are_selected_in_the_order_asked_for_with_their_counts(loaded: LoadedModel) -> None:
    point, vector = HookPoint(0, "resid_pre"), direction(loaded)
    embedded = loaded.model.get_input_embeddings()
    step = torch.tensor([[7], [8], [9]])
    with SteeringSites(loaded.model, [point, HookPoint(2, "resid_mid")]) as sites, torch.no_grad():
        with sites.loaded([Steering(vector, 1.0, point), None, Steering(vector, 2.0, point)]):
            sites.at_prompt(step, torch.ones_like(step))
            loaded.model(step)
            sites.count_only([1, 2])
            loaded.model(step)
            assert sites.counts() == [1, None, 2]
            sites.select([2, 1, 0, 2])
            assert sites.counts() == [2, None, 1, 2]
            sites.at_step()
            ids = torch.tensor([[9], [8], [7], [9]])
            seen: list[torch.Tensor] = []
            handle = loaded.model.model.layers[0].register_forward_pre_hook(lambda part, args: seen.append(args[0]))
            loaded.model(ids)
            handle.remove()
            assert sites.counts() == [3, None, 1, 3]
        moved = (seen[0] - embedded(ids))[:, 0]
    factors = torch.tensor([2.0, 0.0, 1.0, 2.0]).unsqueeze(-1)
    torch.testing.assert_close(moved, factors * vector, atol=1e-5, rtol=1e-5)


def test_rows_of_the_same_number_are_written_into_the_tensors_that_stand(loaded: LoadedModel) -> None:
    point, vector = HookPoint(1, "resid_post"), direction(loaded)
    given = batch(loaded, PROMPTS)
    with SteeringSites(loaded.model, [point]) as sites:
        site = sites._sites[point]
        places: list[list[int]] = []
        for coefficient in (1.0, 2.0):
            with sites.loaded([Steering(vector, coefficient, point)] * 3):
                sites.at_prompt(given["input_ids"], given["attention_mask"])
                places.append([item.data_ptr() for item in (site.added, site.mask, site.counted, site.counts)])
                assert torch.equal(site.added, (coefficient * vector).expand(3, 1, -1))
        assert places[0] == places[1]


def test_idle_sites_hand_on_the_stream_itself(loaded: LoadedModel) -> None:
    with SteeringSites(loaded.model, [HookPoint(1, "resid_post")]) as sites:
        stream = torch.randn(2, 3, 32)
        (site,) = sites._sites.values()
        assert site.add(stream) is stream
        with sites.loaded([None, None]):
            assert site.add(stream) is stream and sites.counts() == [None, None]


def test_a_mask_of_other_positions_than_the_stream_is_an_error(loaded: LoadedModel) -> None:
    point = HookPoint(1, "resid_post")
    with SteeringSites(loaded.model, [point]) as sites, sites.loaded([Steering(direction(loaded), 1.0, point)]):
        sites.at_prompt(torch.ones(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.int64))
        with pytest.raises(AssertionError, match="mask"):
            logits(loaded, PROMPTS[:1])


def test_sites_are_removed_at_the_end_after_exceptions_and_when_one_point_does_not_exist(loaded: LoadedModel) -> None:
    before = n_hooks(loaded.model)
    plain = logits(loaded, PROMPTS[:1])
    point = HookPoint(1, "resid_mid")
    row = Steering(direction(loaded), 5.0, point)
    with pytest.raises(RuntimeError, match="stop here"), SteeringSites(loaded.model, [point]) as sites:
        assert n_hooks(loaded.model) == before + 1
        with sites.loaded([row]):
            raise RuntimeError("stop here")
    assert n_hooks(loaded.model) == before
    with pytest.raises(UsageError, match="layers 0 to 3"):
        SteeringSites(loaded.model, [point, HookPoint(9, "resid_post")])
    assert n_hooks(loaded.model) == before and torch.equal(logits(loaded, PROMPTS[:1]), plain)


def test_after_an_exception_nothing_is_steered_any_more_while_the_hooks_stay(loaded: LoadedModel) -> None:
    plain = logits(loaded, PROMPTS[:1])
    point = HookPoint(1, "resid_post")
    with SteeringSites(loaded.model, [point]) as sites:
        with pytest.raises(RuntimeError, match="stop here"), sites.loaded([Steering(direction(loaded), 5.0, point)]):
            raise RuntimeError("stop here")
        assert torch.equal(logits(loaded, PROMPTS[:1]), plain)


def test_rows_that_cannot_all_be_loaded_are_not_steered_in_part(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = logits(loaded, PROMPTS[:1])
    points = [HookPoint(1, "resid_post"), HookPoint(2, "resid_post")]

    def full(*given: Any) -> None:
        raise MemoryError("full")

    with SteeringSites(loaded.model, points) as sites:
        monkeypatch.setattr(sites._sites[points[1]], "load", full)
        with pytest.raises(MemoryError), sites.loaded([Steering(direction(loaded), 5.0, points[0])]):
            pass
        assert torch.equal(logits(loaded, PROMPTS[:1]), plain)


def test_what_cannot_be_steered_is_refused(loaded: LoadedModel) -> None:
    point, vector = HookPoint(1, "resid_post"), direction(loaded)
    for bad in (vector * math.nan, vector.unsqueeze(0), vector * math.inf):
        with pytest.raises(UsageError, match="direction"):
            Steering(bad, 1.0, point)
        with pytest.raises(UsageError, match="direction"):
            create_steering_hook(bad, 1.0, steer_generated=True)
    for coefficient in (math.nan, -math.inf):
        with pytest.raises(UsageError, match="coefficient"):
            Steering(vector, coefficient, point)
    with pytest.raises(AssertionError, match="float64"):
        Steering(vector.double(), 1.0, point)
    with pytest.raises(AssertionError, match="resid_last"):
        Steering(vector, 1.0, HookPoint(1, "resid_last"))
    with SteeringSites(loaded.model, [point]) as sites:
        narrow = Steering(vector[1:], 1.0, point)
        with pytest.raises(UsageError, match="31 components.*stream 32"), sites.loaded([narrow]):
            pass
        elsewhere = Steering(vector, 1.0, HookPoint(2, "resid_post"))
        both = r"blocks\.2\.hook_resid_post .*blocks\.1\.hook_resid_post"
        with pytest.raises(UsageError, match=both), sites.loaded([None, elsewhere]):
            pass
    with pytest.raises(UsageError, match="none"), sites.loaded([Steering(vector, 1.0, point)]):
        pass
