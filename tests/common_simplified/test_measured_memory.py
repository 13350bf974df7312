"""The memory that a plan announces, against the peak that a process of its own reaches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.footprint import RUNTIME_RAM, Batch, fitting, generating, largest
from common.model_facts import read_config, read_model_facts, read_weight_facts
from common.model_shape import ModelSize, shape_of
from common.profiles import REPOSITORY
from tests.common_simplified.fixtures import write_model

pytestmark = pytest.mark.slow
SIZES: dict[str, Any] = {
    **{"vocab_size": 48_000, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 8},
    **{"num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 1024, "sliding_window": 1024},
}
N_LAYERS, WIDTH = 6, 8192
FLOAT32 = 4

CHILD = """
import json, re, resource, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from common_simplified.model_loader import load_model_and_tokenizer
model, what, prompts, samples, tokens, new = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024

loaded = load_model_and_tokenizer(model, "cpu", "float32")
texts = [chr(97 + index % 26) * (tokens - 1) for index in range(prompts)]
if what == "generating":
    from common_simplified.generation import GenerationEngine, Request
    from common_simplified.sampling import SampleKey
    from common_simplified.sites import HookPoint
    points = [HookPoint(layer, "resid_post") for layer in range(len(loaded.model.model.layers))]
    engine = GenerationEngine(loaded, max_new_tokens=new, points=points)
    engine._end_tokens = frozenset()
    key = (lambda i: SampleKey(0, i, 0.5, 0)) if samples > 1 else (lambda i: None)
    requests = [Request(text, lambda _: False, key(i)) for text in texts for i in range(samples)]
    rows = engine.generate(requests, 0.5 if samples > 1 else 0.0).rows
    assert all(len(row.tokens) == new and row.n_prompt_tokens == tokens for row in rows)
else:
    from common_simplified.sae_fit import measure_fit
    from common_simplified.sites import HookPoint
    from common.profiles import Profile, SaeSource, DatasetSource
    d_model, folder = int(loaded.model.config.hidden_size), sys.argv[7]
    pattern, width = "layer_{layer}/width_16k/canonical", int(sys.argv[8])
    source = SaeSource(folder, pattern, "gemma_scope", "resid_post", width, local=True)
    data = DatasetSource("x")
    profile = Profile("p", model, len(loaded.model.model.layers), d_model, source, data, data)
    keys = [{"position": i, "task_id": i} for i in range(prompts)]
    measure_fit(loaded, profile, texts, keys, {0: HookPoint(0, "resid_post")})
print(json.dumps({"peak": peak()}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("middle") / "model", n_layers=N_LAYERS, **SIZES)


def size_of(path: Path) -> ModelSize:
    facts, weights = read_model_facts(path), read_weight_facts(path)
    return ModelSize(shape_of(read_config(path)), facts.n_layers, facts.d_model, weights.n_parameters)


def measured(model: Path, *words: object) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(model), *map(str, words)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def held_against(estimate: int, peak: int) -> None:
    """The estimate holds the peak, and is not so large that it would refuse what fits easily."""
    assert peak <= 1.05 * estimate <= 1.05 * 1.7 * peak, f"estimated {estimate:,}, measured {peak:,}"


@pytest.mark.parametrize(
    "batch",
    [Batch(8, 8, 384, 8, False), Batch(4, 32, 192, 64, True), Batch(32, 32, 16, 4, False)],
    ids=["long prompts", "many samples", "short prompts"],
)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from /proc")
def test_a_batchs_peak_is_what_the_plan_says(model: Path, batch: Batch) -> None:
    size = size_of(model)
    estimate = generating(batch, size, size.n_parameters * FLOAT32, FLOAT32).total + RUNTIME_RAM
    samples = batch.rows // batch.prompts
    held_against(estimate, measured(model, "generating", batch.prompts, samples, batch.prompt_tokens, batch.new_tokens))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from /proc")
def test_the_peak_of_measuring_an_saes_fit_is_what_the_plan_says(model: Path, tmp_path: Path) -> None:
    import numpy as np

    from tests.common_simplified.fixtures import sae_arrays

    folder = tmp_path / "layer_0/width_16k/average_l0_100"
    folder.mkdir(parents=True)
    size = size_of(model)
    arrays: dict[str, Any] = sae_arrays(0, size.d_model, WIDTH)
    np.savez(folder / "params.npz", **arrays)
    batch = Batch(16, 16, 256, 1, False)
    stages = fitting(batch, size, size.n_parameters * FLOAT32, WIDTH, FLOAT32, in_ram=True)
    peak = measured(model, "fitting", batch.prompts, 1, batch.prompt_tokens, 1, tmp_path, WIDTH)
    held_against(largest(*stages).total + RUNTIME_RAM, peak)
