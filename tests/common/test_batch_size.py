"""How many problems a batch has where `batch_size` is 0."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common import batch_size
from common.batch_size import sized
from common.capacity import Gpu
from common.config import Config, resolve_config
from common.needs import Place, automatic_batch, phase_need
from common.phases import get_phase
from common.profiles import load_profile
from tests.common.test_needs import GEMMA

pytestmark = pytest.mark.unit
PROFILE = load_profile("gemma-2-2b")
CONFIG = Config()


def on_gpu(gigabytes: float) -> Place:
    return Place("cuda", 2, int(gigabytes * 1e9))


def test_a_given_batch_size_is_kept() -> None:
    assert sized(replace(CONFIG, batch_size=7), get_phase("1.0")).batch_size == 7


def test_without_a_gpu_a_batch_has_32_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "visible_gpus", list)
    assert sized(CONFIG, get_phase("1.0")).batch_size == 32


def test_a_phase_without_a_model_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "visible_gpus", lambda: pytest.fail("the driver was asked"))
    assert sized(replace(CONFIG, device="cpu"), get_phase("3.8")).batch_size == 32


def test_a_model_that_is_not_there_is_left_to_whoever_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "visible_gpus", lambda: [Gpu(80_000_000_000, True)])
    config = resolve_config({"model_name": "/nowhere"}, environment={}).config
    assert sized(config, get_phase("1.0")).batch_size == 32


@pytest.mark.parametrize("phase", ["1.0", "2.2", "3.5", "3.6", "4.8", "7.3"])
def test_a_gpu_gets_the_largest_batch_that_its_memory_and_the_ceiling_hold(phase: str) -> None:
    spec = get_phase(phase)
    for memory, ceiling in ((80, 70), (80, 30), (24, 100), (16, 100), (12, 100), (6, 100)):
        config = replace(CONFIG, gpu_ceiling_gb=float(ceiling))
        place = on_gpu(memory)
        chosen = automatic_batch(spec, config, PROFILE, GEMMA, place)
        room = min(memory, ceiling) * 1e9
        needs = {n: phase_need(spec, replace(config, batch_size=n), PROFILE, GEMMA, place).gpu for n in (128, 64)}
        assert chosen == next((count for count, need in needs.items() if need <= room), 32)


def test_more_memory_means_a_larger_batch() -> None:
    sizes = [
        automatic_batch(get_phase("1.0"), replace(CONFIG, gpu_ceiling_gb=100), PROFILE, GEMMA, on_gpu(memory))
        for memory in (8, 24, 80)
    ]
    assert sizes == sorted(sizes) and sizes[0] == 32 and sizes[-1] == 128
