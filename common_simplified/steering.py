"""Steering: adding a direction, times a coefficient, to the residual stream (Turner et al. 2023, arXiv 2308.10248).

`SteeringSites` is what the generation engine steers with. Its hooks are registered once and stay as long as the engine:
a compiled model ignores a hook that comes later. Each adds a vector of its own to every row, so one batch holds many
directions, coefficients and layers; loading other rows writes tensors in place and compiles nothing anew. Steered
passes are counted by a tensor in the hook itself, where they happen. `SteeringHook` is the simple form, for notebooks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from common.config import SITES
from common.errors import PipelineError, UsageError
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


class SteeringSites:
    """Permanent hooks at `points` of a model, which steer the rows that are loaded and nothing while none are.

    Use it as a context manager, or `close` it; either removes the hooks. `spared_bos` is the id of the BOS token where
    that is not to be steered. Around one batch: `loaded`, then `at_prompt` before the prefill and `at_step` before each
    decoding step, `select` as rows are dropped or repeated, `count_only` as they finish, `counts` at the end.
    """

    def __init__(self, model: Any, points: Sequence[HookPoint], *, spared_bos: int | None = None) -> None:
        self.spared_bos = spared_bos
        self._width, self._dtype, self._device = int(model.config.hidden_size), model.dtype, model.device
        self._sites = {point: _Site() for point in points}
        self._rows: list[Steering | None] = []
        self._steered = self._in_prompt = False
        with ExitStack() as hooks:
            for point, site in self._sites.items():
                hooks.callback(register_writer(model, point, site.add).remove)
            self._hooks = hooks.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes every hook; the model is as it was, and no row can be steered any more."""
        self._unload()
        self._sites.clear()
        self._hooks.close()

    @contextmanager
    def loaded(self, rows: Sequence[Steering | None]) -> Iterator[None]:
        """Steers `rows` within the context, counting from 0; a row of None is left alone and not counted."""
        for steering in rows:
            if steering is not None:
                self._require_possible(steering)
        self._rows = list(rows)
        self._steered = any(steering is not None for steering in rows)
        try:
            if self._steered:
                for point, site in self._sites.items():
                    at_point = [item if item is not None and item.point == point else None for item in rows]
                    site.load(at_point, self._width, self._dtype, self._device)
            yield
        finally:
            self._unload()

    def at_prompt(self, input_ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Tells which positions of the prefill are steered: the real ones, `mask` (rows, positions) being 0 at padding.

        The BOS that a row begins with is steered too, unless it is spared.
        """
        if not self._steered:
            return
        steered = mask != 0
        if self.spared_bos is not None:
            first = steered & (mask.cumsum(dim=1) == 1)
            steered &= ~(first & (input_ids == self.spared_bos))
        self._place(steered)
        self._in_prompt = True

    def at_step(self) -> None:
        """Tells that one new token a row comes next: all are steered."""
        if self._steered and self._in_prompt:
            self._place(torch.ones(len(self._rows), 1, dtype=torch.bool, device=self._device))
            self._in_prompt = False

    def select(self, rows: Sequence[int]) -> None:
        """Goes on with `rows`, in that order, their counts included: some are dropped, or one is repeated."""
        self._rows = [self._rows[row] for row in rows]
        if not self._steered:
            return
        chosen = torch.tensor(rows, device=self._device)
        for site in self._sites.values():
            site.select(chosen)

    def count_only(self, rows: Sequence[int]) -> None:
        """Stops counting for every other row, which is finished."""
        if not self._steered:
            return
        unfinished = torch.zeros(len(self._rows), dtype=torch.int64)
        unfinished[list(rows)] = 1
        unfinished = unfinished.to(self._device)
        for site in self._sites.values():
            site.counted.mul_(unfinished)

    def counts(self) -> list[int | None]:
        """Returns each row's number of steered forward passes so far, None where it is not steered."""
        if not self._steered:
            return [None] * len(self._rows)
        counts = torch.stack([site.counts for site in self._sites.values()]).sum(dim=0).tolist()
        return [None if item is None else int(count) for item, count in zip(self._rows, counts, strict=True)]

    def _place(self, steered: torch.Tensor) -> None:
        for site in self._sites.values():
            site.mask = _written(site.mask, steered.unsqueeze(-1).to(self._dtype))

    def _unload(self) -> None:
        self._rows, self._steered = [], False
        for site in self._sites.values():
            site.active = False

    def _require_possible(self, steering: Steering) -> None:
        if steering.point not in self._sites:
            known = ", ".join(map(str, self._sites)) or "none"
            raise UsageError(
                f"{steering.point} cannot be steered: hooks stand at {known}; name it when making the engine"
            )
        if len(steering.direction) != self._width:
            raise UsageError(
                f"the direction at {steering.point} has {len(steering.direction)} components and the model's residual "
                f"stream {self._width}; take a direction of this model"
            )


class _Site:
    """One hook: what it adds to each row (`added`), where (`mask`), for whom it counts (`counted`), and the counts.

    Shapes: `added` (rows, 1, d_model) and `mask` (rows, positions, 1) in the model's dtype; `counted`, 1 or 0, and
    `counts` (rows,), int64. Tensors are overwritten in place where their shape stays, for the sake of captured graphs.
    """

    def __init__(self) -> None:
        self.active = False
        self.added = self.mask = self.counted = self.counts = torch.empty(0)

    def add(self, stream: torch.Tensor) -> torch.Tensor:
        """Returns the stream (rows, positions, d_model) with every row's vector added at its steered positions."""
        if not self.active:
            return stream
        assert stream.shape[:2] == self.mask.shape[:2], f"stream {stream.shape}, mask {self.mask.shape}"
        self.counts.add_(self.counted)
        return torch.addcmul(stream, self.added, self.mask)

    def load(self, rows: Sequence[Steering | None], width: int, dtype: torch.dtype, device: torch.device) -> None:
        """Takes over the rows of a new batch; None adds zero and is not counted."""
        added = torch.zeros(len(rows), 1, width)
        for row, steering in enumerate(rows):
            if steering is not None:
                added[row, 0] = steering.addition()
        steered = torch.tensor([steering is not None for steering in rows], dtype=torch.int64)
        self.added = _written(self.added, added.to(device, dtype))
        self.counted = _written(self.counted, steered.to(device))
        self.counts = _written(self.counts, torch.zeros_like(steered, device=device))
        self.active = True

    def select(self, chosen: torch.Tensor) -> None:
        """Keeps the rows `chosen`, in that order."""
        self.added = _written(self.added, self.added[chosen])
        self.mask = _written(self.mask, self.mask[chosen])
        self.counted = _written(self.counted, self.counted[chosen])
        self.counts = _written(self.counts, self.counts[chosen])


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


def _written(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Returns `old` overwritten with `new` where both have the same shape and type, otherwise `new`."""
    if (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device):
        return new
    return old.copy_(new)
