"""A run of the bundled model blown up to the size of a full one: 974 problems, 78 controls, 5 temperatures, 26 layers.

The bundled model has as many problems as the real data set. What a full run has more of is added by repeating what the
small one found, and its programs are as long as those of a real model: what the report says of it means nothing, its
size does. Left as they are: plots whose size depends neither on controls nor on layers.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from common import plotting, steering_plots
from common.runs.artifacts import PhasePaths, temperature_dataset, temperature_name
from common.runs.files import read_json, read_parquet, sha256_file, write_json, write_parquet
from common.runs.metadata import read_record, sealed

CONTROLS = 39  # of each of two kinds
LAYERS = 26
TEMPERATURES = (0.0, 0.3, 0.6, 0.9, 1.2)
COEFFICIENTS = 7
EXAMPLES = 97  # problems of a coefficient: the whole split, where ten are the default
LINES = (20, 60)  # of a program, 500 tokens at most
LINE = "    {0}_{1} = [{0} + {2} for {0} in {3}_{1}[:{2}] if {0} != {4}]"
WORDS = ("total", "items", "count", "number", "value", "result", "index", "left", "right")


def full_size(small: Path, data: Path) -> Path:
    """Copies the run in `small` to `data`, blown up; returns `data`."""
    shutil.copytree(small, data, ignore=shutil.ignore_patterns("activations", "logs", "locks", "snapshots", "segments"))
    for phase in ("phase4_8", "phase7_6"):
        _more_controls(data / phase)
        _longer_examples(data / phase / "examples", random.Random(phase))
    for phase in ("phase1_0", "phase7_3"):
        _change(data / phase / "sae_fit.json", _more_layers)
    _change(data / "phase4_5" / "phase_4_5_summary.json", _more_coefficients)
    _more_coefficient_examples(data / "phase4_5" / "coefficient_examples")
    _more_temperatures(data / "phase3_5")
    _seal_again(data)
    return data


def _change(path: Path, change: Callable[[Any], None]) -> None:
    content = read_json(path)
    change(content)
    write_json(path, content)


def _repeated(items: list[Any], n: int) -> list[Any]:
    return json.loads(json.dumps(list(islice(cycle(items), n))))


def _more_controls(root: Path) -> None:
    def change(analysis: dict[str, Any]) -> None:
        for entry in analysis["directions"].values():
            for kind in ("random_feature", "random_direction"):
                conditions = _repeated(entry["controls"][kind]["conditions"], CONTROLS)
                for draw, condition in enumerate(conditions):
                    condition |= {"draw": draw, "condition": f"{condition['condition'][:-2]}{draw:02d}"}
                entry["controls"][kind]["conditions"] = conditions

    path = root / "steering_effect_analysis.json"
    _change(path, change)
    analysis = read_json(path)
    for name, made in (
        ("steering_controls", steering_plots.controls_figure(analysis["directions"])),
        ("steering_effects", steering_plots.effects_figure(analysis["directions"], analysis["noise_floor"])),
    ):
        plotting.save(made, root / name)


def _more_layers(fit: dict[str, Any]) -> None:
    fit["layers"] = [entry | {"layer": layer} for layer, entry in enumerate(_repeated(fit["layers"], LAYERS))]


def _more_coefficients(summary: dict[str, Any]) -> None:
    for entry in summary["directions"].values():
        entry["coefficients"] = _repeated(entry["coefficients"], max(COEFFICIENTS, len(entry["coefficients"])))


def _more_coefficient_examples(directory: Path) -> None:
    for path in directory.glob("*.json"):
        examples = _repeated(read_json(path), EXAMPLES)
        for number, example in enumerate(examples):
            example["task_id"] = number
        write_json(path, examples)
    _longer_examples(directory, random.Random(0))


def _longer_examples(directory: Path, draw: random.Random) -> None:
    for path in sorted(directory.glob("*.json")):
        examples = read_json(path)
        for example in examples:
            program = [_line(draw) for _ in range(draw.randint(*LINES))]
            changed = [line for line in program for line in _rewritten(line, draw)]
            example |= {"baseline_code": "\n".join(program), "generated_code": "\n".join(changed)}
        write_json(path, examples)


def _line(draw: random.Random) -> str:
    first, second = draw.sample(WORDS, 2)
    return LINE.format(first, draw.randint(0, 9), draw.randint(0, 99), second, draw.randint(0, 99))


def _rewritten(line: str, draw: random.Random) -> list[str]:
    """Returns what became of a line: itself, another in its place, none, two, or itself with another word."""
    kept, other = [line], _line(draw)
    return draw.choice([kept, kept, [other], [], [line, other], [line.replace("+", "-")]])


def _more_temperatures(root: Path) -> None:
    """Gives phase 3.5 all temperatures, those that it lacks as copies of its last."""
    paths = PhasePaths(root)
    record = read_record(paths)
    assert record is not None
    last = record["temperatures"][-1]
    for temperature in TEMPERATURES:
        name = temperature_name(temperature)
        if name not in record["results"]:
            table = read_parquet(root / temperature_dataset(last))
            write_parquet(root / temperature_dataset(temperature), table)
            record["outputs"].append({"path": temperature_dataset(temperature), "sha256": "", "rows": table.num_rows})
            record["results"][name] = record["results"][temperature_name(last)]
            record["datasets"][name] = temperature_dataset(temperature)
    record["temperatures"] = sorted({*record["temperatures"], *TEMPERATURES})
    write_json(paths.metadata, sealed(record))


def _seal_again(data: Path) -> None:
    """Brings every record up to date with the files it names, and with the inputs that were changed."""
    renewed: dict[str, str] = {}
    for path in data.glob("phase*/metadata.json"):
        record = read_json(path)
        record["outputs"] = [entry for entry in record["outputs"] if not entry["path"].startswith("activations/task")]
        for entry in record["outputs"]:
            there = path.parent / entry["path"]
            now = sha256_file(there) if there.is_file() else entry["sha256"]
            renewed[entry["sha256"]] = now
            entry["sha256"] = now
        write_json(path, record)
    for path in data.glob("phase*/metadata.json"):
        record = read_json(path)
        for entry in record["inputs"]:
            entry["sha256"] = renewed.get(entry["sha256"], entry["sha256"])
        write_json(path, sealed(record))
