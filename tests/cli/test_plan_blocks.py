"""What `run.py plan` says of memory, disk and half-fetched models, and that phases refuse it before they load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli import plan as plan_module
from common import needs
from common.capacity import Gpu
from common.config import resolve_config
from common_simplified import model_loader, model_setup
from tests.cli.conftest import Workspace
from tests.cli.helpers import Answer, Here, refusal, run
from tests.common_simplified import fixtures

pytestmark = pytest.mark.smoke
SECRET = "hf_" + "q" * 30


def blocked(answer: Answer) -> list[str]:
    assert answer.code == 0 and "Traceback" not in answer.err, answer
    return [line.removeprefix("blocked: ") for line in answer.out.splitlines() if line.startswith("blocked: ")]


def table(answer: Answer) -> dict[str, str]:
    return {line.split()[0]: line for line in answer.out.splitlines() if line and (line[0].isdigit() or line[0] == "a")}


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "visible_gpus", lambda: [Gpu(85_000_000_000, True)])
    monkeypatch.setattr(plan_module, "available_ram", lambda: 128_000_000_000)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("h100")
def test_the_published_models_memory_and_disk_stand_in_the_plan(here: Here, tmp_path: Path, empty_cache: Path) -> None:
    answer = here("plan", "--profile", "gemma-2-2b", "--data-dir", tmp_path / "data")
    assert not empty_cache.exists()
    rows = table(answer)
    assert rows["3.5"].split("run (missing)")[1].split()[:4] == ["20.5", "GB", "0.1", "GB"]
    assert rows["2.2"].split("run (missing)")[1].split()[2:4] == ["2.4", "GB"]
    assert rows["all"].split() == ["all", "20.5", "GB", "4.5", "GB"]
    assert "memory of the GPU at a phase's peak, with 2 bytes a number, of one process on cuda" in answer.out
    assert blocked(answer) == [
        f"google/{name} is not in the hub's cache; run: python3 run.py fetch --profile gemma-2-2b"
        for name in ("gemma-2-2b", "gemma-2-2b-it")
    ]


@pytest.mark.usefixtures("h100", "empty_cache")
def test_a_disk_too_small_for_results_or_for_the_files_to_fetch_blocks(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "free_disk", lambda path: (path, 3_000_000_000))
    lines = blocked(here("plan", "--profile", "gemma-2-2b", "--data-dir", tmp_path / "data"))
    assert any(f"{tmp_path / 'data'} has 3.0 GB free, 4.5 GB are needed for results" in line for line in lines)
    assert any("has 3.0 GB free, 18.5 GB are needed for files to fetch" in line for line in lines)


@pytest.mark.usefixtures("h100", "empty_cache")
def test_a_gpu_or_a_ceiling_that_is_too_small_blocks_in_one_line(here: Here, tmp_path: Path) -> None:
    words = ("plan", "--profile", "gemma-2-9b", "--data-dir", tmp_path / "data", "--set")
    (line,) = [line for line in blocked(here(*words, "gpu_ceiling_gb=20")) if "ceiling" in line]
    assert line.startswith("phase 3.5 needs ")
    assert "more than gpu_ceiling_gb = 20 allows; no batch size is small enough" in line
    (line,) = [line for line in blocked(here(*words, "gpu_ceiling_gb=30")) if "ceiling" in line]
    assert "more than gpu_ceiling_gb = 30 allows; --batch-size " in line


def hub_profile(workspace: Workspace, tmp_path: Path) -> Path:
    """A profile whose model lies on the hub under `someone/tiny`, with everything else as in the workspace."""
    text = workspace.profile.read_text(encoding="utf-8").replace("model_local = true\n", "", 1)
    lines = [f'model = "someone/tiny"\nmodel_revision = "{fixtures.SHA}"', *text.splitlines()[2:]]
    path = tmp_path / "hub.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_half_fetched_model_blocks_with_what_it_lacks_and_the_phase_says_the_same(
    workspace: Workspace, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    profile = hub_profile(workspace, tmp_path)
    fixtures.use_hub_cache(monkeypatch, empty_cache)
    snapshot = fixtures.add_to_hub_cache(empty_cache, "someone/tiny", workspace.root / "model")
    words = ("--profile", profile, "--data-dir", workspace.copy(tmp_path / "data"))
    assert blocked(here("plan", *words)) == []
    weights = snapshot / "model.safetensors"
    whole = weights.resolve().read_bytes()
    weights.resolve().write_bytes(whole[:-10])
    (line,) = blocked(here("plan", *words))
    assert "model.safetensors is damaged" in line and f"delete {weights.resolve()} and run `run.py fetch`" in line
    said = refusal_of(here("phase", "1.0", *words))
    assert "model.safetensors is damaged" in said
    weights.unlink()
    (line,) = blocked(here("plan", *words))
    assert "someone/tiny is incomplete in" in line and "no *.safetensors; run: python3 run.py fetch" in line
    assert "run `run.py fetch`" in refusal_of(here("phase", "1.0", *words))


def refusal_of(answer: Answer) -> str:
    """Returns the one error line of a command that may have logged before it."""
    lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert answer.code == 2 and len(lines) == 1 and "Traceback" not in answer.err, answer
    return lines[0]


@pytest.mark.parametrize("phase", ["1.0", "2.2"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("ram_ceiling_gb=0.3", "more than ram_ceiling_gb = 0.3 allows; no batch size is small enough"),
        (None, "more than the 0.1 GB that are free"),
    ],
)
def test_a_phase_that_exceeds_its_ceiling_or_the_free_memory_is_refused_before_weights_are_read(
    workspace: Workspace,
    tmp_path: Path,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    setting: str | None,
    said: str,
) -> None:
    data = workspace.copy(tmp_path / "data")
    monkeypatch.setattr(model_setup, "load_model_and_tokenizer", lambda *_, **__: pytest.fail("weights were read"))
    if setting is None:
        monkeypatch.setattr(model_setup, "available_ram", lambda: 100_000_000)
    more: tuple[Any, ...] = () if setting is None else ("--set", setting)
    answer = here("phase", phase, "--profile", workspace.profile, "--data-dir", data, "--device", "cpu", *more)
    line = refusal_of(answer)
    assert line.startswith(f"error: phase {phase} needs ") and said in line


def test_a_phase_that_the_disk_cannot_hold_is_refused_before_weights_are_read(
    workspace: Workspace, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = workspace.copy(tmp_path / "data")
    monkeypatch.setattr(model_setup, "load_model_and_tokenizer", lambda *_, **__: pytest.fail("weights were read"))
    monkeypatch.setattr(needs, "free_disk", lambda _: (tmp_path, 1000))
    monkeypatch.setattr(needs, "NEGLIGIBLE", 0)
    answer = here("phase", "1.0", "--profile", workspace.profile, "--data-dir", data)
    assert "phase 1.0 still writes up to" in refusal_of(answer)


def test_the_wrong_dtype_is_one_line_before_anything_else(workspace: Workspace, here: Here) -> None:
    answer = here("phase", "1.0", "--profile", workspace.profile, "--set", "dtype=float16")
    assert "dtype = float16: must be one of auto, float32, bfloat16" in refusal(answer)


def test_a_token_of_the_environment_stands_in_no_record_log_or_output(workspace: Workspace, tmp_path: Path) -> None:
    data = workspace.copy(tmp_path / "data")
    words = ("--profile", workspace.profile, "--data-dir", data)
    commands = (("phase", "1.0"), ("plan",), ("show-config",))
    answers = [run(*command, *words, HF_TOKEN=SECRET, HUGGING_FACE_HUB_TOKEN=SECRET) for command in commands]
    assert [answer.code for answer in answers] == [0, 0, 0]
    assert all(SECRET not in answer.out + answer.err for answer in answers)
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_the_loader_and_the_plan_ask_the_same_thing_for_free_ram() -> None:
    assert model_loader.available_ram is plan_module.available_ram is model_setup.available_ram
    assert resolve_config({"profile": "gemma-2-9b"}, {}).config.gpu_ceiling_gb == 70
