from __future__ import annotations

import numpy as np
import pytest

from common.errors import PipelineError
from common.statistics.feature_tests import cohens_d, welch_t

pytestmark = pytest.mark.numeric


def test_cohens_d_by_hand() -> None:
    values = np.array([[1.0, 5.0], [3.0, 5.0], [0.0, 5.0], [2.0, 5.0], [4.0, 5.0]], dtype=np.float32)
    labels = np.array([True, True, False, False, False])
    # means 2 and 2; then, for the other order, 1 and 3: variances 2 and 4, pooled (1·2 + 2·4) / 3 = 10/3
    found = cohens_d(values, labels)
    assert found[0] == 0.0 and np.isnan(found[1])
    values[:2] -= 1
    assert cohens_d(values, labels)[0] == pytest.approx((1 - 2) / np.sqrt((2 + 8) / 3))


def test_with_classes_of_equal_size_it_is_t_in_other_units() -> None:
    source = np.random.default_rng(5)
    values = source.normal(size=(60, 5000)).astype(np.float32) * (source.random(5000) < 0.9)
    labels = np.arange(60) % 2 == 0
    d, t = cohens_d(values, labels), welch_t(values, labels)
    assert np.array_equal(np.isnan(d), np.isnan(t)) and 0 < np.isnan(d).sum() < 5000
    np.testing.assert_allclose(d, t * np.sqrt(2 / 30), rtol=1e-9)


def test_the_sign_is_correct_minus_incorrect_and_scale_does_not_matter() -> None:
    source = np.random.default_rng(6)
    values, labels = source.random((40, 7)), source.random(40) < 0.3
    values[labels] += 1
    assert (cohens_d(values, labels) > 0).all()
    np.testing.assert_allclose(cohens_d(values * 7 + 3, labels), cohens_d(values, labels), rtol=1e-9)
    np.testing.assert_allclose(cohens_d(values, ~labels), -cohens_d(values, labels), rtol=1e-9)


def test_fewer_than_two_of_a_class_are_refused() -> None:
    with pytest.raises(PipelineError, match="at least 2"):
        cohens_d(np.zeros((3, 2)), np.array([True, False, False]))
