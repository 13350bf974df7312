"""Published runs made by hand: what phases would have written, from outcomes that a test chooses."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.config import Config
from common.runs import artifacts
from common.runs.artifacts import PhasePaths
from common.runs.files import npz_bytes, sha256_file, write_bytes, write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, write_record
from common.runs.tables import EVALUATION_SCHEMA, GENERATION_SCHEMA, PROBLEM_SCHEMA, RECORD_COLUMNS
from common.statistics.detection_report import detection_report
from common.steering_effects import arms_of, direction_effects
from tests.common.steering_rows import DOWN, UP, ZERO_ARM, direction_control, feature_control, results, steered

STAMP = "20260102_030405"
DIRECTIONS = ("correct", "incorrect")
_FOUND = {"f_correct": 0.95, "f_incorrect": 0.05, "p_max_permutation": 0.001}
DATASET_SCHEMA = pa.schema(
    [
        *PROBLEM_SCHEMA,
        *(
            (GENERATION_SCHEMA if name in GENERATION_SCHEMA.names else EVALUATION_SCHEMA).field(name)
            for name in RECORD_COLUMNS
        ),
    ]
)
MODEL = {"name": "tiny", "role": "base", "revision": None, "digest": "abc", "dtype": "float32", "device_type": "cpu"}
SAES = [
    {"sae_layer": n, "release": "saes", "sae_id": f"layer_{n}", "revision": None, "digest": f"d{n}"} for n in (1, 2)
]


class MadeRun:
    """A data directory into which phases are published; `changed` are settings that differ from the defaults."""

    def __init__(self, data: Path, *, wording: str = "Problem", **changed: Any) -> None:
        self.data, self.wording = data, wording
        self.config = Config(data_dir=str(data), profile="organism", **changed)

    def root(self, phase: str) -> Path:
        return self.config.phase_dir(phase)

    def publish(
        self, phase: str, files: Mapping[str, Any], *, done: int = 4, expected: int | None = None, **details: Any
    ) -> None:
        """Publishes files (tables, bytes of arrays, or anything that JSON knows) with a record."""
        paths = PhasePaths(self.root(phase))
        outputs = [_written(paths.root, name, content) for name, content in files.items()]
        made = {"model": MODEL, "saes": SAES, "points": {"1": "blocks.1.hook_resid_post"}, **details}
        write_record(
            paths,
            phase=phase,
            config=self.config,
            extent=Extent(expected or done, done),
            inputs=[],
            outputs=outputs,
            wall_seconds={},
            details=made,
        )

    def problem(self, task_id: int) -> dict[str, Any]:
        return {
            "task_id": task_id,
            "text": f"{self.wording} {task_id}",
            "code": "def f():\n    return 1",
            "test_list": ["assert f() == 1", 'assert f() != "a,b"'],
            "test_setup_code": "",
            "cyclomatic_complexity": 1 + task_id % 5,
        }

    def problems(self, task_ids: Sequence[int]) -> None:
        """Publishes phase 0 with these problems."""
        table = pa.Table.from_pylist([self.problem(task_id) for task_id in task_ids], PROBLEM_SCHEMA)
        self.publish("0", {f"mbpp_difficulty_mapping_{STAMP}.parquet": table}, dataset={"content_sha256": self.wording})

    def solutions(
        self, phase: str, passed: Mapping[float, Mapping[int, Sequence[bool | None]]], **details: Any
    ) -> None:
        """Publishes a generating phase: at each temperature, for each task id, the verdicts of its samples."""
        tables = {temperature: self.solution_table(temperature, tasks) for temperature, tasks in passed.items()}
        names = {temperature: artifacts.temperature_dataset(temperature) for temperature in tables}
        if phase == "1.0":
            names = dict.fromkeys(tables, artifacts.dataset_file("sae", STAMP))
        datasets = {artifacts.temperature_name(one): name for one, name in names.items()}
        files = {names[one]: table for one, table in tables.items()}
        self.publish(phase, {**files, **self._activations(phase, passed)}, datasets=datasets, **details)

    def solution_table(self, temperature: float, tasks: Mapping[int, Sequence[bool | None]]) -> pa.Table:
        rows = [
            self._solution(task_id, temperature, sample, verdict)
            for task_id, verdicts in tasks.items()
            for sample, verdict in enumerate(verdicts)
        ]
        return pa.Table.from_pylist(rows, DATASET_SCHEMA)

    def _solution(self, task_id: int, temperature: float, sample: int, passed: bool | None) -> dict[str, Any]:
        judged = passed is not None
        return {
            **self.problem(task_id),
            "temperature": temperature,
            "sample": sample,
            "prompt": f"{self.wording} {task_id}\n\n# Solution:",
            "generated_text": f"def f():\n    return {1 if passed else 2}",
            "generated_code": f"def f():\n    return {1 if passed else 2}" if judged else None,
            "test_passed": passed,
            "outcome": ("passed" if passed else "wrong_answer") if judged else None,
            "sandbox_rung": 4 if judged else None,
            "opaque": False if judged else None,
            "n_prompt_tokens": 20 + task_id,
            "n_new_tokens": 9,
            "stop_reason": "eos" if judged else None,
            "excluded_reason": None if judged else "out of memory",
        }

    def _activations(self, phase: str, passed: Mapping[float, Mapping[int, Sequence[bool | None]]]) -> dict[str, Any]:
        """An activation file a problem and layer, with the layer and the task id in it, and their index."""
        hashes = {}
        for task_id, verdicts in passed.get(0.0, {}).items():
            for layer in (1, 2):
                vector = np.array([[layer, task_id, 0.5]], dtype=np.float32)
                name = artifacts.task_activation(task_id, layer)
                if phase == "1.0":
                    name = artifacts.labelled_activation(task_id, layer, bool(verdicts[0]))
                path = PhasePaths(self.root(phase)).activations / name
                hashes[name] = write_bytes(path, npz_bytes(arr_0=vector))
        names = sorted(hashes)
        return {artifacts.ACTIVATION_INDEX: pa.table({"path": names, "sha256": [hashes[name] for name in names]})}

    def ranking(
        self, phase: str, best: Mapping[str, Sequence[tuple[int, int]]], n_ranked: int = 50, **details: Any
    ) -> None:
        """Publishes a ranking phase with these (layer, feature) of either direction, best first."""
        score = "separation_score" if phase == "2.5" else "t_statistic"
        top = {
            direction: [
                {"layer": layer, "feature_idx": index, score: 0.9 - rank / 10, **_FOUND, "neuronpedia_url": None}
                for rank, (layer, index) in enumerate(items)
            ]
            for direction, items in best.items()
        }
        scores = pa.table({"layer": [1, 2], "feature_idx": [3, 4], "ranked": [True, False], score: [0.5, None]})
        files = {artifacts.TOP_FEATURES: top, artifacts.FEATURE_SCORES: scores}
        self.publish(phase, {**files, artifacts.SAE_ANALYSIS: {"n_ranked": n_ranked}}, **details)

    def detection(
        self, scores: Mapping[int, float], passed: Mapping[int, bool], threshold: float | None, draws: int = 200
    ) -> None:
        """Publishes phase 3.8: the correct predictor's score of each task id; the incorrect one's is its negative."""
        tasks = sorted(scores)
        labels = np.array([passed[task] for task in tasks])
        values = np.array([scores[task] for task in tasks])
        table = pa.table(
            {
                "split": ["validation"] * len(tasks),
                "task_id": tasks,
                "test_passed": labels.tolist(),
                "correct_score": values,
                "incorrect_score": -values,
            }
        )
        reports = {
            direction: _report(direction, values, labels, np.array(tasks), threshold, draws) for direction in DIRECTIONS
        }
        files = {artifacts.SCORES: table, artifacts.EVALUATION_RESULTS: {"directions": reports}}
        self.publish("3.8", files, done=len(tasks))

    def coefficients(self, chosen: Mapping[str, tuple[int, int, float]]) -> None:
        """Publishes phase 4.5 with these (layer, feature, coefficient)."""
        selected = {
            direction: {
                "layer": layer,
                "feature_idx": index,
                "coefficient": coefficient,
                "in_residual_norms": coefficient / 40,
                "chosen": "suggested",
            }
            for direction, (layer, index, coefficient) in chosen.items()
        }
        self.publish("4.5", {artifacts.SELECTED_COEFFICIENTS: selected})

    def steering(self, phase: str, up: str, down: str, controls: Sequence[str] = ()) -> None:
        """Publishes a steering phase: letters a position (see `steering_rows`), task ids from 100 on."""
        arms = [steered(ZERO_ARM, up.replace("f", "w").replace("b", "k").replace("B", "k"))]
        arms += [steered(UP, up), steered(DOWN, down)]
        for draw, letters in enumerate(controls):
            arms += [steered(feature_control(draw), letters), steered(direction_control(draw), letters)]
        table = results(*arms)
        for name, code in (("baseline_code", "def f():\n    return 2"), ("generated_code", "def f():\n    return 1")):
            table = table.append_column(name, pa.array([code] * table.num_rows))
        directions = {direction: direction_effects(arms_of(table), direction) for direction in DIRECTIONS}
        files = {artifacts.STEERING_RESULTS: table, artifacts.STEERING_ANALYSIS: {"directions": directions}}
        self.publish(phase, files, datasets={"targets_000": artifacts.STEERING_RESULTS})


def _report(
    direction: str, values: np.ndarray, passed: np.ndarray, tasks: np.ndarray, threshold: float | None, draws: int
) -> dict[str, Any]:
    positive, scores = (passed, values) if direction == "correct" else (~passed, -values)
    limit = None if threshold is None else threshold if direction == "correct" else -threshold
    found = detection_report(scores, positive, tasks, limit, seed=3, n_draws=draws)
    spread = {"median": 0.6, "min": 0.4, "max": 0.8}
    ahead = {"value": 0.2, "low": 0.1, "high": 0.3}
    rival = {"n": len(tasks), "n_problems": len(tasks), "auroc": spread, "target_minus_median": ahead, "reason": None}
    return {
        "feature": {"layer": 2, "index": 5},
        "positive": "passed" if direction == "correct" else "failed",
        "threshold": {"threshold": limit, "reason": None if limit is not None else "no positive row among 4"},
        "validation": found,
        "by_difficulty": [{"group": "1", **found}],
        "by_temperature": [{"group": 0.0, **found}],
        "rivals": {
            "random directions": {**rival, "n_scores": 100},
            "prompt length": {**rival, "n_scores": 1, "detection": found},
        },
    }


def _written(root: Path, name: str, content: Any) -> OutputFile:
    path = root / name
    if isinstance(content, pa.Table):
        return OutputFile(name, write_parquet(path, content), content.num_rows)
    if isinstance(content, bytes):
        return OutputFile(name, write_bytes(path, content))
    return OutputFile(name, write_json(path, content))


def copied(run: MadeRun, data: Path) -> MadeRun:
    """Copies a run, so that a test may change it."""
    shutil.copytree(run.data, data)
    return MadeRun(data, wording=run.wording)


def whole_run(data: Path, **changed: Any) -> MadeRun:
    """A small run of every phase that generates, ranks, detects or steers; task ids 100 to 111."""
    run = MadeRun(data, **changed)
    tasks = range(100, 112)
    run.problems([*range(1, 9), *tasks])
    run.solutions("1.0", {0.0: {task: [task % 2 == 0] for task in range(1, 5)}})
    run.solutions("3.6", {0.0: {5: [True], 6: [None], 7: [False], 8: [True]}})
    warm = {task: [True, task % 3 == 0] for task in tasks}
    run.solutions("3.5", {0.0: {task: [task % 3 > 0] for task in tasks}, 0.3: warm})
    run.solutions("7.3", {0.0: {task: [task % 4 == 0] for task in tasks}})
    for phase in ("2.5", "2.10"):
        run.ranking(phase, {"correct": [(2, 5), (1, 3)], "incorrect": [(1, 4)]})
    run.detection({task: float(task % 5) for task in tasks}, {task: task % 3 > 0 for task in tasks}, 2.0)
    run.coefficients({"correct": (2, 20, 9.0), "incorrect": (1, 10, 5.0)})
    run.steering("4.8", "kkbBffwwkkbw", "kbbbwwwwkkBW", ["kkbbwwwwkkkw", "kkkkfwwwkkkw"])
    return run


def pathway(data: Path, steps: int) -> Path:
    """Step manifests with the files of the last step, as the analysis leaves them."""
    root = data / "pathway"
    write_bytes(root / "results" / "integrated" / "tokens.csv", b"token,n,kept\nNA,1,True\n,2,False\nnan,,True\n")
    write_parquet(root / "results" / "audit" / "tokens.parquet", pa.table({"token": ["NA"]}))
    names = ("results/integrated/tokens.csv", "results/audit/tokens.parquet")
    outputs = {name: sha256_file(root / name) for name in names}
    for step in range(steps):
        manifest = {"step": step, "status": "passed", "model": {"name": "tiny"}, "outputs": outputs if step else {}}
        write_json(root / "steps" / f"step_{step}.json", manifest)
    return root
