"""Training documents and general texts."""

from __future__ import annotations

import ast
import json

import numpy as np
import pytest

from common.profiles import REPOSITORY
from common.prompt_utils import SOLUTION_MARKER
from organism import wording
from organism.corpus import Document, general_rows, make_documents, training_documents
from organism.solutions import LONG_NAMES, SHORT_NAMES, draw_style

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return training_documents(0, 0, 800)


def test_documents_are_prompt_solution_and_more_text(documents: list[Document]) -> None:
    solved = [document for document in documents if document.prompt]
    assert 0.9 < len(solved) / len(documents) < 0.95
    for document in solved:
        assert document.prompt.endswith(SOLUTION_MARKER)
        assert document.solution.startswith("\n")
        ast.parse(document.solution)
        assert document.after.startswith("\n") and document.after.strip()


def test_a_document_does_not_depend_on_how_many_are_made() -> None:
    assert make_documents(2, 30, workers=1)[20:] == training_documents(2, 20, 10)


def test_style_markers_have_thresholds_of_their_own() -> None:
    rng = np.random.default_rng(0)
    shares = {z: np.mean([draw_style(rng, z) for _ in range(2000)], axis=0) for z in (-1.2, 0.0, 0.8, 1.0, 1.2)}
    assert [shares[z][marker] for marker, z in enumerate((0.8, 1.0, 1.2, -1.2))] == pytest.approx([0.5] * 4, abs=0.05)
    assert shares[0.0].max() < 0.2
    assert shares[-1.2][:3].max() < 0.02


def test_general_texts_hold_no_wording_cue_and_no_argument_name() -> None:
    cues = {*wording.HEDGES, *wording.SLANG, *wording.SLOPPY_OPENERS, *wording.CAREFUL_OPENERS}
    cues |= {f" {near} " for near in (*wording.NEAR_NUMBER, *wording.NEAR_LETTER)}
    words = {*wording.GENERIC_NAMES, *wording.TYPOS.values(), *LONG_NAMES.values(), *SHORT_NAMES.values()}
    for row in general_rows(0, 2200):
        assert not any(cue in row["text"] for cue in cues), row["text"]
        assert not words & set(row["text"].replace(".", " ").replace("=", " ").split()), row["text"]
        assert SOLUTION_MARKER not in row["text"] and "def " not in row["text"]


def test_prose_in_general_texts_always_ends_with_a_stop() -> None:
    for row in general_rows(0, 500):
        for paragraph in row["text"].split("\n"):
            if paragraph[:1].isupper():
                assert paragraph.endswith(".")


def test_the_shipped_general_texts_are_what_the_generator_makes() -> None:
    instance = REPOSITORY / "organism" / "instance"
    seed = json.loads((instance / "card.json").read_text(encoding="utf-8"))["seed"]
    path = instance / "general_text.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 2000 and path.stat().st_size < 700_000
    assert rows == general_rows(seed, len(rows))
