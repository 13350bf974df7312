from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from common.errors import PipelineError
from common.profiles import Profile
from common.runs.files import read_json, write_json
from experiment_pathway_token_analysis.src.step4_token_association import run_step
from experiment_pathway_token_analysis.src.steps import Run
from tests.common_simplified.fixtures import tiny_profile
from tests.experiment_pathway_token_analysis.token_fixtures import (
    Trial,
    causal,
    edge,
    prose_trials,
    sentence,
    settings_of,
    study_run,
    write_causal,
    write_pathways,
    write_trials,
)

pytestmark = pytest.mark.numeric

FEW = ("tokens.permutations=300",)
TOWARDS_SAFE = ("safe_amplification", "risky_with_safe_patch")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return tiny_profile(tmp_path_factory.mktemp("tiny"))


def chance(random: np.random.Generator, feature: str, condition: str) -> str:
    return sentence(random)


def planted(random: np.random.Generator, feature: str, condition: str) -> str:
    """L1-3 writes `stop` where it is set to its mean on safe prompts; the other features write at random."""
    text = sentence(random)
    return f"{text} stop stop stop" if feature == "L1-3" and condition in TOWARDS_SAFE else text


def prepared(
    root: Path, profile: Profile, trials: list[Trial], features: list[str], *given: str, **options: Any
) -> Run:
    run = study_run(root, settings_of("llama-3.1-8b", *FEW, *given), profile, **options)
    write_trials(run, trials)
    write_causal(run, [causal(feature, "safe") for feature in features])
    write_pathways(run)
    return run


def results(run: Run) -> dict[str, Any]:
    assert run_step(run).passed
    return read_json(run.paths.tokens)


def digests(run: Run) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (run.paths.tokens, run.paths.token_effects)]


def test_a_planted_word_is_found_with_its_direction_and_nothing_else_is(tmp_path: Path, profile: Profile) -> None:
    features = ["L1-3", "L1-5", "L2-1", "L2-7"]
    trials = prose_trials(features, settings_of(), planted, n_trials=30)
    found = results(prepared(tmp_path, profile, trials, features, "tokens.permutations=2000"))
    kept = [row for row in found["associations"] if row["kept"]]
    assert {row["feature"] for row in kept} == {"L1-3"}
    words = {
        (row["contrast"], row["direction"]): row for row in kept if row["level"] == "word" and row["token"] == "stop"
    }
    assert set(words) >= {
        ("safe_patch_against_patch", "safe_amplification"),
        ("risky_patch_against_patch", "risky_with_safe_patch"),
        ("safe_amplification_against_baseline", "safe_amplification"),
        ("risky_opposite_patch_against_baseline", "risky_with_safe_patch"),
    }
    row = words["safe_patch_against_patch", "safe_amplification"]
    assert (row["count_a"], row["count_b"], row["docs_a"], row["n_a"], row["n_b"]) == (90, 0, 30, 30, 30)
    assert (
        row["log_odds"] > 0.5
        and row["p"] == pytest.approx(1 / 52_001)
        and row["q"] == pytest.approx(4 / 52_001, rel=1e-5)
    )
    assert row["plain_log_ratio"] == pytest.approx(np.log(91), abs=1e-4)
    assert not any(row["contrast"] == "safe_opposite_patch_against_baseline" for row in kept)


def test_shuffled_labels_give_hits_for_at_most_one_feature_in_twenty(tmp_path: Path, profile: Profile) -> None:
    features = [f"L1-{index}" for index in range(120)]
    found = results(prepared(tmp_path, profile, prose_trials(features, settings_of(), chance), features))
    hits = sum(feature["n_hits"] > 0 for feature in found["features"])
    assert hits <= binom.ppf(0.999, len(features), 0.05)
    for contrast in range(6):  # and before any correction over features p is as small as it says
        p = np.array([feature["contrasts"][contrast]["p"] for feature in found["features"]])
        assert binom.ppf(0.0005, len(p), 0.05) <= (p <= 0.05).sum() <= binom.ppf(0.9995, len(p), 0.05)
        assert 0.35 < p.mean() < 0.65


