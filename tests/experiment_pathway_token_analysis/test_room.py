"""What the producer and steps 2 and 3 need: by hand, refused in one line before anything is loaded, and measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import needs
from common.config import resolve_config
from common.errors import UsageError
from common.needs import Place
from common.profiles import REPOSITORY
from experiment_pathway_token_analysis.src import orchestrator, room
from experiment_pathway_token_analysis.src.orchestrator import Orchestrator
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.room import DISCOVERY, PRODUCER, PROTOTYPE, need_of, require_room
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.steps import Run, StepResult, write_manifest
from experiment_pathway_token_analysis.src.study_state import StudyState
from tests.common_simplified.fixtures import sae_arrays, write_model
from tests.experiment_pathway_token_analysis import planted
from tests.experiment_pathway_token_analysis.runs import PLANTED_PROFILE, run_in

H100 = Place("cuda", 2, 85_000_000_000)


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "available_ram", lambda: 10**15)
    monkeypatch.setattr(room, "visible_gpus", list)


def llama(tmp_path: Path, *given: str, **settings: Any) -> Run:
    return run_in(tmp_path, *given, profile="llama-3.1-8b", settings={"batch_size": 32, **settings})


def refused(run: Run, work: str, place: Place | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        require_room(run, [work], place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.unit
def test_llamas_steps_hold_its_weights_one_sae_and_prefixes_up_to_their_share(tmp_path: Path) -> None:
    run = llama(tmp_path)
    for work in (PROTOTYPE, DISCOVERY):
        need = need_of(run, work, H100)
        assert need is not None
        assert need.memory.weights == 16_100_000_000 and need.memory.saes == 2 * 32768 * 4096 * 4
        assert need.memory.cache == int(0.1 * 28e9) < 80 * 300 * 128 * 1024
        assert need.ram == 16_100_000_000 + 650_000_000 and need.gpu == need.memory.total + 600_000_000 < 28e9
        on_cpu = need_of(run, work, Place("cpu", 4))
        assert on_cpu is not None and on_cpu.gpu == 0
        assert on_cpu.ram > 2 * need.memory.weights + 32 * 88 * 32768 * 4  # the codes too


@pytest.mark.unit
@pytest.mark.usefixtures("roomy")
def test_a_ceiling_of_its_own_counts_where_the_model_computes(tmp_path: Path) -> None:
    require_room(llama(tmp_path), [PROTOTYPE, DISCOVERY], H100)
    low = llama(tmp_path, "memory_ceiling_gb=19.5")
    line = refused(low, DISCOVERY, H100)
    assert line.startswith("step 3 needs 19.9 GB of GPU memory (weights 16.1, cache 1.9, saes 1.1, ")
    assert line.endswith("memory_ceiling_gb = 19.5 allows; allow more with --set memory_ceiling_gb=N, or use another "
                         "device or a smaller model")  # fmt: skip
    assert "GB of RAM" in refused(low, PROTOTYPE, Place("cpu", 4)) and "--set dtype=bfloat16" in refused(
        low, PROTOTYPE, Place("cpu", 4)
    )


@pytest.mark.unit
@pytest.mark.parametrize("work", [PROTOTYPE, DISCOVERY, PRODUCER])
def test_what_a_device_or_the_ram_has_free_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    monkeypatch.setattr(room, "available_ram", lambda: 128_000_000_000)
    run = llama(tmp_path)
    small = Place("cuda", 2, 16_000_000_000)
    assert f"{work} needs " in refused(run, work, small) and "more than the 16.0 GB of the device" in refused(
        run, work, small
    )
    monkeypatch.setattr(room, "available_ram", lambda: 8_000_000_000)
    assert "16.8 GB of RAM" in refused(run, work, H100) and "more than the 8.0 GB that are free" in refused(
        run, work, H100
    )


@pytest.mark.unit
@pytest.mark.usefixtures("roomy")
def test_the_producer_is_refused_for_what_no_halving_helps_or_a_ceiling_forbids(tmp_path: Path) -> None:
    require_room(llama(tmp_path), [PRODUCER], Place("cuda", 2, 18_000_000_000))  # the engine halves its batches
    line = refused(llama(tmp_path, gpu_ceiling_gb=18.0), PRODUCER, H100)
    assert "more than gpu_ceiling_gb = 18 allows; --batch-size 8 stays within it" in line
    eight = llama(tmp_path, gpu_ceiling_gb=18.0, batch_size=8)
    require_room(eight, [PRODUCER], H100)
    assert "no batch size is small enough" in refused(llama(tmp_path, gpu_ceiling_gb=16.0), PRODUCER, H100)


@pytest.mark.unit
@pytest.mark.usefixtures("roomy")
def test_a_disk_that_cannot_hold_it_is_one_line_and_what_is_written_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = llama(tmp_path)
    monkeypatch.setattr(needs, "free_disk", lambda _: (tmp_path, 160_000_000))
    require_room(run, [DISCOVERY], H100)
    assert run.settings.selection.per_layer * 31 * room.TARGET_BYTES == 155_000_000
    monkeypatch.setattr(needs, "free_disk", lambda _: (tmp_path, 100_000_000))
    assert f"step 3 still writes up to 0.2 GB, but {tmp_path} has 0.1 GB free" in refused(run, DISCOVERY, H100)
    run.paths.pathways.mkdir(parents=True)
    with (run.paths.pathways / "a.parquet").open("wb") as file:
        file.truncate(60_000_000)
    require_room(run, [DISCOVERY], H100)
    solutions = 31 * 2 * 20 * 4 * 100
    assert f"the patching study still writes up to {solutions * 2000 / 1e9:.1f} GB" in refused(run, PRODUCER, H100)


@pytest.mark.unit
def test_a_model_that_nobody_knows_is_left_to_loading(tmp_path: Path) -> None:
    run = llama(tmp_path, model_name="somebody/else")
    assert need_of(run, DISCOVERY, H100) is None
    require_room(run, [PROTOTYPE, DISCOVERY], H100)


@pytest.mark.unit
def test_the_producer_refuses_before_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_in(tmp_path, settings={"ram_ceiling_gb": 0.5, "device": "cpu"})
    monkeypatch.setattr(orchestrator, "study_state", lambda _: StudyState(False, "not made yet", [], False))
    monkeypatch.setattr(orchestrator.importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    with pytest.raises(UsageError, match="the patching study needs .* GB of RAM .* more than ram_ceiling_gb = 0.5"):
        Orchestrator(run).only_produce()


@pytest.mark.numeric
@pytest.mark.parametrize("step", [2, 3])
def test_a_step_asks_again_with_the_device_that_it_has_before_it_reads_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    from common_simplified import model_setup
    from experiment_pathway_token_analysis.src.orchestrator import module_of

    run = planted.planted_run(tmp_path)
    monkeypatch.setattr(model_setup, "load_model_and_tokenizer", lambda *_, **__: pytest.fail("weights were read"))
    monkeypatch.setattr(room, "available_ram", lambda: 100_000_000)
    with pytest.raises(UsageError, match=rf"step {step} needs 0.7 GB of RAM .* more than the 0.1 GB that are free"):
        module_of(step).run_step(run)


@pytest.mark.unit
def test_what_is_current_asks_for_no_room(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    assert orchestrator.works_of(run, range(6)) == [PROTOTYPE, DISCOVERY]
    run.paths.prototype.parent.mkdir(parents=True)
    run.paths.prototype.write_text("{}")
    write_manifest(run, 2, StepResult(True, "", [], [run.paths.prototype]))
    assert orchestrator.works_of(run, range(6)) == [DISCOVERY] and orchestrator.works_of(run, range(2)) == []


N_LAYERS, D_MODEL, WIDTH, N_PROMPTS = 6, 768, 8192, 40
SIZES: dict[str, Any] = {
    **{"vocab_size": 48_000, "hidden_size": D_MODEL, "intermediate_size": 3072, "num_attention_heads": 8},
    **{"num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 1024, "sliding_window": 1024},
}
GIVEN = (
    *("memory_ceiling_gb=8", "replay.controls_per_layer_pair=6", "replay.bootstrap_draws=50", "replay.sign_flips=50"),
    *("gradient.top_sources=6", "gradient.min_abs=0.0", "gradient.min_attribution=0.0", "replay.max_chains=4"),
    *("prototype.gradient_pairs=2", "prototype.max_variance_unexplained=1000000.0"),
)
CHILD = """
import re, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from tests.experiment_pathway_token_analysis.test_room import middle_run
from experiment_pathway_token_analysis.src.orchestrator import module_of
module_of(int(sys.argv[2])).run_step(middle_run(Path(sys.argv[1])))
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def middle_run(root: Path) -> Run:
    """The run whose memory is measured: a random Gemma-2 of middling size, with random SAEs."""
    profile = root / "middle.toml"
    text = PLANTED_PROFILE.format(root=root).replace("d_model = 32", f"d_model = {D_MODEL}")
    text = text.replace("n_layers = 4", f"n_layers = {N_LAYERS}").replace("width = 64", f"width = {WIDTH}")
    text = text.replace('"L{layer}R"', '"layer_{layer}/width_16k/canonical"').replace("llama_scope", "gemma_scope")
    profile.write_text(text, encoding="utf-8")
    given = {"profile": str(profile), "device": "cpu", "dtype": "float32"}
    resolved = resolve_config(given, environment={})
    settings = load_settings("organism", GIVEN)
    return Run(resolved.config, resolved.profile, settings, PathwayPaths(root / "data" / "pathway"))


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("middle")
    write_model(root / "model", n_layers=N_LAYERS, **SIZES)
    for layer in range(N_LAYERS):
        folder = root / "saes" / f"layer_{layer}" / "width_16k" / "average_l0_100"
        folder.mkdir(parents=True)
        arrays: dict[str, Any] = sae_arrays(layer, D_MODEL, WIDTH)
        scaled = {name: arrays[name] / 28 for name in ("W_enc", "W_dec")}  # about as long as a unit vector
        nothing = {name: 0 * arrays[name] for name in ("b_dec", "threshold")}
        np.savez(folder / "params.npz", **{**arrays, **scaled, **nothing})
    run, letters = middle_run(root), np.random.default_rng(0)
    prompts = [
        {
            **{"id": f"p{row}", "class": ("correct", "incorrect")[row % 2], "task_id": None},
            **{
                "prompt": "".join(letters.choice(list("abcdefgh "), 299)),
                "split": ("select", "validate")[row // 2 % 2],
            },
        }
        for row in range(N_PROMPTS)
    ]
    planted._write(run.paths.prompts, {"schema_version": 1, "prompts": prompts})
    planted.write_targets(run, ((5, 4), (4, 5), (3, 6), (2, 1)))
    return root


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from /proc")
@pytest.mark.parametrize("step", [2, 3])
def test_a_steps_peak_is_what_is_announced(middle: Path, step: int) -> None:
    need = need_of(middle_run(middle), room.OF_STEP[step], Place("cpu", 4))
    assert need is not None
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(middle), str(step)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout.splitlines()[-1])
    assert peak <= 1.05 * need.ram <= 1.05 * 1.7 * peak, f"estimated {need.ram:,}, measured {peak:,}"
    if step == 3:
        edges = json.loads(middle_run(middle).paths.validated.read_text())["edges"]
        assert any(edge["replay"]["tested"] for edge in edges)
