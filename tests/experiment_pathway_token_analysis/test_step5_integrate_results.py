from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from common.errors import PipelineError
from common.profiles import Profile
from common.runs.files import read_json, write_json
from experiment_pathway_token_analysis.src import counting, step5_integrate_results
from experiment_pathway_token_analysis.src.result_tables import COLUMNS
from experiment_pathway_token_analysis.src.step5_integrate_results import run_step
from experiment_pathway_token_analysis.src.steps import Run
from tests.common_simplified.fixtures import tiny_profile
from tests.experiment_pathway_token_analysis.token_fixtures import (
    association,
    causal,
    chain,
    edge,
    settings_of,
    study_run,
    target,
    write_causal,
    write_features,
    write_pathways,
    write_tokens,
)

unit, smoke = pytest.mark.unit, pytest.mark.smoke

ON_CORRECT, ON_INCORRECT = "correct_patch_against_patch", "incorrect_patch_against_patch"
LISTED = {"L1-1": "correct", "L1-2": "incorrect", "L2-1": "correct", "L2-2": "incorrect", "L2-3": "correct"}
EDGES = (
    edge("L0-5", "L1-1"),  # a source that the study tested
    edge("L0-6", "L1-1", label="persistence"),  # one that it did not
    edge("L1-1", "L2-1"),
    edge("L0-5", "L2-1", gradient={"mean": -0.3, "sd": 0.1}, mean_delta=-0.25, predicted_delta=-0.3),
    edge("L1-2", "L2-2", validated=False),
    {
        **edge("L0-7", "L2-2", validated=False, tested=False),
        "replay": {"p": None, "q": None, "matched_p": None, "tested": False, "reason": "beyond replay.max_edges"},
        "n_prompts": 0,
        "predicted_delta": None,
    },
)
TOKENS = (
    association("L2-1", ON_CORRECT, "return", 6.0),
    association("L2-1", ON_CORRECT, " return", 5.0, level="piece", token_id=9),  # the same word again
    association("L2-1", ON_INCORRECT, "=1+1", -5.0),
    association("L2-1", ON_CORRECT, "$x$|\n", 4.5),
    association("L2-1", ON_CORRECT, "other", 1.0, kept=False),
    association("L1-1", ON_CORRECT, "return", 4.0),
    association("L1-2", "correct_amplification_against_baseline", "print", 4.0),
)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return tiny_profile(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take seconds and have tests of their own: only a test that asks for them draws them."""
    if request.node.get_closest_marker("smoke") is None:
        monkeypatch.setattr(step5_integrate_results, "write_plots", lambda *_: [])


def prepared(root: Path, profile: Profile, **changed: Any) -> Run:
    run = study_run(root, settings_of("organism", "tokens.permutations=50"), profile)
    parts: dict[str, Any] = {
        "listed": LISTED,
        "edges": EDGES,
        "targets": [target(name) for name in LISTED if name != "L2-3"]
        + [target("L2-3", status="inactive", reason="it fires nowhere")],
        "chains": [chain("L0-5", "L1-1", "L2-1")],
        "tokens": TOKENS,
        "reasons": {"L2-3": "no trials"},
        **changed,
    }
    listed = [causal(name, of) for name, of in parts["listed"].items()]
    write_causal(run, listed)
    write_features(run, [*listed, causal("L0-5", "incorrect"), causal("L2-9", "correct")])
    write_pathways(run, parts["edges"], parts["targets"], parts["chains"])
    write_tokens(run, parts["tokens"], list(parts["listed"]), parts["reasons"])
    return run


def integrated(run: Run) -> dict[str, Any]:
    result = run_step(run)
    assert result.passed and all(path.is_file() for path in result.outputs)
    return read_json(run.paths.integrated / "integrated.json")


def rows_of(run: Run, name: str) -> list[dict[str, str]]:
    with open(run.paths.integrated / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@unit
def test_every_feature_that_a_step_names_has_a_row(tmp_path: Path, profile: Profile) -> None:
    found = integrated(prepared(tmp_path, profile))
    by_name = {one["feature"]: one for one in found["features"]}
    assert list(by_name) == ["L0-5", "L0-6", "L0-7", "L1-1", "L1-2", "L2-1", "L2-2", "L2-3"]
    assert {name for name, one in by_name.items() if one["listed"]} == set(LISTED)
    assert [by_name[name]["class"] for name in ("L0-5", "L0-6", "L1-2")] == ["incorrect", None, "incorrect"]
    assert {name for name, one in by_name.items() if one["has_pathway"]} == {"L0-5", "L0-6", "L1-1", "L2-1"}
    assert {name for name, one in by_name.items() if one["has_tokens"]} == {"L1-1", "L1-2", "L2-1"}
    assert (by_name["L2-3"]["target_status"], by_name["L2-3"]["target_reason"]) == ("inactive", "it fires nowhere")
    assert [by_name[name]["tokens_reason"] for name in ("L0-6", "L2-3", "L1-1")] == [
        "no causal feature",
        "no trials",
        None,
    ]
    assert [by_name["L1-1"][f"n_{name}"] for name in ("edges_in", "validated_in", "edges_out", "validated_out")] == [
        2,
        2,
        1,
        1,
    ]


@unit
def test_a_feature_shows_its_words_by_side_each_once(tmp_path: Path, profile: Profile) -> None:
    found = integrated(prepared(tmp_path, profile))
    one = next(one for one in found["features"] if one["feature"] == "L2-1")
    assert one["tokens_more_a"] == ["return", "$x$|\n"] and one["tokens_more_b"] == ["=1+1"]
    assert one["lens_top"] == ["up"]
    baseline_only = next(one for one in found["features"] if one["feature"] == "L1-2")
    assert baseline_only["has_tokens"] and baseline_only["tokens_more_a"] == []


@unit
def test_the_counts_are_those_of_the_steps(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile)
    found = integrated(run)
    counts, pathways, tokens = found["counts"], read_json(run.paths.validated), read_json(run.paths.tokens)
    assert counts["trials"] == 12_345
    assert counts["edges"] == len(pathways["edges"]) == 6
    assert counts["edges_tested"] == sum(one["replay"]["tested"] for one in pathways["edges"]) == 5
    assert counts["edges_validated"] == sum(one["validated"] for one in pathways["edges"]) == 4
    assert (counts["edges_computation"], counts["edges_persistence"], counts["edges_from_listed"]) == (3, 1, 1)
    assert counts["tokens_kept"] == sum(one["n_hits"] for one in tokens["features"]) == 6
    assert (counts["chains"], counts["chains_mediated"]) == (1, 1)
    assert counts["features_listed"] == len(read_json(run.paths.causal_features)["features"]) == 5
    assert (counts["features_with_both"], counts["features_with_neither"]) == (2, 2)
    assert all(one["one"] == one["other"] for one in found["reconciliation"]) and len(found["reconciliation"]) == 11


@unit
def test_pathways_end_in_words_and_chains_count_only_where_mediated(tmp_path: Path, profile: Profile) -> None:
    found = integrated(prepared(tmp_path / "a", profile))["pathways"]
    assert {(one["kind"], one["pathway"]) for one in found} == {
        ("chain", "L0-5 → L1-1 → L2-1"),
        *(("edge", f"{a} → {b}") for a, b in (("L0-5", "L1-1"), ("L0-6", "L1-1"), ("L1-1", "L2-1"), ("L0-5", "L2-1"))),
    }
    by_path = {one["pathway"]: one for one in found}
    assert by_path["L0-5 → L2-1"]["sign"] == -1 and by_path["L0-5 → L1-1 → L2-1"]["mediated_share"] == 0.8
    assert by_path["L0-5 → L2-1"]["reading"] == (
        "Hypothesis: raising L0-5 lowers L2-1; more under the correct patch of L2-1: return $x$|\\n; "
        "more under the incorrect patch of L2-1: =1+1"
    )
    assert "through L1-1" in by_path["L0-5 → L1-1 → L2-1"]["reading"]
    direct = integrated(prepared(tmp_path / "b", profile, chains=[chain("L0-5", "L1-1", "L2-1", mediated=False)]))
    assert {one["kind"] for one in direct["pathways"]} == {"edge"} and direct["counts"]["chains_mediated"] == 0


@unit
def test_every_table_has_its_columns_and_as_many_rows_as_the_summary_says(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile)
    integrated(run)
    summary = (run.paths.integrated / "summary.md").read_text(encoding="utf-8")
    for name, columns in COLUMNS.items():
        with open(run.paths.integrated / f"{name}.csv", encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file))
        assert tuple(header) == columns
        assert f"| `{name}.csv` | {len(rows)} |" in summary


@unit
def test_cells_are_harmless_and_edges_without_replay_have_empty_ones(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile)
    integrated(run)
    assert {row["token"] for row in rows_of(run, "tokens")} >= {"'=1+1", "$x$|\\n"}
    untested = next(row for row in rows_of(run, "edges") if row["edge_id"] == "L0-7->L2-2")
    assert untested["mean_delta"] == untested["q"] == "" and untested["reason"] == "beyond replay.max_edges"
    negative = next(row for row in rows_of(run, "edges") if row["edge_id"] == "L0-5->L2-1")
    assert float(negative["mean_delta"]) == -0.25


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.-])-?\d[\d,]*\.?\d*", text))


@unit
def test_every_number_of_the_summary_stands_in_the_files(tmp_path: Path, profile: Profile) -> None:
    """Takes the summary's numbers apart; each must be a number of the tables, to the digits shown."""
    run = prepared(tmp_path, profile)
    found = integrated(run)
    known: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for one in value.values():
                collect(one)
        elif isinstance(value, list):
            known.add(str(len(value)))
            for one in value:
                collect(one)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            known.update({f"{value:.3g}", f"{value:,}"})
        elif isinstance(value, str):
            known.update(numbers_in(value))

    collect(found)
    for source in (run.paths.tokens, run.paths.validated):
        collect(read_json(source))
    known.update(str(len(rows_of(run, name))) for name in COLUMNS)
    count = found["counts"]
    known.add(f"{100 * count['edges_validated'] / count['edges_tested']:.1f}")
    known.add(f"{100 * count['edges_from_listed'] / count['edges_validated']:.1f}")
    known.add("95")  # per cent intervals
    known.add(str(len([row for row in TOKENS if row["kept"] and "patch_against_patch" in row["contrast"]])))
    text = (run.paths.integrated / "summary.md").read_text(encoding="utf-8")
    assert numbers_in(text) - known == set()
    changed = prepared(tmp_path / "other", profile, edges=EDGES[:3], chains=[])
    integrated(changed)
    other = (changed.paths.integrated / "summary.md").read_text(encoding="utf-8")
    assert "| edges validated | 3 | 100.0 % of those replayed; 2 computation, 1 persistence |" in other
    assert "| edges validated | 4 | 80.0 % of those replayed; 3 computation, 1 persistence |" in text


@unit
def test_the_false_positives_that_step_3_measured_stand_in_the_summary(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile)
    document = read_json(run.paths.validated)
    rate = {"numerator": 3, "denominator": 120, "value": 0.025, "low": 0.01, "high": 0.07, "reason": None}
    document["metadata"]["matched_null"] = {"false_positive_rate": rate}
    write_json(run.paths.validated, document)
    integrated(run)
    summary = (run.paths.integrated / "summary.md").read_text(encoding="utf-8")
    assert "| false positives of the whole rule | 3 | 2.5 % of 120 matched sources |" in summary


@unit
def test_model_text_cannot_break_the_summarys_tables(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile)
    integrated(run)
    for block in re.findall(r"(?:^\|.*\n)+", (run.paths.integrated / "summary.md").read_text(encoding="utf-8"), re.M):
        widths = {line.replace("\\|", "").count("|") for line in block.splitlines()}
        assert len(widths) == 1, block


@smoke
def test_equal_inputs_give_equal_bytes(tmp_path: Path, profile: Profile) -> None:
    digests = []
    for place in ("a", "b"):
        result = run_step(prepared(tmp_path / place, profile))
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in result.outputs})
    assert digests[0] == digests[1] and len(digests[0]) == 2 + len(COLUMNS) + 8


