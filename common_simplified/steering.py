"""Steering: adding a direction, times a coefficient, to the residual stream (Turner et al. 2023, arXiv 2308.10248).

`SteeringSites` is what the generation engine steers with: permanent hooks (see `row_sites`), which add to every row a
vector of its own, so one batch holds many directions, coefficients and layers. `SteeringHook` is the simple form, for
notebooks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn

from common.config import SITES
from common.errors import PipelineError, UsageError
from common_simplified.row_sites import RowSite, RowSites
from common_simplified.sites import HookPoint, register_writer


@dataclass(frozen=True, eq=False)
class Steering:
    """What is added to one row's residual stream: `coefficient` × `direction` (d_model,), float32, at `point`."""

    direction: torch.Tensor
    coefficient: float
    point: HookPoint

    def __post_init__(self) -> None:
        _require_finite(self.direction, self.coefficient)
        assert self.direction.dtype == torch.float32, f"the direction is {self.direction.dtype}, expected float32"
        assert self.point.site in SITES, self.point

    def addition(self) -> torch.Tensor:
        """Returns coefficient × direction, float32 (d_model,)."""
        return self.direction.detach() * self.coefficient


class SteeringSite(RowSite[Steering]):
    """One hook that adds a vector of its own to every row: `added` (rows, 1, d_model) in the model's dtype."""

    row_tensors: ClassVar[tuple[str, ...]] = ("added",)

    def __init__(self) -> None:
        super().__init__()
        self.added = torch.empty(0)

    def additions(self, stream: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Returns every row's vector."""
        return self.added

    def fill(self, rows: Sequence[Steering | None], width: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Returns the vectors of a new batch, made in float32 and given in the model's `dtype`."""
        added = torch.zeros(len(rows), 1, width)
        for row, steering in enumerate(rows):
            if steering is not None:
                added[row, 0] = steering.addition()
        return {"added": added.to(dtype)}


class SteeringSites(RowSites[Steering]):
    """Permanent hooks that steer the rows that are loaded, at every real position and every new token.

    `spared_bos` is the id of the BOS token where that is not to be steered.
    """

    kind = Steering
    site = SteeringSite

    def __init__(self, model: Any, points: Sequence[HookPoint], *, spared_bos: int | None = None) -> None:
        super().__init__(model, points)
        self.spared_bos = spared_bos

    def prompt_positions(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the real positions; the BOS that a row begins with is steered too, unless it is spared."""
        steered = mask != 0
        if self.spared_bos is not None:
            first = steered & (mask.cumsum(dim=1) == 1)
            steered &= ~(first & (input_ids == self.spared_bos))
        return steered

    def require_possible(self, change: Steering) -> None:
        """Raises `UsageError` for a point without a hook, or a direction of another model."""
        self.require_point(change, "steered")
        if len(change.direction) != self._width:
            raise UsageError(
                f"the direction at {change.point} has {len(change.direction)} components and the model's residual "
                f"stream {self._width}; take a direction of this model"
            )


class SteeringHook:
    """Adds one direction to every row of a forward pass; for looking at a model by hand, with a key–value cache.

    It is a forward pre-hook of a module that takes the stream as its first input, and `on` puts it at any point of a
    model for as long as a context lasts. The first pass is the prefill, and so is every later one of more than one
    position; passes of one position are generated tokens. All positions are alike to it, padding and BOS included.
    `n_passes` counts the passes that it saw, `n_steered` those that it changed.
    """

    def __init__(self, direction: torch.Tensor, coefficient: float, *, steer_generated: bool) -> None:
        direction = torch.as_tensor(direction, dtype=torch.float32)
        _require_finite(direction, coefficient)
        self.steer_generated = steer_generated
        self.n_passes = self.n_steered = 0
        self._added = direction * coefficient

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        """Returns the module's arguments with the stream steered, as a forward pre-hook with or without keywords."""
        if args:
            changed = (self.add(args[0]), *args[1:])
            return changed if kwargs is None else (changed, kwargs)
        assert kwargs, f"{type(module).__name__} takes the stream by keyword; register the hook with with_kwargs=True"
        return args, {**kwargs, "hidden_states": self.add(kwargs["hidden_states"])}

    def add(self, stream: torch.Tensor) -> torch.Tensor:
        """Counts one pass and returns its stream (batch, positions, d_model), steered where this pass is."""
        assert stream.shape[-1] == len(self._added), f"stream {stream.shape}, direction {self._added.shape}"
        generated = self.n_passes > 0 and stream.shape[1] == 1
        self.n_passes += 1
        if generated and not self.steer_generated:
            return stream
        self.n_steered += 1
        return stream + self._added.to(stream)

    @contextmanager
    def on(self, model: nn.Module, point: HookPoint, *, expected_passes: int = 1) -> Iterator[Self]:
        """Steers `model` at `point` within the context, counting from 0; the hook is removed in any case.

        Raises PipelineError at the end where fewer than `expected_passes` forward passes went through the hook.
        """
        self.n_passes = self.n_steered = 0
        handle = register_writer(model, point, self.add)
        try:
            yield self
        finally:
            handle.remove()
        if self.n_passes < expected_passes:
            raise PipelineError(
                f"the steering hook at {point} saw {self.n_passes} of {expected_passes} forward passes; run the model "
                "within the context, and do not compile it before (a compiled model ignores later hooks)"
            )


def create_steering_hook(direction: torch.Tensor, coefficient: float, *, steer_generated: bool) -> SteeringHook:
    """Returns a hook that adds coefficient × direction (d_model,) to the prefill and, if asked, to generated tokens."""
    return SteeringHook(direction, coefficient, steer_generated=steer_generated)


def _require_finite(direction: torch.Tensor, coefficient: float) -> None:
    if direction.ndim != 1 or not bool(torch.isfinite(direction).all()):
        raise UsageError(
            f"the steering direction, of shape {tuple(direction.shape)}, is no vector of finite numbers; give one"
        )
    if not math.isfinite(coefficient):
        raise UsageError(f"the steering coefficient {coefficient} is not finite; give a number")
