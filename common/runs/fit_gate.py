"""The SAE fit report (`sae_fit.json`), and the gate that stops ranking where an SAE does not fit its site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.errors import UsageError
from common.logging import get_logger

if TYPE_CHECKING:
    import pyarrow as pa

_log = get_logger(__name__)
NEIGHBOURS = {-1: "one block earlier", 1: "one block later"}


def fit_report(table: pa.Table) -> dict[str, Any]:
    """Adds per-problem sums up to one entry a layer: unexplained variance, mean L0 and dead share, with n."""
    rows = table.to_pylist()
    layers = sorted({row["layer"] for row in rows})
    return {
        "what": "variance unexplained over all prompt tokens but BOS, at the declared site and its neighbours",
        "n_problems": len({row["position"] for row in rows}),
        "layers": [_layer_entry(layer, [row for row in rows if row["layer"] == layer]) for layer in layers],
    }


def check_fit(report: Mapping[str, Any], layers: Sequence[int], *, site_given: bool, reader: str) -> list[str]:
    """Raises `UsageError` where a layer's declared site fits no better than a neighbouring one.

    With a site that the user asked for (`--site`) it warns instead. Returns the findings, for the record.
    """
    measured = {entry["layer"]: entry for entry in report["layers"]}
    absent = [layer for layer in layers if layer not in measured]
    if absent:
        raise UsageError(
            f"sae_fit.json has no figures for layers {', '.join(map(str, absent))}; run phase 1.0 on its first problems"
        )
    findings = [finding for layer in layers for finding in _misfits(measured[layer])]
    for finding in findings:
        if not site_given:
            raise UsageError(
                f"phase {reader} stops: {finding}; the SAE reads another site than the one captured: correct the SAE's "
                "metadata or the profile (or insist with --site, which marks every result)"
            )
        _log.warning("%s (kept: the site was given by hand)", finding)
    return findings


def _misfits(entry: Mapping[str, Any]) -> list[str]:
    declared = entry["fraction_unexplained"]
    where = f"layer {entry['layer']} at {entry['hook_name']}"
    if declared is None:
        return [f"{where}: the fit could not be computed ({entry['reason']})"]
    return [
        f"{where} leaves {declared:.3f} of the variance unexplained, "
        f"{neighbour['hook_name']} ({NEIGHBOURS[neighbour['offset']]}) only {neighbour['fraction_unexplained']:.3f}"
        for neighbour in entry["neighbours"]
        if neighbour["fraction_unexplained"] is not None and neighbour["fraction_unexplained"] <= declared
    ]


def _layer_entry(layer: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    by_offset = {offset: [row for row in rows if row["offset"] == offset] for offset in (-1, 0, 1)}
    entry = {"layer": layer, **_fit(by_offset[0]), **_dead_share(by_offset[0])}
    entry["neighbours"] = [{"offset": offset, **_fit(by_offset[offset])} for offset in (-1, 1) if by_offset[offset]]
    return entry


def _fit(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import numpy as np

    n_tokens = sum(row["n_tokens"] for row in rows)
    total = np.sum([row["total"] for row in rows], axis=0)
    variance = sum(row["squared_norm"] for row in rows) - float(total @ total) / max(n_tokens, 1)
    defined = n_tokens > 1 and variance > 0
    return {
        "hook_name": rows[0]["hook_name"],
        "n_tokens": n_tokens,
        "fraction_unexplained": sum(row["squared_error"] for row in rows) / variance if defined else None,
        "mean_l0": sum(row["active"] for row in rows) / n_tokens if n_tokens else None,
        "reason": None if defined else "the stream does not vary over the tokens",
    }


def _dead_share(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import numpy as np

    width = rows[0]["d_sae"]
    fired = np.zeros(width, dtype=bool)
    for row in rows:
        fired |= np.unpackbits(np.frombuffer(row["fired"], dtype=np.uint8), count=width).astype(bool)
    return {"dead_share": float(1 - fired.mean()), "d_sae": width}
