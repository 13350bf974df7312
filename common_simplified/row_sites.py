"""Permanent hooks that change each row of a batch in a way of its own: what steering and setting a feature share.

Hooks are registered once and stay as long as the engine: a compiled model ignores a hook that comes later. Loading
other rows writes tensors in place and compiles nothing anew. Changed passes are counted by a tensor in the hook itself,
where they happen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import torch

from common.errors import UsageError
from common_simplified.sites import HookPoint, register_writer


class RowChange(Protocol):
    """What is done to one row at one point of the stream."""

    @property
    def point(self) -> HookPoint:
        """Where it is done."""
        ...


Change = TypeVar("Change", bound=RowChange)


class RowSite(ABC, Generic[Change]):
    """One hook: what it does to each row, where (`mask`), for whom it counts (`counted`), and the counts.

    Shapes: `mask` (rows, positions, 1) in the model's dtype; `counted`, 1 or 0, and `counts` (rows,), int64. Tensors
    are overwritten in place where their shape stays, for the sake of captured graphs; `row_tensors` names those that a
    kind of site has one row of for each row of the batch.
    """

    row_tensors: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self.active = False
        self.mask = self.counted = self.counts = torch.empty(0)

    def add(self, stream: torch.Tensor) -> torch.Tensor:
        """Returns the stream (rows, positions, d_model) with every row's change made at its positions."""
        if not self.active:
            return stream
        assert stream.shape[:2] == self.mask.shape[:2], f"stream {stream.shape}, mask {self.mask.shape}"
        self.counts.add_(self.counted)
        return torch.addcmul(stream, self.additions(stream), self.mask)

    @abstractmethod
    def additions(self, stream: torch.Tensor) -> torch.Tensor:
        """Returns what is added at each row's positions, (rows, 1, d_model) in the stream's dtype."""

    @abstractmethod
    def fill(self, rows: Sequence[Change | None], width: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Returns the `row_tensors` of a new batch, on the CPU; a row of None adds zero. `dtype` is the model's."""

    def load(self, rows: Sequence[Change | None], width: int, dtype: torch.dtype, device: torch.device) -> None:
        """Takes over the rows of a new batch; None adds zero and is not counted."""
        for name, value in self.fill(rows, width, dtype).items():
            self._write(name, value.to(device))
        changed = torch.tensor([row is not None for row in rows], dtype=torch.int64)
        self._write("counted", changed.to(device))
        self._write("counts", torch.zeros_like(changed, device=device))
        self.active = True

    def place(self, changed: torch.Tensor, dtype: torch.dtype) -> None:
        """Tells at which positions rows are changed, bool (rows, positions)."""
        self._write("mask", changed.unsqueeze(-1).to(dtype))

    def select(self, chosen: torch.Tensor) -> None:
        """Keeps the rows `chosen`, in that order."""
        for name in (*self.row_tensors, "mask", "counted", "counts"):
            self._write(name, getattr(self, name)[chosen])

    def _write(self, name: str, value: torch.Tensor) -> None:
        setattr(self, name, written(getattr(self, name), value))


class RowSites(ABC, Generic[Change]):
    """Permanent hooks at `points` of a model, which change the rows that are loaded and nothing while none are.

    Use it as a context manager, or `close` it; either removes the hooks. Around one batch: `loaded`, then `at_prompt`
    before the prefill and `at_step` before each decoding step, `select` as rows are dropped or repeated, `count_only`
    as they finish, `counts` at the end.
    """

    kind: ClassVar[type]
    site: ClassVar[type[RowSite[Any]]]

    def __init__(self, model: Any, points: Sequence[HookPoint]) -> None:
        self._width, self._dtype, self._device = int(model.config.hidden_size), model.dtype, model.device
        self._sites: dict[HookPoint, Any] = {point: self.site() for point in points}
        self._rows: list[Change | None] = []
        self._changes = self._in_prompt = False
        with ExitStack() as hooks:
            for point, site in self._sites.items():
                hooks.callback(register_writer(model, point, site.add).remove)
            self._hooks = hooks.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes every hook; the model is as it was, and no row can be changed any more."""
        self._unload()
        self._sites.clear()
        self._hooks.close()

    @abstractmethod
    def require_possible(self, change: Change) -> None:
        """Raises `UsageError` for a change that does not fit the model."""

    @abstractmethod
    def prompt_positions(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns at which positions of a left-padded prefill rows are changed, bool (rows, positions)."""

    @contextmanager
    def loaded(self, rows: Sequence[Change | None]) -> Iterator[None]:
        """Changes `rows` within the context, counting from 0; a row of None is left alone and not counted."""
        for change in rows:
            if change is not None:
                self.require_possible(change)
        self._rows = list(rows)
        self._changes = any(change is not None for change in rows)
        try:
            if self._changes:
                for point, site in self._sites.items():
                    at_point = [item if item is not None and item.point == point else None for item in rows]
                    site.load(at_point, self._width, self._dtype, self._device)
            yield
        finally:
            self._unload()

    def at_prompt(self, input_ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Tells of the prefill that comes next, `mask` (rows, positions) being 0 at padding."""
        if not self._changes:
            return
        self._place(self.prompt_positions(input_ids, mask))
        self._in_prompt = True

    def at_step(self) -> None:
        """Tells that one new token a row comes next: all are changed."""
        if self._changes and self._in_prompt:
            self._place(torch.ones(len(self._rows), 1, dtype=torch.bool, device=self._device))
            self._in_prompt = False

    def select(self, rows: Sequence[int]) -> None:
        """Goes on with `rows`, in that order, their counts included: some are dropped, or one is repeated."""
        self._rows = [self._rows[row] for row in rows]
        if not self._changes:
            return
        chosen = torch.tensor(rows, device=self._device)
        for site in self._sites.values():
            site.select(chosen)

    def count_only(self, rows: Sequence[int]) -> None:
        """Stops counting for every other row, which is finished."""
        if not self._changes:
            return
        unfinished = torch.zeros(len(self._rows), dtype=torch.int64)
        unfinished[list(rows)] = 1
        unfinished = unfinished.to(self._device)
        for site in self._sites.values():
            site.counted.mul_(unfinished)

    def counts(self) -> list[int | None]:
        """Returns each row's number of changed forward passes so far, None where it is not changed."""
        if not self._changes:
            return [None] * len(self._rows)
        counts = torch.stack([site.counts for site in self._sites.values()]).sum(dim=0).tolist()
        return [None if item is None else int(count) for item, count in zip(self._rows, counts, strict=True)]

    def _place(self, changed: torch.Tensor) -> None:
        for site in self._sites.values():
            site.place(changed, self._dtype)

    def _unload(self) -> None:
        self._rows, self._changes = [], False
        for site in self._sites.values():
            site.active = False

    def require_point(self, change: Change, verb: str) -> None:
        """Raises `UsageError` where no hook stands at the point of a change."""
        if change.point not in self._sites:
            known = ", ".join(map(str, self._sites)) or "none"
            raise UsageError(f"{change.point} cannot be {verb}: hooks stand at {known}; name it when making the engine")


class RowChanges:
    """Several kinds of changes as one: each row goes to the sites of its kind."""

    def __init__(self, *kinds: RowSites[Any]) -> None:
        self._kinds = kinds

    def close(self) -> None:
        """Removes every hook."""
        for sites in self._kinds:
            sites.close()

    @contextmanager
    def loaded(self, rows: Sequence[RowChange | None]) -> Iterator[None]:
        """Changes `rows` within the context; a row of None is left alone."""
        with ExitStack() as stack:
            for sites in self._kinds:
                stack.enter_context(sites.loaded([row if isinstance(row, sites.kind) else None for row in rows]))
            yield

    def at_prompt(self, input_ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Tells of the prefill that comes next."""
        for sites in self._kinds:
            sites.at_prompt(input_ids, mask)

    def at_step(self) -> None:
        """Tells that one new token a row comes next."""
        for sites in self._kinds:
            sites.at_step()

    def select(self, rows: Sequence[int]) -> None:
        """Goes on with `rows`, in that order."""
        for sites in self._kinds:
            sites.select(rows)

    def count_only(self, rows: Sequence[int]) -> None:
        """Stops counting for every other row."""
        for sites in self._kinds:
            sites.count_only(rows)

    def counts(self) -> list[int | None]:
        """Returns each row's number of changed forward passes so far, None where it is not changed."""
        of_kinds = zip(*(sites.counts() for sites in self._kinds), strict=True)
        return [next((count for count in counts if count is not None), None) for counts in of_kinds]


def written(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Returns `old` overwritten with `new` where both have the same shape and type, otherwise `new`."""
    if (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device):
        return new
    return old.copy_(new)