def test_with_one_trial_a_problem_labels_move_within_problems(tmp_path: Path, profile: Profile) -> None:
    """Four problems share a word that all of their answers repeat: no evidence, however often it is repeated."""
    settings = settings_of("organism", *FEW)
    features = [f"L1-{index}" for index in range(40)]
    random, names = np.random.default_rng(3), [chr(97 + task // 4) * 3 for task in range(20)]
    trials = [
        (feature, condition, task, task, f"{names[task]} = {names[task]}({random.integers(2)})\n" * 4)
        for feature in features
        for condition in settings.study.conditions
        for task in range(20)
    ]
    run = study_run(tmp_path, settings, profile)
    write_trials(run, trials)
    write_causal(run, [causal(feature, "correct") for feature in features])
    write_pathways(run)
    found = results(run)
    p = np.array([one["p"] for feature in found["features"] for one in feature["contrasts"][:2]])
    assert (p <= 0.05).sum() <= binom.ppf(0.9995, len(p), 0.05)
    assert 0.4 < p.mean() < 0.8  # moved between problems, labels nearly always do better: 0.95 and more
    assert {row["level"] for row in found["associations"]} == {"piece", "word", "kind"}
    assert {row["kind"] for row in found["associations"]} >= {"name", "number", "operator"}
    assert {(one["n_a"], one["n_b"]) for one in found["features"][0]["contrasts"]} == {(20, 20)}


CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, False),
    "size of row groups": ({"rows_a_group": 17}, False),
    "features mixed in the table": ({"rows_a_group": 40, "as_given": True}, True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_equal_inputs_give_equal_bytes_whatever_the_order_of_trials(
    change: str, tmp_path: Path, profile: Profile
) -> None:
    features = ["L1-3", "L1-5", "L2-7", "L2-12"]
    trials = prose_trials(features, settings_of(), planted)
    run = prepared(tmp_path / "one", profile, trials, features)
    again = prepared(tmp_path / "two", profile, trials, features)
    layout, shuffled = CHANGES[change]
    order = np.random.default_rng(1).permutation(len(trials)) if shuffled else range(len(trials))
    write_trials(again, [trials[place] for place in order], **layout)
    for one in (run, again):
        run_step(one)
    assert digests(run) == digests(again)


def test_every_tested_token_stands_in_the_table_of_effects(tmp_path: Path, profile: Profile) -> None:
    features = ["L1-3", "L1-5"]
    run = prepared(tmp_path, profile, prose_trials(features, settings_of(), planted), features)
    found = results(run)
    effects = pq.read_table(run.paths.token_effects).to_pylist()
    assert len(effects) == found["metadata"]["n_effects"]
    assert sum(one["n_tokens"] for feature in found["features"] for one in feature["contrasts"]) == len(effects)
    by_key = {(row["feature"], row["contrast"], row["level"], row["token"], row["token_id"]): row for row in effects}
    assert len(by_key) == len(effects)
    for row in found["associations"]:
        own = by_key[row["feature"], row["contrast"], row["level"], row["token"], row["token_id"]]
        assert (own["count_a"], own["z"], own["p"]) == (row["count_a"], row["z"], row["p"])
    assert found["metadata"]["n_kept"] == sum(feature["n_hits"] for feature in found["features"]) > 0


def test_what_cannot_be_tested_is_listed_with_its_reason(tmp_path: Path, profile: Profile) -> None:
    features = ["L1-1", "L1-2", "L1-3", "L1-4", "L2-9"]
    arms = [(feature, condition) for feature in ("L1-2",) for condition in TOWARDS_SAFE]

    def respond(random: np.random.Generator, feature: str, condition: str) -> str:
        return "" if feature == "L1-3" else "once" if feature == "L1-4" else sentence(random)

    trials = [one for one in prose_trials(features[:4], settings_of(), respond, 3, without=arms)]
    found = results(prepared(tmp_path, profile, trials, features))
    reasons = {feature["feature"]: feature["reason"] for feature in found["features"]}
    assert list(reasons) == features
    assert reasons["L2-9"] == "no trials"
    assert reasons["L1-3"] == "every response is empty"
    assert reasons["L1-4"] == "no token occurs 10 times in 5 responses"
    contrasts = {one["contrast"]: one["reason"] for one in found["features"][1]["contrasts"]}
    assert contrasts["safe_patch_against_patch"] == "no trials under safe_amplification"
    assert contrasts["safe_opposite_patch_against_baseline"] is None
    assert found["metadata"]["n_empty_responses"] == 18
    of_first = found["metadata"]["contrasts"][0]
    assert (of_first["n_features"], of_first["n_tested"]) == (5, 1)


def test_some_empty_responses_do_no_harm(tmp_path: Path, profile: Profile) -> None:
    def respond(random: np.random.Generator, feature: str, condition: str) -> str:
        return "" if condition == "safe_amplification" or random.random() < 0.3 else sentence(random)

    found = results(prepared(tmp_path, profile, prose_trials(["L1-3"], settings_of(), respond), ["L1-3"]))
    one = found["features"][0]["contrasts"][0]
    assert one["reason"] is None and one["p"] is not None
    assert all(row["count_a"] == 0 for row in found["associations"] if row["contrast"] == one["contrast"])


def test_without_causal_features_there_are_no_rows_and_no_error(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile, [], [])
    found = results(run)
    assert found["associations"] == found["features"] == found["lens"] == []
    assert found["metadata"]["n_features"] == 0
    assert pq.read_table(run.paths.token_effects).num_rows == 0


def test_the_limit_takes_the_first_features(tmp_path: Path, profile: Profile) -> None:
    features = ["L1-3", "L1-5", "L2-1"]
    run = prepared(tmp_path, profile, prose_trials(features, settings_of(), chance), features, limit=2)
    assert [one["feature"] for one in results(run)["features"]] == features[:2]


def test_the_lens_shows_causal_features_and_both_ends_of_validated_edges(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile, prose_trials(["L1-3"], settings_of(), chance), ["L1-3"])
    write_pathways(run, [edge("L0-2", "L1-3"), edge("L0-4", "L1-3", validated=False)])
    found = results(run)
    assert [row["feature"] for row in found["lens"]] == ["L0-2", "L1-3"]
    assert all(len(row[side]) == 20 for row in found["lens"] for side in ("top", "bottom"))


def test_an_echo_of_the_prompt_is_no_word_of_the_feature(tmp_path: Path, profile: Profile) -> None:
    prompt = "You have $100. Bet or stop, gambler? "

    def respond(random: np.random.Generator, feature: str, condition: str) -> str:
        return (prompt if condition == "safe_amplification" else "") + sentence(random)

    trials = prose_trials(["L1-3"], settings_of(), respond)
    run = prepared(tmp_path / "with", profile, trials, ["L1-3"])
    write_json(run.paths.prompts, {"prompts": [{"id": "1", "class": "safe", "prompt": prompt}]})
    without = prepared(tmp_path / "without", profile, trials, ["L1-3"])
    found, raw = results(run), results(without)
    assert found["metadata"]["n_responses_with_prompt_echo"] == 12
    assert raw["metadata"]["n_responses_with_prompt_echo"] is None
    words = [{row["token"] for row in one["associations"] if row["level"] == "word"} for one in (found, raw)]
    assert "gambler" not in words[0] and "gambler" in words[1]


def test_the_file_has_a_row_a_line_and_is_json(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile, prose_trials(["L1-3"], settings_of(), planted), ["L1-3"])
    found = results(run)
    lines = run.paths.tokens.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith('{"feature": "L1-3", "contrast": ')]
    assert len(rows) == len(found["associations"])
    assert json.loads(rows[0].rstrip(",")) == found["associations"][0]


def _remove(path: Path) -> None:
    path.unlink()


def _damage(path: Path) -> None:
    path.write_bytes(b"PAR1 not really")


@pytest.mark.parametrize(("harm", "says"), [(_remove, "is missing"), (_damage, "is not a readable parquet file")])
def test_a_missing_or_damaged_table_of_trials_is_named(
    harm: Callable[[Path], None], says: str, tmp_path: Path, profile: Profile
) -> None:
    run = prepared(tmp_path, profile, prose_trials(["L1-3"], settings_of(), chance), ["L1-3"])
    harm(run.paths.trials)
    with pytest.raises(PipelineError, match=f"trials.parquet {says}.*run step 0"):
        run_step(run)
