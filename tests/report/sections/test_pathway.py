from __future__ import annotations

from pathlib import Path

import pytest

from common.config import Config
from common.errors import PipelineError
from report.blocks import Figure, Missing
from report.run import Run
from report.sections import pathway
from report.sections.pathway import section
from tests.report.sections.looking import every_block, plain, table, texts
from tests.report.sections.pathway_artifacts import SIMILARITY, document, edge, token, write_pathway
from tests.report.sections.saying import rows, said, sound

pytestmark = pytest.mark.unit


def run_in(tmp_path: Path) -> Run:
    return Run(Config(data_dir=str(tmp_path)))


# Wilson by hand, z² = 3.8415: of 2 of 8 7.1 % to 59.1 %; of 1 of 4 4.6 % to 69.9 %.
def test_the_lead_says_how_many_edges_and_tokens_beside_matched_sources(tmp_path: Path) -> None:
    write_pathway(tmp_path)
    lead = plain(sound(section(run_in(tmp_path))).lead)
    assert lead == (
        "25.0 % (2 of 8; 95 % interval 7.1 % to 59.1 %) of the replayed edges into 3 causal features were validated, "
        "where 25.0 % (1 of 4; 95 % interval 4.6 % to 69.9 %) of matched sources pass the same rule: 1 are "
        "computation, 1 one direction that the stream carries on. Of 4 causal features tested, 2 move tokens (5 in all "
        "contrasts)."
    )


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"edges_validated": 0}, "No edge was validated, of 8 replayed, where 25.0 %"),
        ({"edges_tested": 0, "edges_validated": 0}, "No edge could be replayed (12 were kept by gradient)."),
        ({"features_listed": 0}, "No feature was found to be causal, so there was nothing to trace."),
    ],
)
def test_a_null_is_said_to_be_one(tmp_path: Path, counts: dict[str, int], words: str) -> None:
    write_pathway(tmp_path, document(counts=counts), edges=[])
    assert plain(sound(section(run_in(tmp_path))).lead).startswith(words)


@pytest.mark.parametrize("null", [None, {"false_positive_rate": {"value": None, "numerator": 0, "denominator": 0}}])
def test_matched_sources_that_were_not_measured_are_said_not_to_be(tmp_path: Path, null: object) -> None:
    write_pathway(tmp_path, document(matched_null=null))
    made = sound(section(run_in(tmp_path)))
    assert "(how many matched sources would pass was not measured)" in made.lead
    assert "matched sources that pass" not in said(made)


def test_counts_stand_with_what_they_are_of(tmp_path: Path) -> None:
    write_pathway(tmp_path)
    shown = {row["what"]: row for row in rows(table(sound(section(run_in(tmp_path))), "What was found in tiny"))}
    assert shown["trials read"]["n"] == "1,234"
    assert shown["edges validated"]["of"] == "of 8: 25.0 % [7.1 %, 59.1 %]"
    assert shown["chains mediated"]["of"] == "of 4: 25.0 % [4.6 %, 69.9 %]"


def test_the_strongest_edges_come_first_with_their_intervals(tmp_path: Path) -> None:
    weaker = edge("L0-2", "L1-4", 0.5, source_class=None)
    refused = edge("L0-3", "L1-4", 9.0, validated=False)
    write_pathway(tmp_path, edges=[weaker, refused, edge("L0-1", "L1-4", -2.0)])
    shown = rows(table(sound(section(run_in(tmp_path))), "All 2 validated edges"))
    assert [row["edge"] for row in shown] == ["L0-1 → L1-4", "L0-2 → L1-4"]
    assert shown[0]["effect"] == "−2.00 [−2.50, −1.50]" and shown[0]["sign agrees"] == "98 %"
    assert shown[1]["classes"] == "unknown → incorrect"


def test_what_does_not_fit_is_counted_and_said_to_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pathway, "MOST_ROWS", 1)
    write_pathway(tmp_path, edges=[edge("L0-1", "L1-4", 2.0), edge("L0-2", "L1-4", 3.0)])
    made = sound(section(run_in(tmp_path)))
    cut = table(made, "The first 1 of 2 validated edges")
    assert len(cut.rows) == 1 and "pathway/results/integrated/edges.csv" in cut.caption


def test_tokens_of_the_primary_contrasts_come_strongest_first(tmp_path: Path) -> None:
    other = token("ignored", 9.0, "against_baseline")
    write_pathway(tmp_path, tokens=[token("weak", 2.0), other, token("strong", -5.0)])
    made = sound(section(run_in(tmp_path)))
    shown = rows(table(made, "All 2 kept tokens, patch against patch"))
    assert [row["token"] for row in shown] == ["strong", "weak"]
    assert shown[0]["first arm"] == "30 of 1,200 in 40" and shown[0]["log-odds"] == "+1.25"
    contrasts = rows(table(made, "Tokens kept by contrast"))
    assert [(row["second arm"], row["patch against patch"]) for row in contrasts] == [
        *(("correct with incorrect patch", "yes"), ("correct baseline", "no"))
    ]