@unit
def test_with_nothing_at_all_the_tables_are_empty_and_the_summary_says_so(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile, listed={}, edges=(), targets=[], chains=[], tokens=(), reasons={})
    found = integrated(run)
    assert found["features"] == found["pathways"] == [] and found["similarity"]["p"] is None
    summary = (run.paths.integrated / "summary.md").read_text(encoding="utf-8")
    for words in ("No edge was validated, of 0 tested", "No token was kept", "Nothing: every causal feature"):
        assert words in summary


@unit
def test_features_beyond_the_limit_of_the_steps_before_are_named_as_such(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile)
    write_tokens(run, TOKENS, ["L1-1", "L1-2", "L2-1"])
    one = next(one for one in integrated(run)["features"] if one["feature"] == "L2-2")
    assert one["tokens_reason"] == "beyond --limit"


@unit
@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"edges": [*EDGES, edge("L0-5", "L2-8")]}, "L2-8"),
        ({"edges": [*EDGES, EDGES[0]]}, "L0-5 → L1-1 twice"),
        ({"targets": [target("L2-8")]}, "L2-8"),
        ({"chains": [chain("L0-6", "L1-2", "L2-1")]}, "L0-6 → L1-2"),
    ],
)
def test_what_the_steps_before_do_not_know_is_refused(
    change: dict[str, Any], names: str, tmp_path: Path, profile: Profile
) -> None:
    with pytest.raises(PipelineError, match=f"validated_pathways.json names .*{names}.*run steps 1 to 5 again"):
        run_step(prepared(tmp_path, profile, **change))


