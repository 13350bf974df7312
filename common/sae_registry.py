"""Where the SAE of a layer lies: SAELens's registry of releases, a hub repository, or a local directory.

SAELens ships its registry as `pretrained_saes.yaml`. It is read here as a file: importing SAELens costs seconds and
torch, and its own loader cannot pin a revision. Only the block of the asked release is parsed (0.1 s).
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UsageError, suggest
from common.profiles import SaeSource, resolve_local

CANONICAL_L0 = 100
LAYOUT_FILES = {
    "sae_lens": ("cfg.json", "sae_weights.safetensors"),
    "gemma_scope": ("params.npz",),
    "llama_scope": ("hyperparams.json", "checkpoints/final.safetensors"),
}
_LAYOUTS = {
    None: "sae_lens",
    "sae_lens": "sae_lens",
    "gemma_2": "gemma_scope",
    "llama_scope": "llama_scope",
}


class SaeLocation(NamedTuple):
    """One SAE: the repository or directory, the folder in it, its layout, and what the registry says of it.

    `norm_scaling_factor` is the factor by which activations are multiplied before encoding (LlamaScope), or None.
    """

    repo: str
    folder: str
    sae_id: str
    layout: str
    local: bool
    model: str | None = None
    neuronpedia_id: str | None = None
    norm_scaling_factor: float | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files in the folder that make up the SAE."""
        return LAYOUT_FILES[self.layout]


def locate_sae(source: SaeSource, layer: int) -> SaeLocation:
    """Returns where the SAE of `layer` lies; raises UsageError, listing what exists, where there is none."""
    if source.local:
        return _locate_local(source, layer)
    release = registered_release(source.release)
    if release is not None:
        return _locate_registered(source, release, layer)
    if "/" not in source.release:
        known = registered_names()
        raise UsageError(
            f"SAE release {source.release!r} is neither in SAELens's registry nor a hub repository (owner/name)"
            f"{suggest(source.release, known)}"
        )
    return _location(source, layer, source.release, _sae_id(source, layer), local=False)


def neuronpedia_url(source: SaeSource, layer: int, index: int) -> str | None:
    """Returns the Neuronpedia page of a feature, or None where the profile and the registry name none."""
    sae = locate_sae(source, layer)
    return f"https://www.neuronpedia.org/{sae.neuronpedia_id}/{index}" if sae.neuronpedia_id else None


def sae_layers(source: SaeSource) -> list[int]:
    """Returns the layers for which `source` has an SAE, sorted; empty where only the hub could tell."""
    if source.local:
        root = resolve_local(source.release)
        names = [item.relative_to(root).as_posix() for item in root.rglob("*") if item.is_dir()]
    else:
        release = registered_release(source.release)
        names = [item["id"] for item in release["saes"]] if release else []
    pattern = _layer_pattern(source.id_pattern)
    return sorted({int(match[1]) for name in names if (match := pattern.fullmatch(name))})


def registry_path() -> Path:
    """Returns the path of SAELens's registry file, without importing SAELens."""
    spec = find_spec("sae_lens")
    if spec is None or spec.origin is None:
        raise UsageError("the package sae-lens is not installed; run `pip install -r requirements.txt`")
    return Path(spec.origin).with_name("pretrained_saes.yaml")


@lru_cache(maxsize=1)
def registered_names() -> list[str]:
    """Returns the names of all releases in SAELens's registry."""
    with registry_path().open(encoding="utf-8") as lines:
        return [line.partition(":")[0] for line in lines if line[0] not in " -#\n"]


@lru_cache(maxsize=8)
def registered_release(name: str) -> dict[str, Any] | None:
    """Returns a release's entry in SAELens's registry (`repo_id`, `model`, `saes`, …), or None."""
    import yaml

    block: list[str] = []
    with registry_path().open(encoding="utf-8") as lines:
        for line in lines:
            if block and line[0] not in " -#\n":
                break
            if block or line.startswith(f"{name}:"):
                block.append(line)
    return yaml.load("".join(block), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))[name] if block else None


def canonical_folder(names: list[str]) -> str:
    """Returns the folder `…average_l0_L` whose L is nearest 100, as GemmaScope's canonical selection does."""
    return min(names, key=lambda name: (abs(_l0(name) - CANONICAL_L0), _l0(name)))


def missing_layer(source: SaeSource, layer: int) -> UsageError:
    """Returns the error for a layer without an SAE: what exists, and the nearest layer."""
    known = sae_layers(source)
    where = f"SAE release {source.release}"
    if not known:
        return UsageError(
            f"{where} has no SAE for layer {layer} under {source.id_pattern!r}; check release and id_pattern"
        )
    nearest = min(known, key=lambda item: (abs(item - layer), item))
    shown = f"{known[0]}-{known[-1]}" if known == list(range(known[0], known[-1] + 1)) else ", ".join(map(str, known))
    return UsageError(f"{where} has no SAE for layer {layer} (it has {shown}); did you mean {nearest}?")


def _locate_registered(source: SaeSource, release: dict[str, Any], layer: int) -> SaeLocation:
    sae_id = _sae_id(source, layer)
    for entry in release["saes"]:
        if entry["id"] == sae_id:
            conversion = release.get("conversion_func")
            if conversion not in _LAYOUTS:
                raise UsageError(f"SAE release {source.release} has the layout {conversion!r}, which is not supported")
            sae = _location(source, layer, release["repo_id"], str(entry["path"]), local=False)
            return sae._replace(
                sae_id=sae_id,
                layout=_LAYOUTS[conversion],
                model=release["model"],
                neuronpedia_id=sae.neuronpedia_id or entry.get("neuronpedia"),
                norm_scaling_factor=entry.get("norm_scaling_factor"),
            )
    raise missing_layer(source, layer)


def _locate_local(source: SaeSource, layer: int) -> SaeLocation:
    root = resolve_local(source.release)
    if not root.is_dir():
        raise UsageError(f"SAE directory {root} does not exist; check sae.release in the profile")
    folder = _sae_id(source, layer)
    if not (root / folder).is_dir():
        pattern = re.sub(r"canonical$", "average_l0_*", folder)
        found = [item.relative_to(root).as_posix() for item in root.glob(pattern) if item.is_dir()]
        if not found:
            raise missing_layer(source, layer)
        folder = canonical_folder(found) if fnmatch(found[0], "*average_l0_*") else sorted(found)[0]
    return _location(source, layer, str(root), folder, local=True)


def _location(source: SaeSource, layer: int, repo: str, folder: str, *, local: bool) -> SaeLocation:
    pattern = source.neuronpedia_pattern
    return SaeLocation(
        repo,
        folder,
        folder,
        source.format,
        local,
        neuronpedia_id=pattern.replace("{layer}", str(layer)) if pattern else None,
    )


def _sae_id(source: SaeSource, layer: int) -> str:
    if "{layer}" not in source.id_pattern:
        raise UsageError(f"sae.id_pattern {source.id_pattern!r} does not contain {{layer}}; correct the profile")
    return source.id_pattern.replace("{layer}", str(layer))


def _layer_pattern(id_pattern: str) -> re.Pattern[str]:
    head, _, tail = id_pattern.partition("{layer}")
    tail = re.escape(tail).replace(r"\{layer\}", r"\1").replace(r"\*", "[^/]*")
    if tail.endswith("canonical"):
        tail = tail.removesuffix("canonical") + r"(?:canonical|average_l0_\d+)"
    return re.compile(re.escape(head) + r"(\d+)" + tail)


def _l0(name: str) -> int:
    match = re.search(r"average_l0_(\d+)$", name)
    return int(match[1]) if match else 10**9
