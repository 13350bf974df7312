"""The sections of the report, in page order: each says what its phases found, or what is missing."""

from __future__ import annotations

from collections.abc import Callable

from report.blocks import Missing, Section
from report.run import Run
from report.sections import (
    coefficients,
    detection,
    difficulty,
    features,
    instruct,
    known_answers,
    pathway,
    provenance,
    sae_fit,
    solutions,
    steering,
    summary,
    temperature,
)

SectionOf = Callable[[Run], Section | Missing | None]

# None: the section does not apply to the run, such as that of the planted truth to any but the bundled model.
SECTIONS: tuple[SectionOf, ...] = (
    summary.section,
    provenance.section,
    difficulty.section,
    solutions.section,
    sae_fit.section,
    features.section,
    detection.section,
    temperature.section,
    coefficients.section,
    steering.section,
    instruct.section,
    pathway.section,
    known_answers.section,
)
