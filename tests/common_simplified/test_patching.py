"""Setting a feature of each row: by hand, against the model's own stream, alone and together, counted, refused."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch

from common.errors import UsageError
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.generation import Generated, GenerationEngine, Request
from common_simplified.model_loader import LoadedModel
from common_simplified.patching import FeaturePatch, FeatureReader, PatchingSite, PatchingSites, feature_activation
from common_simplified.sae_loader import Encoder
from common_simplified.sites import HookPoint, reading_module
from common_simplified.steering import Steering
from tests.common_simplified.conftest import PROMPTS
from tests.common_simplified.steering_cases import MODELS, batch, direction, model_named, n_hooks

pytestmark = [pytest.mark.numeric, pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated")]
POINT = HookPoint(1, "resid_post")
KINDS = ("jumprelu", "centred", "relu", "topk")
FEATURES = 24
NEW_TOKENS = 12


@pytest.fixture(params=MODELS)
def patchable(request: pytest.FixtureRequest, loaded: LoadedModel) -> LoadedModel:
    """Every model that can be patched here, in turn."""
    return model_named(request.param, loaded)


def encoder_of(loaded: LoadedModel, kind: str = "jumprelu") -> Encoder:
    """Returns a random encoder whose features are on about half of the time; the same one each time."""
    return encoder(loaded.model.config.hidden_size, kind)


@cache
def encoder(width: int, kind: str) -> Encoder:
    source = torch.Generator().manual_seed(0)
    return Encoder(
        W_enc=torch.randn(width, FEATURES, generator=source) / width**0.5,
        b_enc=torch.randn(FEATURES, generator=source) * 0.1,
        threshold=torch.rand(FEATURES, generator=source) * 0.2 if kind in ("jumprelu", "centred") else None,
        b_dec=torch.randn(width, generator=source) * 0.1 if kind == "centred" else None,
        hook_name=str(POINT),
        k=6 if kind == "topk" else None,
    )


def patch_of(
    loaded: LoadedModel, value: float, index: int = 3, kind: str = "jumprelu", point: HookPoint = POINT
) -> FeaturePatch:
    decoder = direction(loaded, 100 + index)
    return FeaturePatch(FeatureReader.of(encoder_of(loaded, kind), index), decoder, value, point)


def stream_of(loaded: LoadedModel, prompts: tuple[str, ...] = PROMPTS, point: HookPoint = POINT) -> torch.Tensor:
    """Returns the stream at the last prompt token, (prompts, d_model)."""
    with torch.no_grad(), ActivationExtractor(loaded.model, [point]) as extractor:
        loaded.model(**batch(loaded, prompts))
    return extractor.get_activations()[point]


def patched_logits(loaded: LoadedModel, rows: list[FeaturePatch | None], prompts: tuple[str, ...]) -> torch.Tensor:
    given = batch(loaded, prompts)
    points = list(dict.fromkeys(row.point for row in rows if row is not None))
    with PatchingSites(loaded.model, points) as sites, sites.loaded(rows), torch.no_grad():
        sites.at_prompt(given["input_ids"], given["attention_mask"])
        return loaded.model(**given).logits


def plain_logits(loaded: LoadedModel, prompts: tuple[str, ...] = PROMPTS) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(**batch(loaded, prompts)).logits


def generate(loaded: LoadedModel, requests: list[Request], **options: Any) -> list[Generated]:
    changes = [request.steering for request in requests if request.steering is not None]
    points = list(dict.fromkeys(item.point for item in changes if isinstance(item, FeaturePatch)))
    steered = list(dict.fromkeys(item.point for item in changes if isinstance(item, Steering)))
    settings = {"max_new_tokens": NEW_TOKENS, "patching_points": points, "steering_points": steered, **options}
    with GenerationEngine(loaded, **settings) as made:
        return made.generate(requests).rows


def never(text: str) -> bool:
    return False


def requests_of(changes: list[Any], prompts: tuple[str, ...] = PROMPTS) -> list[Request]:
    return [Request(prompts[row % len(prompts)], never, None, change) for row, change in enumerate(changes)]


# --- by hand


def test_a_feature_is_set_as_computed_by_hand() -> None:
    codes = Encoder(
        W_enc=torch.tensor([[1.0, 0.0], [2.0, 1.0]]),
        b_enc=torch.tensor([-1.0, 0.5]),
        threshold=torch.tensor([0.5, 0.0]),
        b_dec=torch.tensor([1.0, 0.0]),
        hook_name=str(POINT),
    )
    site = PatchingSite()
    first = FeaturePatch(FeatureReader.of(codes, 0), torch.tensor([10.0, 0.0]), 2.0, POINT)
    second = FeaturePatch(FeatureReader.of(codes, 1), torch.tensor([0.0, 1.0]), 0.0, POINT)
    site.load([first, second, first, None], 2, torch.float32, torch.device("cpu"))
    newest = torch.zeros(4, 3, dtype=torch.bool)
    newest[:, -1] = True
    site.place(newest, torch.float32)
    before = torch.tensor([[9.0, 9.0], [7.0, 7.0]]).expand(4, 2, 2)
    last = torch.tensor([[3.0, 1.0], [3.0, 1.0], [2.0, 0.2], [5.0, 5.0]])
    after = site.add(torch.cat([before, last.unsqueeze(1)], dim=1))
    # row 0: (3-1)·1 + 1·2 - 1 = 3, on; 2 - 3 = -1 times (10, 0). Row 1: 1·1 + 0.5 = 1.5; 0 - 1.5 times (0, 1).
    # row 2: (2-1)·1 + 0.2·2 - 1 = 0.4, not above the threshold 0.5, so off; 2 - 0 times (10, 0). Row 3 is left alone.
    expected = torch.tensor([[-7.0, 1.0], [3.0, -0.5], [22.0, 0.2], [5.0, 5.0]])
    torch.testing.assert_close(after[:, -1], expected)
    assert torch.equal(after[:, :-1], before)
    assert site.counts.tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_activation_that_a_patch_reads_is_the_encoders(loaded: LoadedModel, kind: str) -> None:
    codes, stream = encoder_of(loaded, kind), stream_of(loaded)
    expected = codes.encode(stream)
    assert 0 < int((expected > 0).sum()) < expected.numel()
    for index in range(FEATURES):
        found = feature_activation(FeatureReader.of(codes, index), stream)
        torch.testing.assert_close(found, expected[:, index], rtol=1e-5, atol=1e-5)


# --- error preserving


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_set_to_the_value_that_it_has_leaves_every_logit_exactly_equal(
    patchable: LoadedModel, kind: str
) -> None:
    codes, stream, plain = encoder_of(patchable, kind), stream_of(patchable), plain_logits(patchable)
    changed = 0
    for index in range(0, FEATURES, 4):
        current = feature_activation(FeatureReader.of(codes, index), stream).tolist()
        rows = [patch_of(patchable, value, index, kind) for value in current]
        assert torch.equal(patched_logits(patchable, list(rows), PROMPTS), plain)
        moved = [patch_of(patchable, value + 1.0, index, kind) for value in current]
        changed += not torch.equal(patched_logits(patchable, list(moved), PROMPTS)[:, -1], plain[:, -1])
    assert changed == FEATURES // 4, "another value must change the logits"


@pytest.mark.parametrize("kind", KINDS)
def test_afterwards_the_stream_differs_by_the_missing_amount_of_the_decoder_row(
    patchable: LoadedModel, kind: str
) -> None:
    seen: list[torch.Tensor] = []
    handle = reading_module(patchable.model, POINT).register_forward_pre_hook(lambda part, args: seen.append(args[0]))
    plain_logits(patchable)
    handle.remove()
    patches = [patch_of(patchable, 0.7, index, kind) for index in (1, 2, 5)]
    with PatchingSites(patchable.model, [POINT]) as sites, sites.loaded(patches), torch.no_grad():
        handle = reading_module(patchable.model, POINT).register_forward_pre_hook(
            lambda part, args: seen.append(args[0])
        )
        given = batch(patchable, PROMPTS)
        sites.at_prompt(given["input_ids"], given["attention_mask"])
        patchable.model(**given)
        handle.remove()
    before, after = seen
    assert torch.equal(before[:, :-1], after[:, :-1]), "only the last prompt token is touched, padding and BOS never"
    for row, patch in enumerate(patches):
        current = encoder_of(patchable, kind).encode(before[row : row + 1, -1])[0, patch.reader.index]
        expected = before[row, -1] + (0.7 - current) * patch.decoder
        torch.testing.assert_close(after[row, -1], expected, rtol=1e-4, atol=1e-4)


def test_a_models_own_half_precision_is_kept_and_an_unchanged_value_changes_nothing(loaded: LoadedModel) -> None:
    import copy

    half = loaded._replace(model=copy.deepcopy(loaded.model).to(torch.bfloat16), dtype=torch.bfloat16)
    stream = stream_of(half).to(torch.bfloat16)
    reader = FeatureReader.of(encoder_of(half), 3)
    rows: list[FeaturePatch | None] = [patch_of(half, value) for value in feature_activation(reader, stream).tolist()]
    assert torch.equal(patched_logits(half, rows, PROMPTS), plain_logits(half))
    assert patched_logits(half, rows, PROMPTS).dtype == torch.bfloat16


# --- in the engine


def test_patched_rows_in_one_batch_equal_their_separate_runs(patchable: LoadedModel) -> None:
    points = [HookPoint(layer, "resid_post") for layer in range(patchable.model.config.num_hidden_layers)]
    changes: list[FeaturePatch | None] = [
        patch_of(patchable, value, index, point=points[index % len(points)])
        for index, value in enumerate((0.0, 3.0, -2.0, 8.0, 0.5, 20.0, 1.0))
    ]
    requests = requests_of([*changes, None])
    together = generate(patchable, requests)
    assert [generate(patchable, [request])[0] for request in requests] == together
    assert len({row.tokens for row in together}) >= 6
    assert [row.steered_steps for row in together[:-1]] == [len(row.tokens) for row in together[:-1]]
    assert together[-1].steered_steps is None and together[-1] == generate(patchable, requests_of([None] * 2))[1]


def test_top_k_features_compete_in_a_batch_as_alone(patchable: LoadedModel) -> None:
    whole = encoder_of(patchable, "topk")
    changes = [
        FeaturePatch(FeatureReader.of(whole, index), direction(patchable, index), 4.0, POINT) for index in range(5)
    ]
    requests = requests_of(changes)
    together = generate(patchable, requests)
    assert [generate(patchable, [request])[0] for request in requests] == together
    assert len({row.tokens for row in together}) >= 3


def test_every_new_token_is_patched_at_its_own_position(loaded: LoadedModel) -> None:
    """Each step patches the newest position; without a cache the whole text is patched position by position."""
    patch = patch_of(loaded, 3.0)
    (row,) = generate(loaded, requests_of([patch], PROMPTS[:1]), max_new_tokens=5)
    ids = batch(loaded, PROMPTS[:1])["input_ids"]
    first = ids.shape[1] - 1
    codes = encoder_of(loaded)

    def change(part: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        stream = args[0].clone()
        for position in range(first, stream.shape[1]):
            current = codes.encode(stream[:, position])[0, patch.reader.index]
            stream[:, position] += (patch.value - current) * patch.decoder
        return (stream, *args[1:])

    handle = reading_module(loaded.model, POINT).register_forward_pre_hook(change)
    whole = torch.cat([ids, torch.tensor([row.tokens])], dim=1)
    with torch.no_grad():
        logits = loaded.model(whole).logits[0, first:-1]
    handle.remove()
    assert logits.argmax(dim=-1).tolist() == list(row.tokens)


def test_steered_and_patched_rows_share_a_batch(loaded: LoadedModel) -> None:
    changes = [Steering(direction(loaded), 6.0, POINT), patch_of(loaded, 6.0), None]
    together = generate(loaded, requests_of(changes), points=[POINT])
    alone = [generate(loaded, [request])[0] for request in requests_of(changes)]
    assert together == alone and len({row.tokens for row in together}) == 3


def test_rows_that_finish_early_are_counted_exactly(loaded: LoadedModel) -> None:
    def after(limit: int) -> Any:
        return lambda text: len(text) >= limit

    requests = [
        Request(f"{PROMPTS[row % 3]} {row}", after(2 * row + 1), None, None if row == 4 else patch_of(loaded, 4.0, row))
        for row in range(8)
    ]
    settings = {"max_new_tokens": NEW_TOKENS, "patching_points": [POINT]}
    with GenerationEngine(loaded, **settings) as made:
        made._newlines = frozenset(range(len(loaded.tokenizer)))
        rows = made.generate(requests).rows
    assert len({len(row.tokens) for row in rows}) > 3
    for row, request in zip(rows, requests, strict=True):
        assert row.steered_steps == (None if request.steering is None else len(row.tokens))


def test_a_patching_hook_that_is_removed_while_rows_are_generated_is_an_error(loaded: LoadedModel) -> None:
    checks: list[int] = []

    def take_away() -> None:
        checks.append(1)
        if len(checks) == 4:
            hooks = reading_module(loaded.model, POINT)._forward_pre_hooks
            hooks.pop(next(reversed(hooks)))

    settings = {"max_new_tokens": NEW_TOKENS, "patching_points": [POINT], "check_stop": take_away}
    with (
        GenerationEngine(loaded, **settings) as made,
        pytest.raises(AssertionError, match=f"expected {NEW_TOKENS} steered forward passes, counted 4"),
    ):
        made.generate(requests_of([patch_of(loaded, 4.0)]))


def test_hooks_are_removed_at_the_end_and_where_one_point_does_not_exist(loaded: LoadedModel) -> None:
    before = n_hooks(loaded.model)
    with GenerationEngine(loaded, max_new_tokens=2, steering_points=[POINT], patching_points=[POINT]):
        assert n_hooks(loaded.model) == before + 2
    assert n_hooks(loaded.model) == before
    with pytest.raises(UsageError, match="layers 0 to 3"):
        GenerationEngine(
            loaded, max_new_tokens=2, steering_points=[POINT], patching_points=[HookPoint(9, "resid_post")]
        )
    assert n_hooks(loaded.model) == before


# --- refusals


def test_what_cannot_be_patched_is_refused(loaded: LoadedModel) -> None:
    codes, decoder = encoder_of(loaded), direction(loaded)
    with pytest.raises(UsageError, match=f"feature {FEATURES} does not exist: the SAE has 0 to {FEATURES - 1}"):
        FeatureReader.of(codes, FEATURES)
    reader = FeatureReader.of(codes, 0)
    for value, row in ((math.nan, decoder), (math.inf, decoder), (1.0, decoder * math.nan)):
        with pytest.raises(UsageError, match="finite"):
            FeaturePatch(reader, row, value, POINT)
    with pytest.raises(AssertionError, match="float64"):
        FeaturePatch(reader, decoder.double(), 1.0, POINT)
    with pytest.raises(AssertionError, match="resid_mid"):
        FeaturePatch(reader, decoder, 1.0, HookPoint(1, "resid_mid"))
    with PatchingSites(loaded.model, [POINT]) as sites:
        with (
            pytest.raises(UsageError, match="31 components.*stream has 32"),
            sites.loaded([FeaturePatch(reader, decoder[1:], 1.0, POINT)]),
        ):
            pass
        elsewhere = FeaturePatch(reader, decoder, 1.0, HookPoint(2, "resid_post"))
        with (
            pytest.raises(UsageError, match=r"blocks\.2\.hook_resid_post cannot be patched"),
            sites.loaded([elsewhere]),
        ):
            pass


def test_an_engine_without_patching_points_refuses_patched_rows(loaded: LoadedModel) -> None:
    nowhere = pytest.raises(UsageError, match=r"cannot be patched: hooks stand at none")
    with GenerationEngine(loaded, max_new_tokens=2, steering_points=[POINT]) as made, nowhere:
        made.generate(requests_of([patch_of(loaded, 1.0)]))
