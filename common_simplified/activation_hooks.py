"""Reading the residual stream during a forward pass.

Hooks are forward pre-hooks on the module that takes the stream as its input (see `sites`): they see the same tensor
that a steering hook would change. They capture the first forward pass after they are set up, which under generation
with a key–value cache is the prefill, and ignore later ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from common_simplified.sites import HookPoint, reading_module

DEFAULT_SITE = "resid_post"


class ActivationExtractor:
    """Captures the residual stream at several points of one forward pass.

    `layers` are block numbers (read at `site`) or `HookPoint`s. By default the last position is kept, shape
    (batch, d_model), which is the last prompt token of a left-padded batch; with `positions` (batch,) that one of each
    row; with `all_positions` every position, shape (batch, position, d_model). Values are float32. Use it as a context
    manager, or call `setup_hooks`, run the model, `get_activations`, `remove_hooks`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[int] | Sequence[HookPoint],
        *,
        site: str = DEFAULT_SITE,
        all_positions: bool = False,
        positions: torch.Tensor | None = None,
    ) -> None:
        self.model = model
        self.points = [item if isinstance(item, HookPoint) else HookPoint(item, site) for item in layers]
        self.all_positions = all_positions
        self.positions = positions
        self._captured: dict[HookPoint, torch.Tensor] = {}
        self._handles: list[Any] = []

    def setup_hooks(self) -> None:
        """Registers the hooks and forgets what was captured before."""
        self.remove_hooks()
        self._captured.clear()
        for point in dict.fromkeys(self.points):
            module = reading_module(self.model, point)
            self._handles.append(module.register_forward_pre_hook(self._reader(point), with_kwargs=True))

    def get_activations(self) -> dict[HookPoint, torch.Tensor]:
        """Returns what was captured, on the CPU in float32; every point must have been reached exactly once."""
        missing = [str(point) for point in self.points if point not in self._captured]
        assert not missing, f"no forward pass reached {', '.join(missing)}"
        return {point: value.to("cpu") for point, value in self._captured.items()}

    def remove_hooks(self) -> None:
        """Removes every hook; the model is as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> Self:
        self.setup_hooks()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove_hooks()

    def _kept(self, stream: torch.Tensor) -> torch.Tensor:
        if self.all_positions:
            return stream
        if self.positions is None:
            return stream[:, -1]
        return stream[torch.arange(len(stream), device=stream.device), self.positions.to(stream.device)]

    def _reader(self, point: HookPoint) -> Any:
        def read(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
            if point in self._captured:
                return
            stream = args[0] if args else kwargs["hidden_states"]
            assert isinstance(stream, torch.Tensor) and stream.ndim == 3, f"{point}: {type(stream).__name__}"
            self._captured[point] = self._kept(stream).detach().to(torch.float32, copy=True)

        return read
