"""The pathway analysis from the producer to the tables, on the bundled model, through the real command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from common.glossary.pathway_results import PATHWAY_FILES
from tests.common.glossary.checking import Seen, fields_of
from tests.organism_runs.conftest import Detected, done, run

pytestmark = pytest.mark.slow
SMALL = (
    *("--set", "producer.features_per_layer=2", "--set", "producer.problems_per_class=40"),
    *("--set", "tokens.permutations=500", "--set", "replay.controls_per_layer_pair=40"),
)


class Analysed(NamedTuple):
    """Where the analysis lies, and what the command printed."""

    data: Path
    out: str

    def json(self, name: str) -> dict:  # type: ignore[type-arg]
        """Returns a file of the analysis."""
        return json.loads((self.data / "pathway" / name).read_text())

    def words(self, *more: object) -> tuple[object, ...]:
        """Returns the command line of this analysis."""
        return ("pathway", "--profile", "organism", "--data-dir", self.data, *SMALL, *more)


@pytest.fixture(scope="module")
def analysed(detected: Detected, tmp_path_factory: pytest.TempPathFactory) -> Analysed:
    data = tmp_path_factory.mktemp("pathway") / "data"
    for phase in ("phase0_1", "phase1_0", "phase3_5"):
        shutil.copytree(detected.data / phase, data / phase)
    made = Analysed(data, "")
    result = run(*made.words())
    assert result.returncode == 0, result.stderr
    return made._replace(out=result.stdout)


def test_it_ends_with_the_tables_and_every_step_has_passed(analysed: Analysed) -> None:
    manifests = [analysed.json(f"steps/step_{step}.json") for step in range(6)]
    assert [manifest["status"] for manifest in manifests] == ["passed"] * 6
    for what in ("patching study", "data audit", "causal features", "prototype", "edges", "token associations"):
        assert what in analysed.out
    integrated = analysed.data / "pathway" / "results" / "integrated"
    assert (integrated / "integrated.json").is_file() and (integrated / "summary.md").is_file()
    assert list(integrated.glob("*.csv")) and list(integrated.glob("*.png"))


def test_the_feature_that_detects_failures_best_is_among_the_causal_ones(analysed: Analysed) -> None:
    causal = {item["feature"]: item for item in analysed.json("data/causal_features.json")["features"]}
    assert causal["L2-498"]["class"] == "incorrect" and causal["L2-498"]["rate_difference"] > 0.1
    for item in causal.values():
        assert item["q"] <= 0.05 and abs(item["rate_difference"]) >= 0.1 and item["is_causal"] is item["fdr_causal"]


def test_edges_go_forward_and_what_is_validated_keeps_the_rule(analysed: Analysed) -> None:
    found = analysed.json("results/pathways/validated_pathways.json")
    validated = [edge for edge in found["edges"] if edge["validated"]]
    assert validated and all(edge["source_layer"] < edge["target_layer"] for edge in found["edges"])
    for edge in validated:
        replay = edge["replay"]
        assert replay["q"] <= 0.05 and replay["sign_agreement"] >= 0.8 and 0.5 <= replay["slope"] <= 2
        assert replay["ci_low"] * replay["ci_high"] > 0


def test_a_second_run_finds_everything_current_and_says_the_same(analysed: Analysed) -> None:
    again = run(*analysed.words())
    assert again.returncode == 0 and again.stdout == analysed.out
    assert again.stderr.count("complete and current") == 7 and "loading" not in again.stderr
    planned = run(*analysed.words("--dry-run"))
    assert planned.returncode == 0 and planned.stdout.count("be skipped (complete and current)") == 7


def test_another_threshold_of_tokens_runs_steps_4_and_5_alone(analysed: Analysed) -> None:
    said = done(*analysed.words("--set", "tokens.min_log_odds=1"))
    ran = [line for line in said.splitlines() if "passed in" in line]
    assert [line.partition(" step ")[2][0] for line in ran] == ["4", "5"]


def test_every_file_column_and_key_is_described_and_every_description_is_met(analysed: Analysed) -> None:
    root, seen = analysed.data / "pathway", Seen()
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    kept_apart = ("producer/", "locks/", "logs/", "results/pathways/segments/", "results/pathways/locks/")
    for name in [name for name in names if not name.startswith(kept_apart)]:
        (file,) = [file for file in PATHWAY_FILES if file.pattern().fullmatch(name)]
        seen.look(root, name, file)
    assert seen.problems == []
    fields = [(f"{file.name}{name}", field) for file in PATHWAY_FILES for name, field in fields_of(file.holds)]
    unseen = [name for name, field in fields if field.always and id(field) not in seen.fields]
    absent = (".errors.", ".chains.", ".similarity.edges.")  # so small a study has none
    assert [name for name in unseen if not any(part in name for part in absent)] == []
