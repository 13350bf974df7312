"""What is known of a model before its weights are read: its shape, its size, whether its files are whole.

Reads `config.json` and the headers of the safetensors files only, in milliseconds and without torch, so that a run can
be refused early.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UsageError
from common.hub import how_to_mend, shards

FLOATING = ("F64", "F32", "F16", "BF16")


class ModelFacts(NamedTuple):
    """Shape of a decoder: blocks, width of the residual stream, class name, vocabulary, longest context in tokens."""

    n_layers: int
    d_model: int
    architecture: str
    vocab_size: int
    context: int


class WeightFacts(NamedTuple):
    """Number of parameters on disk, and the number of elements of the largest tensor."""

    n_parameters: int
    largest: int


def read_model_facts(directory: Path) -> ModelFacts:
    """Returns the shape of the model in `directory` from its `config.json`.

    Raises UsageError where the file is missing, is not JSON, or does not describe a decoder.
    """
    config = read_config(directory)
    nested = config.get("text_config")
    text: dict[str, Any] = nested if isinstance(nested, dict) else config
    try:
        return ModelFacts(
            n_layers=int(text["num_hidden_layers"]),
            d_model=int(text["hidden_size"]),
            architecture=str(config["architectures"][0]),
            vocab_size=int(text["vocab_size"]),
            context=int(text["max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(
            f"{directory / 'config.json'} does not describe a decoder: {error!r}; choose another model"
        ) from None


def read_config(directory: Path) -> dict[str, Any]:
    """Returns the content of `config.json`."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"model directory {directory} has no config.json; check the path") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(config, dict):
        raise UsageError(f"{path} is not a JSON object; fetch the model again")
    return config


def read_weight_facts(directory: Path) -> WeightFacts:
    """Returns the sizes of the weights in `directory`; raises UsageError where there are none or one is cut off."""
    files = weight_files(directory)
    if not files:
        raise UsageError(f"model directory {directory} has no weights (*.safetensors); fetch or convert the model")
    elements = [math.prod(entry["shape"]) for path in files for entry in floating_tensors(path).values()]
    return WeightFacts(sum(elements), max(elements, default=0))


def weight_files(directory: Path) -> list[Path]:
    """Returns the files that transformers would read: `model.safetensors`, else its index's shards, else all."""
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        return [directory / shard for shard in shards(index)]
    return sorted(directory.glob("*.safetensors"))


def floating_tensors(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the header's entries of a safetensors file; raises UsageError where one holds no floating-point numbers.

    Quantised weights (8-bit floats and integers) would otherwise be taken for the numbers that they stand for.
    """
    tensors = {key: entry for key, entry in safetensors_header(path).items() if key != "__metadata__"}
    for key, entry in tensors.items():
        if entry["dtype"] not in FLOATING:
            raise UsageError(
                f"{path} stores {key} as {entry['dtype']}, expected one of {', '.join(FLOATING)}; take weights that "
                "are not quantised"
            )
    return tensors


def safetensors_header(path: Path) -> dict[str, Any]:
    """Returns the header of a safetensors file: per tensor its `dtype`, `shape` and `data_offsets`.

    The format is eight bytes of header length (little-endian), the header as JSON, the data. Raises UsageError where
    the file is shorter or longer than its header says.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError
            header = json.loads(file.read(length))
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UsageError(f"{path} is damaged: it has no valid safetensors header; {how_to_mend(path)}") from None
    if 8 + length + end != size:
        raise UsageError(f"{path} is damaged: {size} bytes, expected {8 + length + end}; {how_to_mend(path)}")
    return header
