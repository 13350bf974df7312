"""What step 4 keeps: q-values over features, the rows that are written, and the table of all effects.

Rows of `token_associations.json` are every kept token and, of the primary contrasts, as many of the largest
|permutation_z| as
`top_tokens` says; `token_effects.parquet` holds every token that was tested.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from common.runs.files import write_bytes
from common.statistics.feature_tests import benjamini_hochberg
from common.statistics.stratified_permutation import selected_q_values
from experiment_pathway_token_analysis.src.response_tokens import LEVELS, ResponseTokens
from experiment_pathway_token_analysis.src.settings import Tokens
from experiment_pathway_token_analysis.src.token_contrasts import Contrast
from experiment_pathway_token_analysis.src.token_kinds import KINDS
from experiment_pathway_token_analysis.src.token_tests import TokenEffects

DIGITS = 6
_NAMES = pa.dictionary(pa.int32(), pa.string())
_NUMBERS = ("count_a", "count_b", "total_a", "total_b", "docs_a", "docs_b")
_FIGURES = ("log_odds", "z", "plain_log_ratio", "permutation_z")
EFFECTS = pa.schema(
    [
        *((name, _NAMES) for name in ("feature", "contrast", "level")),
        ("token", pa.string()),
        ("token_id", pa.int32()),
        ("kind", _NAMES),
        *((name, pa.int64()) for name in _NUMBERS),
        *((name, pa.float64()) for name in (*_FIGURES, "p")),
    ]
)


def rounded(value: float | None) -> float | None:
    """Returns `value` to six significant digits, which no order of addition changes; None where there is none."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.{DIGITS}g}")


@dataclass
class Outcome:
    """How one feature fared in one contrast; `reason` says why it was not tested, `p` is that of its first token."""

    feature: str
    contrast: Contrast
    n_a: int = 0
    n_b: int = 0
    n_unpaired: int = 0
    n_tokens: int = 0
    n_permutations: int = 0
    p: float | None = None
    q: float | None = None
    n_hits: int = 0
    reason: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Returns the outcome without its rows, ready for JSON."""
        names = ("n_a", "n_b", "n_unpaired", "n_tokens", "n_permutations", "p", "q", "n_hits", "reason")
        return {"contrast": self.contrast.name, **{name: getattr(self, name) for name in names}}


def _text_of(names: ResponseTokens, level: str, token: int) -> str:
    if level == "piece":
        return names.piece(token)
    return names.words[token] if level == "word" else KINDS[token]


def effects_table(outcome: Outcome, effects: TokenEffects, names: ResponseTokens) -> pa.Table:
    """Returns every token of one feature and contrast as rows, by level and token."""
    levels, ids = effects.level.tolist(), effects.token.tolist()
    texts = [_text_of(names, LEVELS[level], one) for level, one in zip(levels, ids, strict=True)]
    order = sorted(range(len(ids)), key=lambda row: (levels[row], texts[row], ids[row]))
    kinds = effects.kind[order].tolist()
    columns = {
        "feature": [outcome.feature] * len(ids),
        "contrast": [outcome.contrast.name] * len(ids),
        "level": [LEVELS[levels[row]] for row in order],
        "token": [texts[row] for row in order],
        "token_id": [ids[row] if LEVELS[levels[row]] == "piece" else None for row in order],
        "kind": [KINDS[kind] if kind >= 0 else None for kind in kinds],
        **{name: getattr(effects, name)[order] for name in _NUMBERS},
        **{name: [rounded(one) for one in getattr(effects, name)[order].tolist()] for name in _FIGURES},
        "p": [one if np.isfinite(one) else None for one in effects.p[order].tolist()],
    }
    return pa.table([pa.array(columns[one.name], type=one.type) for one in EFFECTS], schema=EFFECTS)


def candidate_rows(table: pa.Table, outcome: Outcome, settings: Tokens) -> list[dict[str, Any]]:
    """Returns the rows that may be written: those that q can still keep and, of a primary contrast, the first ones."""
    p, log_odds, z = (table[name].to_numpy() for name in ("p", "log_odds", "permutation_z"))
    wanted = (p <= settings.alpha) & (np.abs(log_odds) > settings.min_log_odds)
    if outcome.contrast.primary:
        levels = table["level"].to_numpy()
        strength = np.where(np.isnan(z), -1.0, np.abs(z))
        for level in LEVELS:
            own = np.flatnonzero((levels == level) & (strength >= 0))
            wanted[own[np.argsort(-strength[own], kind="stable")[: settings.top_tokens]]] = True
    rows = table.filter(pa.array(wanted)).to_pylist()
    rows.sort(key=lambda row: -abs(row["permutation_z"]))
    return [_as_association(row, outcome) for row in rows]


def _as_association(row: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    more = outcome.contrast.condition_a if row["log_odds"] > 0 else outcome.contrast.condition_b
    figures = {name: row.pop(name) for name in (*_FIGURES, "p")}
    return {**row, "n_a": outcome.n_a, "n_b": outcome.n_b, **figures, "q": None, "direction": more, "kept": False}


def decide(outcomes: Iterable[Outcome], settings: Tokens) -> None:
    """Gives every outcome its q over the features of its contrast, and every row its q and whether it is kept."""
    by_contrast: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_contrast.setdefault(outcome.contrast.name, []).append(outcome)
    for family in by_contrast.values():
        family_p = np.array([np.nan if one.p is None else one.p for one in family])
        for outcome, q in zip(family, benjamini_hochberg(family_p).q_values.tolist(), strict=True):
            outcome.q = rounded(q)
            _keep(outcome, family_p, settings)


def _keep(outcome: Outcome, family_p: NDArray[np.float64], settings: Tokens) -> None:
    p_values = np.array([row["p"] for row in outcome.rows], dtype=np.float64)
    for row, q in zip(outcome.rows, selected_q_values(p_values, family_p).tolist(), strict=True):
        row["q"] = rounded(q)
        row["kept"] = q <= settings.alpha and abs(row["log_odds"]) > settings.min_log_odds
    outcome.n_hits = sum(row["kept"] for row in outcome.rows)


class EffectsWriter:
    """Writes tables of effects as one parquet file, some row groups, whole or not at all."""

    GROUP_ROWS = 200_000

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(self._sink, EFFECTS, compression="zstd", write_page_checksum=True)
        self._waiting: list[pa.Table] = []
        self._n_waiting = self.n_rows = 0

    def add(self, table: pa.Table) -> None:
        """Takes in more rows."""
        self._waiting.append(table)
        self.n_rows += len(table)
        self._n_waiting += len(table)
        if self._n_waiting >= self.GROUP_ROWS:
            self._flush()

    def write(self, path: Path) -> None:
        """Writes everything taken in to `path`."""
        self._flush()
        self._writer.close()
        write_bytes(path, self._sink.getvalue())

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).unify_dictionaries())
            self._waiting, self._n_waiting = [], 0
