"""The producer on a tiny random model: what it writes, resuming, stopping, and when it is stale."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import Interrupted, OtherSettingsError, UsageError
from common.runs.interruption import StopRequest
from common_simplified.generation import GenerationEngine
from common_simplified.sae_loader import load_encoder
from experiment_pathway_token_analysis import make_patching_study
from experiment_pathway_token_analysis.make_patching_study import PatchingStudy, make_study
from experiment_pathway_token_analysis.src.orchestrator import Orchestrator
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.study_state import study_files, study_state
from tests.cli.helpers import finish, run, start, wait_until
from tests.experiment_pathway_token_analysis.producer_place import ProducerPlace, make_producer_place, relabel

pytestmark = pytest.mark.smoke
PATCHED = ("correct_amplification", "correct_with_incorrect_patch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ProducerPlace:
    """A place in which the study has been made once."""
    place = make_producer_place(tmp_path_factory.mktemp("producer"))
    make_study(place.run())
    return place


@pytest.fixture
def place(made: ProducerPlace, tmp_path: Path) -> ProducerPlace:
    """A copy of that place without the study."""
    shutil.copytree(made.data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "pathway")
    return ProducerPlace(made.profile, tmp_path / "data")


def contents(run: Run) -> dict[str, bytes]:
    """Returns the bytes of every file of the study."""
    files = [*study_files(run), run.paths.prompts, *(run.paths.producer / "features").iterdir()]
    return {path.relative_to(run.paths.root).as_posix(): path.read_bytes() for path in files if path.is_file()}


def trials_of(run: Run) -> list[dict[str, Any]]:
    return json.loads((run.study_root / "response_logs" / "responses_000.json").read_text())


def test_every_candidate_has_its_trials_under_all_six_conditions(made: ProducerPlace) -> None:
    run, trials = made.run(), trials_of(made.run())
    results = json.loads(next((run.study_root / "analysis").iterdir()).read_text())["results"]
    assert [result["layer"] for result in results] == [1, 1, 2, 2]
    assert [result["class"] for result in results] == ["correct", "incorrect"] * 2
    for result in results:
        assert (result["cohen_d"] > 0) == (result["class"] == "correct")
        own = [trial for trial in trials if trial["feature"] == result["feature"]]
        counts = {name: sum(trial["condition"] == name for trial in own) for name in run.settings.study.conditions}
        assert set(counts.values()) == {3}
    prompts = json.loads(run.paths.prompts.read_text())["prompts"]
    assert len(prompts) == 8 and {prompt["split"] for prompt in prompts} == {"select", "validate"}


def test_candidates_are_those_of_largest_d_and_values_are_the_class_means(made: ProducerPlace) -> None:
    """Computed anew from the published vectors, one feature at a time."""
    import numpy as np

    study = PatchingStudy(made.run())
    activations = made.data / "phase1_0" / "activations"
    for candidate in study.candidates:
        encoder = load_encoder(made.run().profile, candidate.layer)
        acts = {}
        for name in ("correct", "incorrect"):
            files = sorted((activations / name).glob(f"*_layer_{candidate.layer}.npz"))
            vectors = np.concatenate([np.load(path)["arr_0"] for path in files])
            acts[name] = encoder.encode(torch.from_numpy(vectors)).double().numpy()
        means = {name: values.mean(axis=0) for name, values in acts.items()}
        n = [len(values) for values in acts.values()]
        within = sum(values.var(axis=0, ddof=1) * (len(values) - 1) for values in acts.values()) / (sum(n) - 2)
        with np.errstate(invalid="ignore"):
            d = (means["correct"] - means["incorrect"]) / np.sqrt(within)
        assert candidate.cohen_d == pytest.approx(d[candidate.index], rel=1e-6)
        signed = d if candidate.prompt_class == "correct" else -d
        assert candidate.index == int(np.nanargmax(signed))
        for name in ("correct", "incorrect"):
            assert candidate.patches[name].value == pytest.approx(means[name][candidate.index], rel=1e-6)


def test_a_trial_is_what_the_engine_writes_for_its_patch(made: ProducerPlace) -> None:
    study = PatchingStudy(made.run())
    trials = {(item["feature"], item["condition"], item["trial"]): item["response"] for item in trials_of(made.run())}
    rows = [row for row in study._rows(study.candidates) if row.condition in PATCHED]
    points = list(study.points.values())
    with GenerationEngine(study.setup.load(), max_new_tokens=24, patching_points=points) as engine:
        for row in rows:
            (found,) = engine.generate([study._request(row)]).rows
            assert found.text == trials[row.candidate.name, row.condition, row.trial]
    towards = {row.condition: row.towards for row in rows}
    assert towards == {"correct_amplification": "correct", "correct_with_incorrect_patch": "incorrect"}


def test_a_study_that_stands_is_current_and_nothing_is_loaded(
    made: ProducerPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object, **more: object) -> None:
        raise AssertionError("the study is current")

    monkeypatch.setattr(make_patching_study, "make_study", never)
    assert study_state(made.run()).current
    Orchestrator(made.run()).only_produce()
    with pytest.raises(AssertionError, match="the study is current"):
        Orchestrator(made.run(), fresh=True).only_produce()


def test_a_run_that_is_stopped_goes_on_and_ends_with_the_same_bytes(
    made: ProducerPlace, place: ProducerPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stored = PatchingStudy._store, []

    def store_one(self: PatchingStudy, *given: Any) -> None:
        store(self, *given)
        stored.append(1)
        if len(stored) == 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(PatchingStudy, "_store", store_one)
    monkeypatch.setattr(make_patching_study, "WAITING_CELLS", 0)
    with pytest.raises(Interrupted, match=r"stopped with 1 of 4 features of the patching study done; to go on: "):
        make_study(place.run())
    assert study_files(place.run()) == [] and not study_state(place.run()).current
    make_study(place.run())
    assert len(stored) == 4, "a finished feature is not made again"
    assert contents(place.run()) == contents(made.run()) and study_state(place.run()).current


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(made: ProducerPlace, place: ProducerPlace) -> None:
    features = place.data / "pathway" / "producer" / "features"
    child = start(*place.words("--only-produce"))
    wait_until(lambda: any(features.glob("*.parquet")), child)
    child.send_signal(signal.SIGKILL)
    finish(child)
    answer = run(*place.words("--only-produce"))
    assert answer.code == 0, answer
    assert contents(place.run()) == contents(made.run())


def test_batches_of_another_size_write_the_same_trials(made: ProducerPlace, place: ProducerPlace) -> None:
    """One cell then holds several features; in float32 no row depends on its batch."""
    answer = run(*place.words("--only-produce", "--batch-size", "48"))
    assert answer.code == 0, answer
    assert trials_of(place.run()) == trials_of(made.run())


def test_more_features_keep_what_is_finished_and_fewer_only_leave_out(
    place: ProducerPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(place.run())
    generated: list[str] = []
    generate = PatchingStudy._generate

    def noted(self: PatchingStudy, cell: Any, *given: Any) -> Any:
        generated.extend(candidate.name for candidate in cell)
        return generate(self, cell, *given)

    monkeypatch.setattr(PatchingStudy, "_generate", noted)
    more = place.run("producer.features_per_layer=2")
    assert "features_per_layer: 1 → 2" in study_state(more).why
    make_study(more)
    assert len(generated) == 4 and study_state(more).current
    generated.clear()
    make_study(place.run())
    assert generated == [] and len({trial["feature"] for trial in trials_of(place.run())}) == 4


def test_only_what_is_made_of_the_trials_changes_with_the_threshold(place: ProducerPlace) -> None:
    make_study(place.run())
    before = contents(place.run())
    other = place.run("producer.min_rate_difference=0.5")
    assert not study_state(other).current and study_state(other).changed == []
    make_study(other)
    assert contents(other) == before  # nothing is causal either way


def test_other_settings_are_refused_and_fresh_puts_the_study_aside(place: ProducerPlace) -> None:
    make_study(place.run())
    other = place.run("producer.problems_per_class=2")
    with pytest.raises(OtherSettingsError, match=r"problems_per_class: 3 → 2.*use --fresh to put it aside"):
        Orchestrator(other).only_produce()
    with pytest.raises(OtherSettingsError, match=r"problems_per_class: 3 → 2"):
        make_study(other)
    Orchestrator(other, fresh=True).only_produce()
    assert study_state(other).current
    aside = place.data / "pathway" / "producer" / "superseded" / "0001"
    names = {path.name for path in aside.iterdir()}
    assert {"features", "responses_000.json", "prompts_sample.json", "study.json"} <= names


def test_changed_inputs_put_the_study_aside_by_themselves(place: ProducerPlace) -> None:
    make_study(place.run())
    directory = place.data / "phase3_5"
    before = (directory / "metadata.json").read_bytes()
    shrink_baseline(directory)
    assert (directory / "metadata.json").read_bytes() != before
    state = study_state(place.run())
    assert state.outdated and "stale (3.5 baseline changed since)" in state.why
    Orchestrator(place.run()).only_produce()
    assert study_state(place.run()).current


def shrink_baseline(directory: Path) -> None:
    """Publishes the baseline anew with other texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / "dataset_temp_0_0.parquet"
    table = pq.read_table(path)
    texts = pa.array([f"{text} " for text in table["generated_text"].to_pylist()])
    pq.write_table(table.set_column(table.column_names.index("generated_text"), "generated_text", texts), path)
    relabel(directory)


