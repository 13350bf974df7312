from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load_file, save_file

from common.conditions import Condition, random_direction, random_feature, target, zero
from common.profiles import DatasetSource, Profile
from common.runs.features import Feature
from common_simplified.sites import HookPoint
from common_simplified.steering_vectors import SteeringVectors, firing_rates, matched_control_features
from tests.common_simplified.fixtures import D_MODEL, N_LAYERS, WIDTH, sae_lens_source, write_sae_lens

pytestmark = pytest.mark.numeric
CORRECT, INCORRECT = Feature(1, 3), Feature(2, 5)
POINT = HookPoint(1, "resid_post")


@pytest.fixture(scope="module")
def saes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sae_lens(tmp_path_factory.mktemp("saes") / "saes")


@pytest.fixture(scope="module")
def profile(saes: Path) -> Profile:
    return profile_of(saes)


def profile_of(saes: Path, d_model: int = D_MODEL) -> Profile:
    data = DatasetSource("nowhere", local=True)
    return Profile("tiny", "nowhere", N_LAYERS, d_model, sae_lens_source(str(saes)), data, data)


def decoder(saes: Path, layer: int) -> np.ndarray:
    return load_file(saes / f"layer_{layer}" / "sae_weights.safetensors")["W_dec"]


def vectors(profile: Profile, seed: int = 42, purpose: str = "controls") -> SteeringVectors:
    return SteeringVectors(profile, seed, purpose)


def drawn(profile: Profile, draw: int = 0, seed: int = 42, purpose: str = "controls") -> np.ndarray:
    return vectors(profile, seed, purpose).vector(random_direction("correct", CORRECT, 9.0, draw)).numpy()


# --- which vector


@pytest.mark.parametrize(
    ("condition", "feature"),
    [
        (target("correct", CORRECT, 30.0), CORRECT),
        (target("incorrect", INCORRECT, -2.0), INCORRECT),
        (zero(INCORRECT), INCORRECT),
        (random_feature("correct", CORRECT, 11, 30.0, 4), Feature(1, 11)),
    ],
)
def test_features_add_their_decoder_row_as_it_is(
    saes: Path, profile: Profile, condition: Condition, feature: Feature
) -> None:
    found = vectors(profile).vector(condition)
    assert found.dtype == torch.float32 and found.shape == (D_MODEL,)
    np.testing.assert_array_equal(found.numpy(), decoder(saes, feature.layer)[feature.index])


@pytest.mark.parametrize(("direction", "feature"), [("correct", CORRECT), ("incorrect", INCORRECT)])
def test_random_directions_have_the_norm_of_their_directions_feature(
    saes: Path, profile: Profile, direction: str, feature: Feature
) -> None:
    expected = np.linalg.norm(decoder(saes, feature.layer)[feature.index].astype(np.float64))
    assert abs(expected - 1) > 0.05
    for draw in range(5):
        found = vectors(profile).vector(random_direction(direction, feature, 9.0, draw))  # type: ignore[arg-type]
        assert found.dtype == torch.float32 and found.shape == (D_MODEL,)
        assert float(found.double().norm()) == pytest.approx(expected, rel=1e-6)


def test_random_directions_are_the_same_again_and_at_every_coefficient(profile: Profile) -> None:
    conditions = [random_direction("correct", CORRECT, value, 7) for value in (1.0, 30.0, -30.0)]
    found = [vectors(profile).vector(condition).numpy() for condition in conditions]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0], drawn(profile, 7))


def test_draw_seed_purpose_and_direction_each_give_another_vector(profile: Profile) -> None:
    other = random_direction("incorrect", INCORRECT, 9.0, 0)
    found = [
        drawn(profile),
        drawn(profile, draw=1),
        drawn(profile, seed=43),
        drawn(profile, purpose="choosing"),
        vectors(profile).vector(other).numpy(),
    ]
    units = np.stack([vector / np.linalg.norm(vector) for vector in found])
    assert np.abs(units @ units.T - np.eye(len(found))).max() < 0.95


def test_a_draw_does_not_depend_on_what_was_drawn_before(profile: Profile) -> None:
    made = vectors(profile)
    for draw in (5, 0, 3):
        made.vector(random_direction("correct", CORRECT, 9.0, draw))
    last = made.vector(random_direction("correct", CORRECT, 9.0, 2)).numpy()
    np.testing.assert_array_equal(last, drawn(profile, 2))


def test_random_directions_point_everywhere(profile: Profile) -> None:
    """Of n isotropic unit vectors the mean has norm about 1/√n, and each coordinate's square averages 1/d."""
    n = 2_000
    made = vectors(profile)
    found = np.stack([made.vector(random_direction("correct", CORRECT, 9.0, draw)).numpy() for draw in range(n)])
    units = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert np.linalg.norm(units.mean(axis=0)) < 3 / np.sqrt(n)
    np.testing.assert_allclose((units**2).mean(axis=0), 1 / D_MODEL, rtol=0.15)


