"""Every file of a real run against the glossary, both ways: `docs/outputs.md` says what is there, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.glossary.files import FILES, KNOWN_ANSWERS, record_of
from common.glossary.words import File
from common.phases import PHASES
from tests.common.glossary.checking import Seen, fields_of
from tests.organism_runs.conftest import done
from tests.organism_runs.steering_runs import Effects

# What these runs do not write: nothing fails, one candidate feature is tried, and the grid is whole.
NOT_WRITTEN = {"excluded_tasks.json", "screening/coefficient_results.parquet"}


def look(data: Path, seen: Seen) -> set[int]:
    """Looks at every file that the phases' records name; returns which descriptions were met."""
    met: set[int] = set()
    for spec in PHASES:
        root = data / f"phase{spec.id.replace('.', '_')}"
        record = json.loads((root / "metadata.json").read_text(encoding="utf-8"))
        seen.value(f"phase {spec.id}: metadata.json", record, record_of(spec.id))
        for name in [entry["path"] for entry in record["outputs"]] + arrays(root) + replicated(root):
            files = [file for file in FILES[spec.id] if file.pattern().fullmatch(name)]
            assert len(files) == 1, f"phase {spec.id}: {name} is described {len(files)} times"
            met.add(id(files[0]))
            seen.look(root, name, files[0])
    return met


def arrays(root: Path) -> list[str]:
    """Returns one of the files of activations, which the index vouches for and not the record."""
    found = sorted(path.relative_to(root).as_posix() for path in root.glob("activations/**/*.npz"))
    return found[:1]


def replicated(root: Path) -> list[str]:
    """Returns the files that `--split` wrote beside a phase's own."""
    found = (path for path in root.glob("by_split/*/*") if path.is_file() and path.name != "metadata.json")
    return [path.relative_to(root).as_posix() for path in found]


def unseen(seen: Seen) -> Iterator[str]:
    """Yields what is described, should always be there, and was not."""
    for phase, files in FILES.items():
        for file in (*files, File("metadata.json", "the record", record_of(phase))):
            if file.name not in NOT_WRITTEN:
                for name, field in fields_of(file.holds):
                    if field.always and id(field) not in seen.fields and ".workers." not in name:
                        yield f"phase {phase}: {file.name}{name}"


@pytest.mark.smoke
def test_every_file_column_and_key_of_a_run_is_described_and_every_description_is_met(effects: Effects) -> None:
    done("phase", "2.5", "--profile", "organism", "--data-dir", effects.data, "--split", "validation")
    seen = Seen()
    met = look(effects.data, seen)
    assert seen.problems == []
    described = {id(file): f"{phase}: {file.name}" for phase, files in FILES.items() for file in files}
    lacking = [name for key, name in described.items() if key not in met]
    assert [name for name in lacking if name.partition(": ")[2] not in NOT_WRITTEN] == []
    assert list(unseen(seen)) == []


@pytest.mark.slow
def test_the_known_answers_are_described_too(answered: Path) -> None:
    seen = Seen()
    look(answered, seen)
    seen.look(answered, KNOWN_ANSWERS.name, KNOWN_ANSWERS)
    assert seen.problems == []
    assert [name for name, field in fields_of(KNOWN_ANSWERS.holds) if id(field) not in seen.fields] == []