def test_a_damaged_feature_is_made_again(place: ProducerPlace) -> None:
    make_study(place.run())
    before = contents(place.run())
    feature = sorted((place.run().paths.producer / "features").glob("*.parquet"))[0]
    feature.write_bytes(feature.read_bytes()[:-7])
    make_study(place.run())
    assert {name: data for name, data in contents(place.run()).items() if "aside" not in name} == before


def test_missing_phases_are_refused_with_the_command_that_makes_them(place: ProducerPlace) -> None:
    shutil.rmtree(place.data / "phase1_0")
    answer = run(*place.words())
    assert answer.code == 2 and "phase pathway reads phase 1.0" in answer.err and "run.py phase 1.0" in answer.err


def test_a_generation_that_fails_is_left_out_and_counted(place: ProducerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = GenerationEngine.generate

    def failing(self: GenerationEngine, requests: Any, temperature: float = 0.0) -> Any:
        if any("adds 7 " in request.prompt for request in requests):
            raise ValueError("this problem fails")
        return generate(self, requests, temperature)

    monkeypatch.setattr(GenerationEngine, "generate", failing)
    seven = [item for item in PatchingStudy(place.run()).solved if "adds 7 " in item.prompt]
    make_study(place.run(f"producer.problems_per_class={30 if seven else 3}"))
    results = json.loads(next((place.run().study_root / "analysis").iterdir()).read_text())["results"]
    assert {result["n_excluded"] for result in results} == {2 * len(seven)}


def test_a_site_that_cannot_be_set_is_refused(place: ProducerPlace) -> None:
    from common.runs.files import write_json
    from common.runs.metadata import sealed

    path = place.data / "phase1_0" / "metadata.json"
    record = json.loads(path.read_text())
    record["points"] = {layer: name.replace("resid_post", "resid_mid") for layer, name in record["points"].items()}
    write_json(path, sealed(record))
    with pytest.raises(UsageError, match="resid_mid"):
        PatchingStudy(place.run())


def test_a_stop_between_two_batches_drops_the_feature_in_flight(made: ProducerPlace) -> None:
    study, stop = PatchingStudy(made.run()), StopRequest()
    stop.signal = signal.SIGINT
    with pytest.raises(Interrupted, match="between two batches"):
        study._generate(study.candidates[:1], None, None, stop)  # type: ignore[arg-type]


def test_prompts_that_someone_changed_are_put_aside_and_a_damaged_record_costs_no_trial(
    place: ProducerPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(place.run())
    paths, before = place.run().paths, contents(place.run())
    (paths.producer / "study.json").write_text("{")
    monkeypatch.setattr(PatchingStudy, "_work_cells", lambda *_: pytest.fail("a trial was made again"))
    Orchestrator(place.run()).only_produce()
    assert study_state(place.run()).current and contents(place.run()) == before
    assert not list(paths.producer.glob("superseded/*"))
    paths.prompts.write_text("mine")
    Orchestrator(place.run()).only_produce()
    assert (paths.producer / "superseded" / "0001" / "prompts_sample.json").read_text() == "mine"
    assert contents(place.run()) == before
    Orchestrator(place.run()).only_produce()
    assert len(list(paths.producer.glob("superseded/*"))) == 1


def test_a_study_made_elsewhere_stays_as_it_is(place: ProducerPlace, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / "response_logs" / "responses_000.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[]")
    answer = run(*place.words("--set", f"study.directory={tmp_path / 'theirs'}"))
    assert answer.code == 2 and "responses_000.json was not made here" in answer.err
    assert theirs.read_text() == "[]" and len(list((tmp_path / "theirs").rglob("*"))) == 2
    told = run(*place.words("--dry-run", "--set", f"study.directory={tmp_path / 'theirs'}"))
    assert "blocked: " in told.out and "was not made here" in told.out