def test_what_the_engine_adds_is_coefficient_times_vector_and_the_same_object_each_time(
    saes: Path, profile: Profile
) -> None:
    made, condition = vectors(profile), target("correct", CORRECT, -2.5)
    steering = made.steering(condition, POINT)
    assert made.steering(condition, POINT) is steering and steering.point == POINT
    np.testing.assert_allclose(steering.addition().numpy(), -2.5 * decoder(saes, 1)[3], rtol=1e-6)
    assert not made.steering(zero(CORRECT), POINT).addition().any()
    assert made.steering(condition._replace(coefficient=2.5), POINT) is not steering


# --- matching


def scores(rates: np.ndarray, layer: int = 1, n_correct: int = 30, n_incorrect: int = 10) -> pa.Table:
    """A table of phase 2.5, shuffled, with another layer in it, in which feature i fires with rate i."""
    rng = np.random.default_rng(3)
    correct = np.clip(rates + rng.uniform(-0.1, 0.1, len(rates)), 0, 1)
    incorrect = (rates * (n_correct + n_incorrect) - correct * n_correct) / n_incorrect
    order = rng.permutation(2 * len(rates))
    columns = {
        "layer": np.repeat([layer, layer + 1], len(rates)),
        "feature_idx": np.tile(np.arange(len(rates)), 2),
        "f_correct": np.concatenate([correct, rng.random(len(rates))]),
        "f_incorrect": np.concatenate([incorrect, rng.random(len(rates))]),
    }
    return pa.table({name: values[order] for name, values in columns.items()})


def test_firing_rates_are_those_of_both_classes_together_in_order_of_feature() -> None:
    rates = np.random.default_rng(1).random(WIDTH)
    np.testing.assert_allclose(firing_rates(scores(rates), 1, 30, 10), rates, atol=1e-12)


def with_norms(root: Path, norms: np.ndarray) -> Profile:
    """SAEs of which layer 1 has features of these decoder norms."""
    write_sae_lens(root)
    path = root / "layer_1" / "sae_weights.safetensors"
    arrays = load_file(path)
    rows = arrays["W_dec"].astype(np.float64)
    arrays["W_dec"] = (rows / np.linalg.norm(rows, axis=1, keepdims=True) * norms[:, None]).astype(np.float32)
    save_file(arrays, path)
    return profile_of(root)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_controls", [0, 1, 6, 100])
def test_controls_are_the_nearest_in_rate_of_those_near_in_norm(tmp_path: Path, seed: int, n_controls: int) -> None:
    rng = np.random.default_rng(seed)
    norms = 1 + rng.choice([-0.2, -0.06, -0.03, 0.0, 0.03, 0.06], WIDTH)
    norms[3] = 1.0
    rates = rng.integers(0, 40, WIDTH) / 40  # few values: many ties
    profile = with_norms(tmp_path / "saes", norms)
    found = matched_control_features(profile, Feature(1, 3), [Feature(1, 3), Feature(2, 6)], rates, n_controls)
    able = [index for index in range(WIDTH) if index != 3 and abs(norms[index] - 1) < 0.05]
    assert 0 < len(able) < WIDTH - 1
    expected = sorted(able, key=lambda index: (abs(round(40 * rates[index]) - round(40 * rates[3])), index))
    assert [control.index for control in found] == expected[:n_controls]
    for control in found:
        assert control.firing_rate == rates[control.index]
        assert control.decoder_norm == pytest.approx(norms[control.index], rel=1e-6)


def test_equal_distances_above_and_below_are_equal_though_rounding_says_otherwise(tmp_path: Path) -> None:
    rates = np.full(WIDTH, 0.9)
    rates[[3, 5, 8, 2]] = [0.3, 0.5, 0.1, 0.7]
    assert abs(0.5 - 0.3) > abs(0.1 - 0.3)
    profile = with_norms(tmp_path / "saes", np.ones(WIDTH))
    assert [item.index for item in matched_control_features(profile, Feature(1, 3), [Feature(1, 3)], rates, 3)] == [
        5,
        8,
        2,
    ]


def test_a_layer_without_features_of_that_norm_has_no_controls(tmp_path: Path) -> None:
    norms = np.full(WIDTH, 2.0)
    norms[3] = 1.0
    profile = with_norms(tmp_path / "saes", norms)
    assert matched_control_features(profile, Feature(1, 3), [Feature(1, 3)], np.zeros(WIDTH), 5) == []


def test_the_other_directions_feature_is_no_control_in_its_own_layer(tmp_path: Path) -> None:
    profile = with_norms(tmp_path / "saes", np.ones(WIDTH))
    for other, kept in ((Feature(1, 4), False), (Feature(2, 4), True)):
        found = matched_control_features(profile, Feature(1, 3), [Feature(1, 3), other], np.zeros(WIDTH), WIDTH)
        assert (4 in [control.index for control in found]) is kept and len(found) == WIDTH - 2 + kept


def test_the_norm_of_a_target_is_that_of_its_decoder_row(saes: Path, profile: Profile) -> None:
    for feature in (CORRECT, INCORRECT):
        expected = np.linalg.norm(decoder(saes, feature.layer)[feature.index].astype(np.float64))
        assert vectors(profile).norm(feature) == pytest.approx(expected)
