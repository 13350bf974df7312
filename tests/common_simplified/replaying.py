"""What a CUDA graph does, done on the CPU: kernels are recorded with their tensors, and replayed without any Python."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from common_simplified.captured_decoding import Step


class Recorder(TorchDispatchMode):
    """Records every operation with the very tensors that it read and wrote; views need no replay."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._remember(value)
        out = func(*args, **kwargs)
        assert not any(isinstance(item, int | float | bool) for item in tree_iter(out)), f"{func} asks for a number"
        if not func.is_view:
            self.operations.append((func, args, kwargs, out))
        return out

    def _remember(self, value: torch.Tensor) -> None:
        base = value if value._base is None else value._base
        self.before.setdefault(base.untyped_storage().data_ptr(), (base, base.clone()))

    def undo(self) -> None:
        """Puts back what the recorded run overwrote: a capture runs no kernel."""
        for base, value in self.before.values():
            base.copy_(value)

    def replay(self) -> None:
        """Runs every operation again on the same tensors; results land where they lay."""
        for func, args, kwargs, out in self.operations:
            again = func(*args, **kwargs)
            for old, new in zip(tree_iter(out), tree_iter(again), strict=True):
                if isinstance(old, torch.Tensor) and old is not new:
                    old.copy_(new)


class Replays:
    """A capture as `CapturedDecoding` takes it, which counts how often it captured and replayed."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, step: Step) -> Step:
        self.captured += 1
        recorder = Recorder()
        with recorder:
            result = step()
        recorder.undo()

        def replay() -> torch.Tensor:
            self.replayed += 1
            recorder.replay()
            return result

        return replay
