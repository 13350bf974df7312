"""What a phase needs, counted by hand; what exceeds a limit is one line with its cure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from common import needs
from common.capacity import Gpu, available_ram, free_disk, visible_gpus
from common.config import Config, resolve_config
from common.disk_needs import npz_bytes_on_disk, phase_disk, sae_bytes
from common.errors import UsageError
from common.footprint import Batch, batch_of, cache_bytes, logits_bytes, phase_memory
from common.model_shape import ModelShape, ModelSize, shape_of
from common.needs import Place, memory_blocks, phase_need, planned_place, refuse_full_disk, refuse_over_limits
from common.phases import PHASES, get_phase
from common.profiles import Profile, load_profile

pytestmark = pytest.mark.unit

GEMMA = ModelSize(ModelShape(256_000, 8, 4, 256, 9216), 26, 2304, 2_614_341_888)
H100 = Place("cuda", 2, 85_000_000_000)


def resolved(**settings: object) -> tuple[Config, Profile]:
    found = resolve_config({"profile": "gemma-2-2b", "data_dir": "nowhere-at-all", **settings}, {})
    return found.config, found.profile


def test_gemma_2_2b_keeps_104_kibibytes_a_token() -> None:
    assert cache_bytes(GEMMA, 1, 1, 2) == 104 * 1024
    assert cache_bytes(GEMMA, 97, 400, 2) == pytest.approx(4.1e9, rel=0.01)


def test_weights_are_parameters_times_the_bytes_of_their_type() -> None:
    config, profile = resolved()
    for itemsize, expected in ((2, 5.228683776e9), (4, 10.457367552e9)):
        found = phase_memory(get_phase("3.6"), config, GEMMA, profile.sae.width, itemsize, in_ram=False)
        assert found.weights == expected


def test_samples_multiply_rows_but_not_prompts() -> None:
    config, _ = resolved(batch_size=32, phase3_5_samples=5)
    assert batch_of(get_phase("3.5"), config) == Batch(32, 160, 256, 512, True)
    assert batch_of(get_phase("3.6"), config) == Batch(32, 32, 256, 512, False)
    assert batch_of(get_phase("4.8"), config) == Batch(32, 32, 256, 500, False)
    greedy = replace(config, phase3_5_temperatures=(0.0,))
    assert batch_of(get_phase("3.5"), greedy) == Batch(32, 32, 256, 512, False)


def test_a_limit_below_the_longest_solution_is_what_is_planned_with() -> None:
    config, _ = resolved(max_new_tokens=100, phase4_5_max_new_tokens=60)
    assert batch_of(get_phase("1.0"), config).new_tokens == 100
    assert batch_of(get_phase("4.5"), config).new_tokens == 60


def test_sampling_from_a_large_vocabulary_takes_float64_thrice() -> None:
    greedy, sampled = (logits_bytes(GEMMA, Batch(1, 10, 1, 1, each), 2) for each in (False, True))
    assert sampled - greedy == 10 * 256_000 * 3 * 8


def test_an_sae_and_a_cache_are_never_held_together() -> None:
    config, profile = resolved()
    for spec in PHASES:
        found = phase_memory(spec, config, GEMMA, profile.sae.width, 2, in_ram=False)
        assert not (found.cache and found.saes), spec.id
    whole = 2 * 2304 * 16384 * 4
    assert phase_memory(get_phase("1.0"), replace(config, batch_size=1), GEMMA, 10**7, 2, in_ram=False).saes > whole
    assert phase_memory(get_phase("2.5"), config, GEMMA, 16384, 2, in_ram=True).saes == whole // 2


@pytest.mark.parametrize("name", ["gemma-2-2b", "gemma-2-9b", "llama-3.1-8b"])
def test_a_shipped_profile_is_blocked_by_no_memory_of_an_80_gb_gpu(name: str) -> None:
    config, profile = resolved(profile=name)
    assert memory_blocks(config, profile, H100, 128_000_000_000) == []


def test_a_ceiling_is_one_line_with_the_batch_size_that_stays_within_it() -> None:
    config, profile = resolved(gpu_ceiling_gb=9.0)
    (line,) = memory_blocks(config, profile, H100, None)
    assert line.startswith("phase 3.5 needs 20.5 GB of GPU memory (cache 13.1, weights 5.3, ")
    assert line.endswith("more than gpu_ceiling_gb = 9 allows; --batch-size 4 stays within it")
    smaller = replace(config, batch_size=4)
    assert memory_blocks(smaller, profile, H100, None) == []
    assert memory_blocks(replace(config, batch_size=8), profile, H100, None) != []


def test_a_device_that_cannot_hold_the_weights_is_one_line_about_another() -> None:
    config, profile = resolved(profile="gemma-2-9b")
    (line,) = memory_blocks(config, profile, Place("cuda", 2, 16_000_000_000), None)
    assert "more than the 16.0 GB of the device; no batch size is small enough: use another device" in line
    full = memory_blocks(config, profile, Place("cuda", 4, 30_000_000_000), None)
    assert all("\n" not in each for each in full) and any("--set dtype=bfloat16" in each for each in full)


def test_on_a_cpu_the_ram_that_is_free_counts_and_the_gpus_ceiling_does_not() -> None:
    config, profile = resolved(gpu_ceiling_gb=0.1)
    assert memory_blocks(config, profile, Place("cpu", 2), 60_000_000_000) == []
    (line,) = memory_blocks(config, profile, Place("cpu", 2), 3_000_000_000)
    assert " GB of RAM (" in line and "more than the 3.0 GB that are free" in line
    (line,) = memory_blocks(replace(config, ram_ceiling_gb=4.0), profile, Place("cpu", 2), None)
    assert "more than ram_ceiling_gb = 4 allows" in line


class Case(NamedTuple):
    gpu_memory: int
    ceiling: float
    refused: str | None


@pytest.mark.parametrize(
    "case",
    [
        Case(80_000_000_000, 70.0, None),
        Case(7_000_000_000, 70.0, None),
        Case(5_000_000_000, 70.0, "more than the 5.0 GB of the device"),
        Case(80_000_000_000, 12.0, "more than gpu_ceiling_gb = 12 allows; --batch-size 8 stays within it"),
    ],
    ids=["room", "the engine can halve", "not even one problem", "ceiling"],
)
def test_a_phase_is_refused_for_what_no_halving_helps_or_a_ceiling_forbids(case: Case) -> None:
    config, profile = resolved(gpu_ceiling_gb=case.ceiling)
    place = Place("cuda", 2, case.gpu_memory)
    if case.refused is None:
        refuse_over_limits(get_phase("3.5"), config, profile, GEMMA, place, None)
        return
    with pytest.raises(UsageError, match=case.refused) as raised:
        refuse_over_limits(get_phase("3.5"), config, profile, GEMMA, place, None)
    assert "\n" not in str(raised.value)


def test_the_hosts_ram_holds_the_weights_on_their_way_to_a_gpu_and_the_streams_of_the_fit() -> None:
    config, profile = resolved()
    assert phase_need(get_phase("3.6"), config, profile, GEMMA, H100).ram == GEMMA.n_parameters * 2 + 650_000_000
    streams = 2 * 32 * 256 * 27 * 2304 * 4
    big = replace(config, batch_size=64)
    assert phase_need(get_phase("1.0"), big, profile, GEMMA, H100).ram == 2 * streams + 650_000_000


@pytest.mark.parametrize(
    ("settings", "gpus", "expected"),
    [
        ({}, [], Place("cpu", 4)),
        ({}, [Gpu(10, True)], Place("cuda", 2, 10)),
        ({}, [Gpu(10, False)], Place("cuda", 4, 10)),
        ({"device": "cuda:1"}, [Gpu(10, True), Gpu(20, True)], Place("cuda", 2, 20)),
        ({"device": "cuda"}, [], Place("cuda", 2)),
        ({"device": "cpu", "dtype": "bfloat16"}, [Gpu(10, True)], Place("cpu", 2)),
    ],
)
def test_the_place_follows_settings_and_devices(settings: dict[str, object], gpus: list[Gpu], expected: Place) -> None:
    assert planned_place(resolved(**settings)[0], gpus) == expected


def test_the_machine_answers_without_torch() -> None:
    assert all(gpu.memory > 0 for gpu in visible_gpus())
    free = available_ram()
    assert free is not None and free > 10_000_000
    place, size = free_disk(Path("nowhere/at/all"))
    assert place == Path.cwd() and size > 0


def test_captured_vectors_stand_twice_while_they_are_published_one_of_them_in_whole_blocks() -> None:
    config, profile = resolved()
    assert npz_bytes_on_disk(2304) == 3 * 4096 and npz_bytes_on_disk(16) == 4096
    vectors = 489 * 26 * (9216 + 12288)
    assert phase_disk(get_phase("1.0"), config, profile) == vectors + 489 * 12_000 + 4_000_000
    assert sae_bytes(profile) == 26 * 2 * 2304 * 16384 * 4


def test_a_disk_that_is_too_full_is_one_line_and_what_is_written_counts_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, profile = resolved(data_dir=str(tmp_path))
    monkeypatch.setattr(needs, "free_disk", lambda _: (tmp_path, 100_000_000))
    with pytest.raises(UsageError, match=r"phase 1\.0 still writes up to 0\.3 GB, but .* has 0\.1 GB free") as raised:
        refuse_full_disk(get_phase("1.0"), config, profile)
    assert "\n" not in str(raised.value)
    written = tmp_path / "phase1_0" / "segments"
    written.mkdir(parents=True)
    with (written / "a.parquet").open("wb") as file:
        file.truncate(250_000_000)
    refuse_full_disk(get_phase("1.0"), config, profile)


def test_a_configuration_gives_the_shape_whether_or_not_it_states_every_field() -> None:
    stated = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 9216}
    assert shape_of({**stated, "vocab_size": 256_000, "hidden_size": 2304}) == GEMMA.shape
    bare = {"num_attention_heads": 8, "intermediate_size": 64, "vocab_size": 10, "hidden_size": 32}
    assert shape_of({"text_config": bare}) == ModelShape(10, 8, 8, 4, 64)


def test_a_profile_states_its_shape_or_none() -> None:
    assert load_profile("gemma-2-2b").shape == GEMMA.shape
    assert load_profile("organism").shape is None
