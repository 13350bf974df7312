"""Phase 7.3 on a tiny random model and a sibling of another seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from cli.parser import build_parser, resolved_config, run_options
from common.config import resolve_config
from common.hub import content_digest
from common.profiles import load_profile
from common.runs.artifacts import TOP_FEATURES, PhasePaths
from common.runs.files import write_json
from common.runs.metadata import Extent, OutputFile, sealed, write_record
from common_simplified.capture_points import describe_saes, sae_identities
from tests.cli.conftest import Workspace
from tests.cli.helpers import Answer, Here, loads_the_model, refusal, run, tree
from tests.common_simplified.fixtures import N_LAYERS, write_model

pytestmark = pytest.mark.smoke

TOP = {
    "correct": [{"layer": 2, "feature_idx": 5, "separation_score": 0.5}],
    "incorrect": [{"layer": 0, "feature_idx": 6, "separation_score": 0.4}],
}
FEATURES = {"correct": 2, "correct_feature_idx": 5, "incorrect": 0, "incorrect_feature_idx": 6}


class Place(NamedTuple):
    """A profile with an instruction-tuned sibling, a data directory, and the commands on it."""

    root: Path
    profile: Path
    data: Path
    here: Here

    def phase(self, number: str, *more: object) -> Answer:
        """Runs one phase in this process."""
        return self.here("phase", number, "--profile", self.profile, "--data-dir", self.data, *more)

    def record(self) -> dict[str, Any]:
        """Returns the record of phase 7.3."""
        return json.loads((self.data / "phase7_3" / "metadata.json").read_text())

    def table(self) -> dict[str, list]:
        """Returns the data set of phase 7.3."""
        return pq.read_table(self.data / "phase7_3" / "dataset_instruct_temp_0_0.parquet").to_pydict()


@pytest.fixture(scope="module")
def made(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phases 0 and 0.1, a ranking by hand, and phase 3.5 with prompts in another form than the default."""
    root = tmp_path_factory.mktemp("instruct")
    write_model(root / "sibling", seed=7)
    text = workspace.profile.read_text()
    (root / "tiny.toml").write_text(f'instruct_model = "{root}/sibling"\n{text}')
    data = workspace.copy(root / "data")
    publish_ranking(root / "tiny.toml", data)
    asked = ("--prompt-format", "signature", "--set", "phase3_5_temperatures=0")
    answer = run("phase", "3.5", "--profile", root / "tiny.toml", "--data-dir", data, *asked)
    assert answer.code == 0, answer
    return root


def publish_ranking(profile: Path, data: Path, **changed: Any) -> None:
    config = resolve_config({"profile": str(profile), "data_dir": str(data)}, environment={}).config
    paths = PhasePaths(config.phase_dir("2.5"))
    output = OutputFile(TOP_FEATURES, write_json(paths.root / TOP_FEATURES, TOP))
    saes = describe_saes(sae_identities(load_profile(str(profile)), range(N_LAYERS)))
    write_record(
        paths,
        phase="2.5",
        config=config,
        extent=Extent(16, 16),
        inputs=[],
        outputs=[output],
        wall_seconds={},
        details={"saes": [{**entry, **changed} for entry in saes]},
    )


@pytest.fixture
def place(made: Path, tmp_path: Path, here: Here) -> Place:
    shutil.copytree(made / "data", tmp_path / "data")
    return Place(made, made / "tiny.toml", tmp_path / "data", here)


def done(answer: Answer) -> str:
    assert answer.code == 0, answer
    return answer.err


# --- what it writes


def test_a_whole_run_publishes_the_files_of_its_contract(place: Place) -> None:
    said = done(place.phase("7.3"))
    record, root = place.record(), place.data / "phase7_3"
    assert "8 of 8 problems" in said and record["complete"]
    assert record["model"]["role"] == "instruct"
    assert record["model"]["name"] == str(place.root / "sibling")
    assert record["model"]["digest"] == content_digest(place.root / "sibling")
    assert record["layers"] == [0, 2]
    assert record["best_layers"] == record["steering_layers"] == FEATURES
    assert json.loads((root / "best_features.json").read_text())["steering_layers"] == FEATURES
    assert "phase 2.10 has not been run" in record["predictor_note"]
    assert {entry["sae_layer"] for entry in record["saes"]} == {0, 2} and "base model's SAEs" in record["sae_note"]
    ids = place.table()["task_id"]
    assert {path.name for path in (root / "activations" / "task_activations").iterdir()} == {
        f"task_{task_id:03d}_layer_{layer}.npz" for task_id in ids for layer in (0, 2)
    }
    fit = json.loads((root / "sae_fit.json").read_text())
    assert (fit["role"], fit["n_problems"]) == ("instruct", 8) and "never a gate" in fit["note"]
    assert [entry["fraction_unexplained"] for entry in record["sae_fit"]["layers"]] == [
        entry["fraction_unexplained"] for entry in fit["layers"]
    ]
    rates = record["pass_rates"]
    assert rates["instruct"]["judged"] == rates["base"]["judged"] == 8
    assert rates["base"]["passed"] == sum(
        pq.read_table(place.data / "phase3_5" / "dataset_temp_0_0.parquet")["test_passed"].to_pylist()
    )


