"""Which pairs of conditions step 4 compares, and what each comparison says.

Patch against patch within a prompt class comes first: both arms were patched, so what patching itself does cancels out.
The comparisons with the baseline stand beside it and carry that disturbance.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from experiment_pathway_token_analysis.src.settings import Study


class Contrast(NamedTuple):
    """Two conditions of one prompt class; positive log-odds mean more under `condition_a`."""

    name: str
    prompt_class: str
    condition_a: str
    condition_b: str
    primary: bool

    def as_dict(self) -> dict[str, Any]:
        """Returns the contrast, ready for JSON."""
        return self._asdict()


def contrasts(study: Study) -> list[Contrast]:
    """Returns all contrasts, the primary ones first.

    In the primary ones `condition_a` is the patch towards the first class (correct, or safe) whatever the prompt; in
    the others it is the patched arm and `condition_b` the baseline.
    """
    first, second = study.classes
    return [
        *(_patch_against_patch(study, name, towards_own=name == first) for name in (first, second)),
        *(_against_baseline(study, name, "opposite") for name in (first, second)),
        *(_against_baseline(study, name, "own") for name in (first, second)),
    ]


def _patch_against_patch(study: Study, prompt_class: str, *, towards_own: bool) -> Contrast:
    arms = ("own", "opposite") if towards_own else ("opposite", "own")
    one, other = (study.condition(prompt_class, arm) for arm in arms)
    return Contrast(f"{prompt_class}_patch_against_patch", prompt_class, one, other, primary=True)


def _against_baseline(study: Study, prompt_class: str, arm: str) -> Contrast:
    name = f"{prompt_class}_{'amplification' if arm == 'own' else 'opposite_patch'}_against_baseline"
    patched, baseline = study.condition(prompt_class, arm), study.condition(prompt_class, "baseline")
    return Contrast(name, prompt_class, patched, baseline, primary=False)
