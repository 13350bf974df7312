from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import PipelineError, UsageError
from experiment_pathway_token_analysis.src import self_test, step2_pathway_prototype, step3_pathway_discovery
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries
from experiment_pathway_token_analysis.src.memory_use import MemoryMeter, OverCeiling
from experiment_pathway_token_analysis.src.residuals import LastToken
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.steps import Run, StepResult
from tests.experiment_pathway_token_analysis import planted

pytestmark = pytest.mark.numeric

LAYOUTS: dict[str, dict[str, Any]] = {"JumpReLU": {}, "top-k": {"act_fn": "topk", "top_k": 40}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return planted.planted_run(tmp_path)


def report_of(run: Run) -> dict[str, Any]:
    return json.loads(run.paths.prototype.read_text())


def check_of(run: Run, name: str) -> dict[str, Any]:
    return next(check for check in report_of(run)["self_test"]["checks"] if check["name"] == name)


def changed(run: Run, *given: str) -> Run:
    return replace(run, settings=load_settings("organism", [*planted.SMALL, *given]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_2_and_3_run_on_a_tiny_llama_with_llama_scopes_files(tmp_path: Path, layout: str) -> None:
    run = planted.planted_run(tmp_path, **LAYOUTS[layout])
    result = step2_pathway_prototype.run_step(run)
    assert result.passed and result.exit_code == 0, result.message
    report = report_of(run)
    assert {"feature", "upstream_candidates", "memory_usage_gb", "self_test"} <= set(report)
    assert set(report["upstream_candidates"][0]) == {"source", "source_layer", "activation"}
    assert report["self_test"]["passed"] and len(report["self_test"]["checks"]) == 6
    assert step3_pathway_discovery.run_step(run).passed
    found = json.loads(run.paths.validated.read_text())
    validated = {edge["edge_id"] for edge in found["edges"] if edge["validated"]}
    assert {"L0-1->L1-9", "L1-9->L2-10", "L0-2->L2-11"} <= validated
    chain = next(one for one in found["chains"] if (one["source"], one["target"]) == ("L0-1", "L2-10"))
    assert chain["mediated"] and chain["mediated_share"] == pytest.approx(1, abs=0.1)


def test_the_feature_of_largest_effect_in_the_last_layer_is_taken_and_its_candidates_are_the_most_active(
    run: Run,
) -> None:
    step2_pathway_prototype.run_step(run)
    report = report_of(run)
    assert report["feature"] == "L3-9" and report["n_active_prompts"] == 80
    layers = [candidate["source_layer"] for candidate in report["upstream_candidates"]]
    assert layers == [layer for layer in (0, 1, 2) for _ in range(10)]
    first = [candidate for candidate in report["upstream_candidates"] if candidate["source_layer"] == 0]
    activations = [candidate["activation"] for candidate in first]
    assert first[0]["source"] == "L0-0" and activations == sorted(activations, reverse=True) and activations[-1] > 0


def test_gradients_equal_finite_differences_on_twenty_random_active_pairs(run: Run) -> None:
    step2_pathway_prototype.run_step(run)
    check = check_of(run, "gradients equal finite differences")
    assert check["n"] == 20 and check["worst_error"] < 0.05
    assert check_of(run, "another source's differences do not")["share_within_tolerance"] <= 0.25


def test_saes_that_do_not_fit_fail_the_step_loudly(tmp_path: Path) -> None:
    run = planted.planted_run(tmp_path, jump_relu_threshold=5.0)
    assert_failed(step2_pathway_prototype.run_step(run), "SAEs fit the stream")
    assert report_of(run)["self_test"]["passed"] is False


@pytest.fixture
def unforeseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nobody refuse beforehand what will take more memory than its ceiling."""
    monkeypatch.setattr(step2_pathway_prototype, "require_room", lambda *_: None)


@pytest.mark.usefixtures("unforeseen")
def test_a_ceiling_that_the_model_alone_passes_ends_the_step_before_a_prompt_is_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step2_pathway_prototype, "read_clean", lambda *_: pytest.fail("a prompt was read"))
    with pytest.raises(PipelineError, match=r"the model alone took .* more than memory_ceiling_gb = 0.05"):
        step2_pathway_prototype.run_step(changed(run, "memory_ceiling_gb=0.05"))
    assert not run.paths.prototype.exists()


@pytest.mark.usefixtures("unforeseen")
@pytest.mark.parametrize("after", ["a prompt", "an SAE", "a pair"])
def test_memory_that_passes_the_ceiling_ends_the_step_while_it_works(
    run: Run, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """What is held grows past the ceiling after the third prompt (SAE, pair); nothing after that is done."""
    held, done = [0], []
    monkeypatch.setattr(MemoryMeter, "now", lambda self: held[0])
    place, name = {
        "a prompt": (LastToken, "run"),
        "an SAE": (Dictionaries, "decoder_bias"),
        "a pair": (self_test, "_pair_figures"),
    }[after]
    original = getattr(place, name)

    def growing(*given: Any, **more: Any) -> Any:
        done.append(1)
        held[0] = 17_000_000_000 if len(done) == 3 else 0
        return original(*given, **more)

    monkeypatch.setattr(place, name, growing)
    with pytest.raises(OverCeiling, match="17.00 GB are held, memory_ceiling_gb is 16; allow more with --set") as told:
        step2_pathway_prototype.run_step(run)
    assert len(done) == 3 and not run.paths.prototype.exists() and "\n" not in str(told.value)


@pytest.mark.usefixtures("unforeseen")
def test_running_out_of_memory_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    for module, message in (
        (step2_pathway_prototype, "memory ran out while step 2 was at work"),
        (step3_pathway_discovery, "memory ran out while prompts were read"),
    ):
        monkeypatch.setattr(module, "read_clean", full)
        with pytest.raises(PipelineError, match=message) as told:
            module.run_step(run)
        assert "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.)" in str(told.value)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("held", "free", "reason"),
    [
        (17_000_000_000, 1e12, "with the model in float32 17.0 GB are held, memory_ceiling_gb is 16"),
        (0, 1000, "the model in float32 takes 0.0 GB more, 0.0 GB are free"),
    ],
)
def test_gradients_are_not_checked_in_float32_where_that_does_not_fit(
    run: Run, monkeypatch: pytest.MonkeyPatch, held: int, free: float, reason: str
) -> None:
    monkeypatch.setattr(MemoryMeter, "now", lambda self: held)
    monkeypatch.setattr(MemoryMeter, "check", lambda self: None)
    monkeypatch.setattr(step2_pathway_prototype, "available_ram", lambda: free)
    half = replace(run, config=replace(run.config, dtype="bfloat16"))
    step2_pathway_prototype.run_step(half)
    check = check_of(half, "gradients equal finite differences")
    assert check["passed"] is None and check["reason"] == reason


@pytest.mark.usefixtures("unforeseen")
def test_a_peak_between_two_looks_fails_the_step_with_the_figures(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("check", "refuse_over"):
        monkeypatch.setattr(MemoryMeter, name, lambda *_: None)
    low = changed(run, "memory_ceiling_gb=0.05")
    assert_failed(step2_pathway_prototype.run_step(low), "memory stays below its ceiling")
    check = check_of(low, "memory stays below its ceiling")
    assert check["peak_gb"] > 0.05 == check["ceiling_gb"]
    assert report_of(low)["memory_usage_gb"]["reserved"] == check["peak_gb"]


def test_a_wrong_gradient_is_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = self_test.gradient_at
    monkeypatch.setattr(self_test, "gradient_at", lambda *given: 1.2 * right(*given))
    assert_failed(step2_pathway_prototype.run_step(run), "gradients equal finite differences")


def test_one_sae_is_in_memory_at_a_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[set[int]] = []
    for name in ("encoder", "decoder"):
        method = getattr(Dictionaries, name)

        def watched(self: Dictionaries, layer: int, method: Any = method) -> Any:
            found = method(self, layer)
            held.append(self.held)
            return found

        monkeypatch.setattr(Dictionaries, name, watched)
    step2_pathway_prototype.run_step(run)
    step3_pathway_discovery.run_step(run)
    assert len(held) > 20 and all(len(layers) == 1 for layers in held)


def test_a_feature_can_be_named_and_a_wrong_name_is_refused(run: Run) -> None:
    step2_pathway_prototype.run_step(changed(run, "prototype.feature=L2-11"))
    assert report_of(run)["feature"] == "L2-11"
    for name, message in (
        ("3-9", "is not of the form L3-17"),
        ("L0-1", "layer 0 has no earlier layer"),
        ("L2-64", "does not exist in its SAE"),
        ("L9-1", "no SAE of that layer"),
    ):
        with pytest.raises(UsageError, match=message):
            step2_pathway_prototype.run_step(changed(run, f"prototype.feature={name}"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "nice"}, "class 'nice' is none of correct, incorrect"),
        ({"split": "test"}, "split 'test' is neither"),
        ({"prompt": ""}, "is empty"),
        ({"id": "p1"}, "names a prompt twice"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(run: Run, change: dict[str, str], message: str) -> None:
    found = json.loads(run.paths.prompts.read_text())
    found["prompts"][0] |= change
    run.paths.prompts.write_text(json.dumps(found))
    with pytest.raises(UsageError, match=message):
        step2_pathway_prototype.run_step(run)


def test_missing_inputs_are_named(run: Run) -> None:
    run.paths.prompts.unlink()
    with pytest.raises(UsageError, match=r"prompts_sample\.json is missing"):
        step3_pathway_discovery.run_step(run)
    run.paths.causal_features.unlink()
    with pytest.raises(UsageError, match=r"causal_features\.json is missing"):
        step2_pathway_prototype.run_step(run)


def test_a_model_in_another_type_is_checked_in_float32_and_given_back_as_it_was(run: Run) -> None:
    half = replace(run, config=replace(run.config, dtype="bfloat16"))
    result = step2_pathway_prototype.run_step(half)
    assert check_of(half, "gradients equal finite differences")["passed"], result.message
    before = torch.get_default_dtype()
    assert before == torch.float32


def assert_failed(result: StepResult, what: str) -> None:
    assert not result.passed and result.exit_code == 1
    assert what in result.message
