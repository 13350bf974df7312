"""A tiny random model with what the producer reads: phases 0 to 1.0 and 3.5, every other problem called solved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from common.config import resolve_config
from common.runs.files import write_json, write_parquet
from common.runs.metadata import sealed
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.steps import Run
from tests.cli.helpers import PROFILE
from tests.cli.steering_place import done, publish_ranking, quietly
from tests.common_simplified.fixtures import mbpp_rows, write_jsonl, write_model, write_sae_lens

SIZES = (
    *("--set", "producer.features_per_layer=1", "--set", "producer.problems_per_class=3"),
    *("--set", "producer.prompts_per_class=4", "--set", "producer.max_new_tokens=24"),
)
GIVEN = tuple(SIZES[1::2])


class ProducerPlace(NamedTuple):
    """A profile's file and its data directory."""

    profile: Path
    data: Path

    def words(self, *more: object) -> list[object]:
        """Returns the command line of the analysis in this place."""
        return ["pathway", "--profile", self.profile, "--data-dir", self.data, *SIZES, *more]

    def run(self, *given: str, **options: Any) -> Run:
        """Returns the run of that command line."""
        resolved = resolve_config({"profile": str(self.profile), "data_dir": str(self.data)}, environment={})
        settings = load_settings(resolved.profile.name, [*GIVEN, *given])
        return Run(resolved.config, resolved.profile, settings, PathwayPaths(self.data / "pathway"), **options)


def make_producer_place(root: Path) -> ProducerPlace:
    """Makes everything that the producer reads under `root`."""
    write_model(root / "model")
    write_sae_lens(root / "saes")
    write_jsonl(root / "problems.jsonl", mbpp_rows(60))
    profile = root / "tiny.toml"
    profile.write_text(PROFILE.format(root=root), encoding="utf-8")
    options = ("--profile", profile, "--set", "phase3_5_temperatures=0")
    for phase in ("0", "0.1"):
        done(quietly("phase", phase, *options))
    done(quietly("phase", "1.0", *options, "--site", "resid_post"))  # random SAEs fit nowhere
    publish_ranking(profile, root / "data")
    done(quietly("phase", "3.5", *options))
    relabel(root / "data" / "phase1_0")
    relabel(root / "data" / "phase3_5")
    return ProducerPlace(profile, root / "data")


def relabel(directory: Path) -> None:
    """Calls every other solution of a published phase a passing one, in its data set, vectors and record."""
    record = json.loads((directory / "metadata.json").read_text())
    outputs = {entry["path"]: entry for entry in record["outputs"]}
    for name in [name for name in outputs if name.startswith("dataset_") and name.endswith(".parquet")]:
        table = pq.read_table(directory / name)
        passed = [place % 2 == 0 for place in range(table.num_rows)]
        changed = table.set_column(table.column_names.index("test_passed"), "test_passed", pa.array(passed))
        outputs[name]["sha256"] = write_parquet(directory / name, changed)
        tasks = [task for task, label in zip(table["task_id"].to_pylist(), passed, strict=True) if label]
    if (directory / "activations" / "incorrect").is_dir():
        outputs["activations/index.parquet"]["sha256"] = _move_vectors(directory / "activations", tasks)
    write_json(directory / "metadata.json", sealed(record))


def _move_vectors(activations: Path, tasks: list[int]) -> str:
    """Moves the vectors of problems that are now solved, and writes the index anew."""
    (activations / "correct").mkdir(exist_ok=True)
    rows = pq.read_table(activations / "index.parquet").to_pylist()
    for row in rows:
        name = Path(row["path"]).name
        if int(name.partition("_")[0]) in tasks:
            (activations / row["path"]).rename(activations / "correct" / name)
            row["path"] = f"correct/{name}"
    rows.sort(key=lambda row: row["path"])
    return write_parquet(activations / "index.parquet", pa.Table.from_pylist(rows))