def test_without_kept_tokens_that_is_said(tmp_path: Path) -> None:
    write_pathway(tmp_path, document(pathways=[]), tokens=[])
    made = sound(section(run_in(tmp_path)))
    assert any("No token was kept" in text for text in texts(made, "note"))
    assert "Hypotheses" not in said(made)


# A CSV cell that a spreadsheet would take for a formula stands behind an apostrophe, and so does one that begins so.
@pytest.mark.parametrize("text", ["=", "'", "-1", "nums", "<script>"])
def test_tokens_are_shown_as_they_are(tmp_path: Path, text: str) -> None:
    write_pathway(tmp_path, tokens=[token(text, 2.0)])
    (row,) = rows(table(sound(section(run_in(tmp_path))), "All 1 kept tokens"))
    assert row["token"] == text


@pytest.mark.parametrize(
    ("text", "seen"),
    [(" nums", "␣nums"), ("x  ", "x␣␣"), ("  ", "␣␣"), ("", "(empty)"), ("a\nb", "a\\nb"), ("\u202e", "\\u202e")],
)
def test_what_does_not_show_is_made_visible(text: str, seen: str) -> None:
    assert pathway.shown(text) == seen


def test_pathways_that_end_in_tokens_are_called_hypotheses(tmp_path: Path) -> None:
    write_pathway(tmp_path)
    made = sound(section(run_in(tmp_path)))
    (row,) = rows(table(made, "All 1 pathways that end in tokens"))
    assert row["more under its correct patch"] == "␣nums" and row["more under its incorrect patch"] == "–"
    assert any(text.startswith("Hypotheses") for text in texts(made, "note"))


def test_whether_connected_features_move_the_same_words_is_said_with_its_null(tmp_path: Path) -> None:
    write_pathway(tmp_path)
    words = said(sound(section(run_in(tmp_path))))
    assert "Mean similarity 0.500, 0.125 with features dealt anew (95 % of 2,000 draws −0.250 to +0.400)" in words
    untested = {**SIMILARITY, "reason": "no edge has token effects at both ends", "n_compared": 0}
    write_pathway(tmp_path, document(similarity=untested))
    words = said(sound(section(run_in(tmp_path))))
    assert "was not tested: no edge has token effects at both ends (0 of 2 validated" in words


def test_the_network_and_the_tokens_are_pictures(tmp_path: Path) -> None:
    write_pathway(tmp_path)
    pictures = [one for one in every_block(sound(section(run_in(tmp_path))).blocks) if isinstance(one, Figure)]
    assert len(pictures) == 4 and all(one.svg.startswith("<svg") and "n = " in one.caption for one in pictures)


# --- what is not there, or not to be trusted


def test_without_the_analysis_there_is_no_section(tmp_path: Path) -> None:
    assert section(run_in(tmp_path)) is None


def test_an_unfinished_analysis_is_named_with_its_command(tmp_path: Path) -> None:
    write_pathway(tmp_path, steps={4: {}, 5: {}})
    found = section(run_in(tmp_path))
    assert isinstance(found, Missing)
    assert found.why == "The pathway analysis is unfinished: step 4 of 5 (token association) has not been run."
    assert found.command == f"python3 run.py pathway --data-dir {tmp_path}"


def test_a_step_that_did_not_pass_gives_its_reason(tmp_path: Path) -> None:
    write_pathway(tmp_path, steps={0: {"status": "failed", "message": "a file is cut off"}})
    found = section(run_in(tmp_path))
    assert isinstance(found, Missing) and "step 0 of 5 (data audit) did not pass (a file is cut off)" in found.why


def test_what_was_cut_short_forced_or_is_out_of_date_carries_a_warning(tmp_path: Path) -> None:
    path = "results/pathways/validated_pathways.json"
    steps = {
        3: {"limit": 2, "outputs": {path: "new"}},
        4: {"forced": True, "inputs": {path: "new"}},
        5: {"inputs": {path: "old"}},
    }
    write_pathway(tmp_path, steps=steps)
    assert texts(sound(section(run_in(tmp_path))), "warning") == [
        "Read with care: step 3 took only the first 2 (--limit); step 4 was run with --force; step 5 was made from "
        "files that have changed since."
    ]


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    root = write_pathway(tmp_path)
    (root / "results" / "integrated" / "edges.csv").write_text("edge_id\n")
    with pytest.raises(PipelineError, match=r"edges\.csv is damaged"):
        section(run_in(tmp_path))


def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path) -> None:
    root = write_pathway(tmp_path)
    (root / "steps" / "step_3.json").write_text("[]")
    with pytest.raises(PipelineError, match=r"step_3\.json is damaged: it is not the manifest of a step"):
        section(run_in(tmp_path))
