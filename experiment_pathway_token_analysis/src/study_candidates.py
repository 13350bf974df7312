"""Which features a patching study tests, and what it sets them to: read from phase 1.0's activations.

Candidates are, in every layer that step 1 selects from and for either class, the features of largest |Cohen's d| whose
mean is higher in that class. What a feature is set to is its mean over the class's problems, silent ones included. One
SAE is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from common.statistics.feature_tests import cohens_d
from common.statistics.selection import class_means
from common_simplified.feature_ranking import LabelledSplit, layer_activations
from common_simplified.patching import FeaturePatch, FeatureReader
from common_simplified.sae_loader import decoder_row, load_encoder
from common_simplified.sites import HookPoint
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.study_state import StudyInputs


class Candidate(NamedTuple):
    """One feature: its class (the one with the higher mean), Cohen's d, and a patch to either class's mean."""

    layer: int
    index: int
    prompt_class: str
    cohen_d: float
    means: dict[str, float]
    patches: dict[str, FeaturePatch]

    @property
    def name(self) -> str:
        """The feature as studies call it."""
        return f"L{self.layer}-{self.index}"


def find_candidates(
    run: Run, inputs: StudyInputs, split: LabelledSplit, points: dict[int, HookPoint]
) -> list[Candidate]:
    """Returns the candidates by layer, class and rank; `--limit` keeps the first."""
    found: list[Candidate] = []
    selected = split._replace(layers=[layer for layer in split.layers if layer in run.selected_layers])
    for layer, activations in layer_activations(inputs.labelled, selected, run.profile):
        found.extend(_of_layer(run, layer, activations, split, points[layer]))
        if run.limit is not None and len(found) >= run.limit:
            break
    return found[: run.limit]


def _of_layer(
    run: Run, layer: int, activations: np.ndarray, split: LabelledSplit, point: HookPoint
) -> Iterator[Candidate]:
    a, b = run.settings.study.classes
    means, d = class_means(activations, split.labels), cohens_d(activations, split.labels)
    encoder = None
    for name, sign in ((a, 1.0), (b, -1.0)):
        for index in _largest(sign * d, run.settings.producer.features_per_layer):
            encoder = load_encoder(run.profile, layer) if encoder is None else encoder
            reader, decoder = FeatureReader.of(encoder, index), decoder_row(run.profile, layer, index)
            values = {a: float(means.correct[index]), b: float(means.incorrect[index])}
            patches = {which: FeaturePatch(reader, decoder, value, point) for which, value in values.items()}
            yield Candidate(layer, index, name, float(d[index]), values, patches)


def _largest(score: np.ndarray, n: int) -> list[int]:
    """Returns the positions of the `n` largest positive scores, best first; ties go to the lower index."""
    positive = np.flatnonzero(np.isfinite(score) & (score > 0))
    return positive[np.lexsort((positive, -score[positive]))][:n].tolist()
