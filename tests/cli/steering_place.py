"""A tiny random model with everything that steering reads: a ranking by hand, and phases 3.5, 3.6 and 4.5 on it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from cli.main import main
from common.config import resolve_config
from common.profiles import load_profile
from common.runs.artifacts import FEATURE_SCORES, SELECTED_COEFFICIENTS, STEERING_RESULTS, TOP_FEATURES, PhasePaths
from common.runs.files import write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, sealed, write_record
from common_simplified.capture_points import describe_saes, sae_identities
from tests.cli.helpers import PROFILE, Answer, Here, logging_left_as_found
from tests.common_simplified.fixtures import N_LAYERS, WIDTH, mbpp_rows, write_jsonl, write_model, write_sae_lens

TOP = {
    "correct": [{"layer": 2, "feature_idx": 5, "separation_score": 0.5}],
    "incorrect": [{"layer": 0, "feature_idx": 6, "separation_score": 0.4}],
}
SETTINGS = (
    *("phase3_5_temperatures=0", "phase4_5_coefficients=2,4", "phase4_5_problems_per_coeff=3"),
    *("phase4_5_final_eval_problems=2", "phase4_5_max_new_tokens=24", "phase4_8_controls=1"),
)
CHOICE = ("correct=4", "incorrect=2")


class Place(NamedTuple):
    """A profile with an instruction-tuned sibling, a data directory, and the commands on it."""

    profile: Path
    data: Path
    here: Here

    def words(self, command: str, *more: object) -> list[object]:
        """Returns the command line of a phase with the settings of these tests; later settings win."""
        return ["phase", command, "--profile", self.profile, "--data-dir", self.data, *SIZES, *more]

    def phase(self, number: str, *more: object) -> Answer:
        """Runs one phase in this process."""
        return self.here(*self.words(number, *more))

    def directory(self, phase: str) -> Path:
        """Returns the directory of a phase."""
        return self.data / f"phase{phase.replace('.', '_')}"

    def record(self, phase: str) -> dict[str, Any]:
        """Returns the record of a phase."""
        return json.loads((self.directory(phase) / "metadata.json").read_text())

    def change_record(self, phase: str, **changed: Any) -> None:
        """Writes a phase's record with other values."""
        write_json(self.directory(phase) / "metadata.json", sealed({**self.record(phase), **changed}))

    def selected(self) -> dict[str, Any]:
        """Returns what phase 4.5 chose."""
        return json.loads((self.directory("4.5") / SELECTED_COEFFICIENTS).read_text())

    def results(self) -> bytes:
        """Returns the bytes of phase 4.8's results."""
        return (self.directory("4.8") / STEERING_RESULTS).read_bytes()


SIZES = tuple(word for setting in SETTINGS for word in ("--set", setting))


def make_place(root: Path) -> Path:
    """Writes models, SAEs and problems under `root`, runs what steering stands on, and returns the profile's file."""
    write_model(root / "model")
    write_model(root / "sibling", seed=7)
    write_sae_lens(root / "saes")
    write_jsonl(root / "problems.jsonl", mbpp_rows(60))
    profile = root / "tiny.toml"
    profile.write_text(f'instruct_model = "{root}/sibling"\n{PROFILE.format(root=root)}', encoding="utf-8")
    options = ("--profile", profile, *SIZES)
    for phase in ("0", "0.1"):
        done(quietly("phase", phase, *options))
    publish_ranking(profile, root / "data")
    for phase in ("3.5", "3.6"):
        done(quietly("phase", phase, *options))
    done(quietly("phase", "4.5", *options, "--select", *CHOICE))
    return profile


def quietly(*arguments: object) -> Answer:
    """Runs a command in this process from a fixture, where capfd is not to be had; leaves logging as it was."""
    said, printed = io.StringIO(), io.StringIO()
    with logging_left_as_found(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        code = main([str(argument) for argument in arguments])
    return Answer(code, printed.getvalue(), said.getvalue())


def done(answer: Answer) -> str:
    """Asserts that a command succeeded, and returns what it logged."""
    assert answer.code == 0, answer
    return answer.err


def publish_ranking(
    profile: Path, data: Path, top: Mapping[str, Any] = TOP, rates: Mapping[tuple[int, int], float] | None = None
) -> None:
    """Publishes an output of phase 2.5 whose features fire as often as their index says, or as `rates` does."""
    config = resolve_config({"profile": str(profile), "data_dir": str(data)}, environment={}).config
    paths = PhasePaths(config.phase_dir("2.5"))
    places = [(layer, index) for layer in range(N_LAYERS) for index in range(WIDTH)]
    fires = {**{place: place[1] / WIDTH for place in places}, **(rates or {})}
    rows = [
        {"layer": layer, "feature_idx": index, "f_correct": rate, "f_incorrect": rate}
        for (layer, index), rate in fires.items()
    ]
    table = pa.Table.from_pylist(rows)
    outputs = [
        OutputFile(TOP_FEATURES, write_json(paths.root / TOP_FEATURES, top)),
        OutputFile(FEATURE_SCORES, write_parquet(paths.root / FEATURE_SCORES, table), table.num_rows),
    ]
    saes = describe_saes(sae_identities(load_profile(str(profile)), range(N_LAYERS)))
    publish(profile, data, "2.5", outputs, {"saes": saes, "n_correct": 10, "n_incorrect": 20})


def publish(
    profile: Path,
    data: Path,
    phase: str,
    outputs: list[OutputFile] | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Writes a phase's record, for an output that covers its split."""
    config = resolve_config({"profile": str(profile), "data_dir": str(data)}, environment={}).config
    write_record(
        PhasePaths(config.phase_dir(phase)),
        phase=phase,
        config=config,
        extent=Extent(4, 4),
        inputs=[],
        outputs=outputs or [],
        wall_seconds={},
        details=details or {},
    )