@unit
def test_token_results_of_strangers_are_refused(tmp_path: Path, profile: Profile) -> None:
    run = prepared(tmp_path, profile)
    write_tokens(run, TOKENS, [*LISTED, "L2-8"])
    with pytest.raises(PipelineError, match=r"token_associations.json names L2-8"):
        run_step(run)


@unit
def test_counts_that_do_not_agree_are_refused(
    tmp_path: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tmp_path, profile)
    document = read_json(run.paths.tokens)
    document["features"][0]["n_hits"] += 1
    write_json(run.paths.tokens, document)
    with pytest.raises(PipelineError, match=r"kept tokens of step 4 = hits of features \(6 and 7\)"):
        run_step(run)


@unit
def test_layers_lie_in_thirds_that_hold_every_layer_once(tmp_path: Path, profile: Profile) -> None:
    found = integrated(prepared(tmp_path, profile))["layer_bands"]
    assert [(row["band"], row["layers"]) for row in found] == [("early", "0–0"), ("middle", "1–1"), ("late", "2–2")]
    assert [row["n_listed"] for row in found] == [0, 2, 3]
    assert [row["n_edges_in_validated"] for row in found] == [0, 2, 2]
    assert [row["n_edges_out_validated"] for row in found] == [3, 1, 0]
    of_many = counting.layer_bands([], [], 26)
    assert [row["layers"] for row in of_many] == ["0–8", "9–17", "18–25"]


@unit
def test_pieces_are_shown_only_where_a_feature_has_no_words(tmp_path: Path, profile: Profile) -> None:
    pieces = [association("L1-1", ON_CORRECT, token, z, level="piece") for token, z in ((" re", 4.0), ("\n\n", 5.0))]
    kinds = [association("L1-2", ON_CORRECT, "keyword", 6.0, level="kind")]
    words = [association("L2-1", ON_CORRECT, "return", 3.0), association("L2-1", ON_CORRECT, " re", 9.0, level="piece")]
    found = integrated(prepared(tmp_path, profile, tokens=[*pieces, *kinds, *words]))
    shown = {one["feature"]: one["tokens_more_a"] for one in found["features"]}
    assert [shown[name] for name in ("L1-1", "L1-2", "L2-1")] == [["\n\n", " re"], [], ["return"]]