def test_it_is_the_siblings_stream_that_is_captured(place: Place, workspace: Workspace) -> None:
    """Held against transformers' own hidden states, of the sibling and of the base model."""
    done(place.phase("7.3"))
    table = place.table()
    name = f"task_{table['task_id'][0]:03d}_layer_0.npz"
    with np.load(place.data / "phase7_3" / "activations" / "task_activations" / name) as archive:
        captured = torch.from_numpy(archive["arr_0"][0])
    sibling, base = (hidden(model, table["prompt"][0]) for model in (place.root / "sibling", workspace.root / "model"))
    torch.testing.assert_close(captured, sibling, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(captured, base, atol=1e-2)


def hidden(model: Path, prompt: str) -> torch.Tensor:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager", dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(model)(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return loaded(input_ids=ids, output_hidden_states=True).hidden_states[1][0, -1]


def test_two_slices_give_what_one_run_gives(place: Place, tmp_path: Path) -> None:
    done(place.phase("7.3"))
    sliced = place._replace(data=tmp_path / "sliced")
    for words in (("--start", 6), ("--end", 5)):
        done(sliced.phase("7.3", "--inputs-from", place.data, *words))
    times = {"metadata.json", "timings.parquet"}
    one, other = (tree(item.data / "phase7_3") for item in (place, sliced))
    kept = {name for name in one if name not in times and not name.startswith("snapshots/")}
    assert {name: one[name] for name in kept} == {name: other.get(name) for name in kept}
    assert sliced.record()["pass_rates"] == place.record()["pass_rates"]


def test_a_slice_without_the_first_positions_says_that_the_fit_is_not_measured(place: Place) -> None:
    done(place.phase("7.3", "--start", 6, "--set", "sae_fit_positions=4"))
    found = place.record()["sae_fit"]
    assert found["layers"] is None and found["reason"]
    assert not (place.data / "phase7_3" / "sae_fit.json").exists()


def test_without_phase_3_5_the_base_pass_rate_is_null_and_comes_when_it_has_been_run(place: Place) -> None:
    (place.data / "phase3_5").rename(place.data / "elsewhere")
    options = ("--prompt-format", "signature")
    said = done(place.phase("7.3", *options))
    base = place.record()["pass_rates"]["base"]
    assert (base["pass_rate"], base["judged"], base["reason"]) == (None, 0, "phase 3.5 has not been run")
    assert place.record()["base"] is None and "not known (phase 3.5 has not been run)" in said

    (place.data / "elsewhere").rename(place.data / "phase3_5")
    status = place.here("status", "--profile", place.profile, "--data-dir", place.data).out
    assert "stale              phase 3.5 has been run since" in status
    again = place.phase("7.3", *options)
    assert again.code == 0 and not loads_the_model(again)
    assert place.record()["pass_rates"]["base"]["judged"] == 8
    assert (place.data / "phase7_3" / "sae_fit.json").is_file() and place.record()["sae_fit"]["n_problems"] == 8
    assert "nothing to do" in place.phase("7.3", *options).err


# --- the form of the prompt


def test_the_form_of_the_prompt_is_the_base_models(place: Place) -> None:
    said = done(place.phase("7.3", "--end", 1))
    assert "prompt format signature, as phase 3.5" in said
    record = place.record()
    assert (record["prompt_format"], record["prompt_format_given"]) == ("signature", False)
    assert all("def add_" in prompt for prompt in place.table()["prompt"])


@pytest.mark.parametrize("form", ["solution_marker", "chat"])
def test_a_form_that_is_asked_for_wins(place: Place, form: str) -> None:
    said = done(place.phase("7.3", "--end", 1, "--prompt-format", form))
    assert f"prompt format {form}, as asked" in said and "phase 3.5's prompt format was signature" in said
    assert (place.record()["prompt_format"], place.record()["prompt_format_given"]) == (form, True)
    assert place.record()["base"]["prompt_format"] == "signature"
    for prompt in place.table()["prompt"]:
        assert prompt.startswith("<user>") == (form == "chat") == prompt.endswith("<model>")
        assert "<bos>" not in prompt


def test_without_phase_3_5_the_configured_form_is_taken(place: Place) -> None:
    shutil.rmtree(place.data / "phase3_5")
    said = done(place.phase("7.3", "--dry-run"))
    assert "prompt format solution_marker, as configured" in said
    assert not (place.data / "phase7_3").exists()


def test_a_form_counts_as_asked_for_wherever_the_user_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(*words: str) -> bool:
        parsed = build_parser().parse_args(["phase", "7.3", *words])
        return run_options(parsed, resolved_config(parsed)).prompt_format_given

    file = tmp_path / "settings.toml"
    file.write_text('prompt_format = "solution_marker"')
    assert not given()
    assert given("--prompt-format", "solution_marker")
    assert given("--set", "prompt_format=chat")
    assert given("--config", str(file))
    monkeypatch.setenv("PVA_SAE_PROMPT_FORMAT", "chat")
    assert given()


# --- which model


def test_model_means_the_sibling_in_phase_7_3_and_the_base_model_elsewhere() -> None:
    def resolved(*words: str) -> Any:
        return resolved_config(build_parser().parse_args([*words, "--model", "some/model"])).config

    own, before = resolved("phase", "7.3"), resolved("phase", "1.0")
    assert (own.model_name, own.phase7_3_model_name) == ("google/gemma-2-2b", "some/model")
    assert own.model_revision is not None and own.phase7_3_model_revision is None
    assert (before.model_name, before.phase7_3_model_name) == ("some/model", "google/gemma-2-2b-it")
    assert before.model_revision is None and before.phase7_3_model_revision is not None
    assert resolved("status").model_name == "some/model"


def test_another_sibling_is_another_result_and_never_mixed_with_the_first(place: Place, tmp_path: Path) -> None:
    done(place.phase("7.3", "--end", 1))
    other = write_model(tmp_path / "other", seed=8)
    answer = place.phase("7.3", "--model", other)
    assert answer.code == 2 and "(model: sha256:" in answer.err and "use --fresh" in answer.err
    done(place.phase("7.3", "--model", other, "--fresh", "--end", 1))
    assert place.record()["model"]["name"] == str(other)


def test_the_base_model_in_the_siblings_place_is_warned_about(place: Place, workspace: Workspace) -> None:
    said = done(place.phase("7.3", "--model", workspace.root / "model", "--dry-run"))
    assert "WARNING" in said and "is the base model of phase 3.5 itself" in said


def test_show_config_names_the_profiles_sibling() -> None:
    said = run("show-config").out
    line = next(line for line in said.splitlines() if line.startswith("phase7_3_model_name"))
    assert line.split()[1:4] == ["google/gemma-2-2b-it", "profile", "gemma-2-2b"]


# --- what cannot be used


@pytest.mark.parametrize("lacking", ["0.1", "2.5"])
def test_a_missing_input_is_refused_with_the_command_that_makes_it(place: Place, lacking: str) -> None:
    shutil.rmtree(place.data / f"phase{lacking.replace('.', '_')}")
    said = refusal(place.phase("7.3"))
    assert f"phase 7.3 reads phase {lacking}" in said and f"run: python3 run.py phase {lacking}" in said


def test_a_model_that_cannot_be_used_is_refused_before_anything_is_loaded(place: Place, tmp_path: Path) -> None:
    bare = shutil.copytree(place.root / "sibling", tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    assert "no *.safetensors" in refusal(place.phase("7.3", "--model", bare))
    wide = write_model(tmp_path / "wide", hidden_size=32)
    assert "a residual stream 32 wide" in refusal(place.phase("7.3", "--model", wide))
    shallow = write_model(tmp_path / "shallow", n_layers=2)
    assert "has layers 0 to 1, but layer 2 is to be read" in refusal(place.phase("7.3", "--model", shallow))
    assert not (place.data / "phase7_3").exists()


def test_a_profile_without_a_sibling_is_refused_unless_one_is_given(place: Place, workspace: Workspace) -> None:
    alone = place._replace(profile=workspace.profile)
    assert "names no instruction-tuned model; add instruct_model" in refusal(alone.phase("7.3"))
    done(alone.phase("7.3", "--model", place.root / "sibling", "--dry-run"))


def test_chat_without_a_template_is_refused_before_weights_are_loaded(place: Place, tmp_path: Path) -> None:
    plain = shutil.copytree(place.root / "sibling", tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    said = refusal(place.phase("7.3", "--model", plain, "--prompt-format", "chat"))
    assert "needs a tokenizer with a chat template" in said


def test_features_of_other_saes_are_refused(place: Place) -> None:
    publish_ranking(place.profile, place.data, digest="sha256:other")
    said = refusal(place.phase("7.3"))
    assert "their saes differ" in said and "run.py phase 2.5" in said


def test_a_partial_base_run_is_refused_unless_accepted(place: Place) -> None:
    path = place.data / "phase3_5" / "metadata.json"
    write_json(path, sealed({**json.loads(path.read_text()), "complete": False, "done": 4}))
    assert "phase 7.3 reads phase 3.5, which is partial" in refusal(place.phase("7.3"))
    done(place.phase("7.3", "--allow-partial"))
    assert not place.record()["complete"] and place.record()["done"] == 8
