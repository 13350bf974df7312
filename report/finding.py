"""One finding in words, and the figures that findings share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from common.wording import NOT_DEFINED, percent


class Finding(NamedTuple):
    """What was looked at, what was found (with its interval), and of how many.

    `control` is what something else does in its place, `ahead` how the finding stands beside it, `trivial` what doing
    nothing clever gives; each is empty where there is none. `section` is the anchor of the report's section that tells
    more; a `headline` is read first.
    """

    section: str
    what: str
    found: str
    n: str
    control: str = ""
    ahead: str = ""
    trivial: str = ""
    headline: bool = True

    def lines(self) -> list[tuple[str, str, str]]:
        """Returns the finding as rows of the terminal's table."""
        beside = [("", f"beside it: {self.control}", self.ahead)] if self.control else []
        trivially = [("", f"trivially: {self.trivial}", "")] if self.trivial else []
        return [(self.what, self.found, self.n), *beside, *trivially]


def rate_words(found: Mapping[str, Any]) -> str:
    """Returns a pass rate with its interval, or why it is not known."""
    if found["pass_rate"] is None:
        return f"not known ({found.get('reason') or 'no problem was judged'})"
    return f"{percent(found['pass_rate'])} [{percent(found['low'])}, {percent(found['high'])}]"


def f1_words(positive: str, at: Mapping[str, Any] | None) -> tuple[str, str]:
    """Returns F1 and balanced accuracy at a threshold, and the F1 of calling everything positive; empty without one."""
    if at is None or at["f1"] is None:
        return "", ""
    balanced = NOT_DEFINED if at["balanced_accuracy"] is None else f"{at['balanced_accuracy']:.3f}"
    trivial = f"calling everything {positive} has F1 {at['f1_all_positive']:.3f}"
    return f"; F1 {at['f1']:.3f}, balanced accuracy {balanced}", trivial
