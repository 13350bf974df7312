"""Two programs side by side: which lines differ, and in which words.

Lines are aligned by difflib's matcher; lines that were rewritten are paired so that the pairs are as alike as can be
(Needleman & Wunsch 1970), and differing words are marked within a pair. A mark is an element (`del`, `ins`) and a sign
beside the line number, so that it does not rest on colour.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

from report.markup import NOTHING, Html, element, joined, text

MAX_LINES = 300
MAX_CHARACTERS = 20_000
ALIKE = 0.4  # lines less alike than this were replaced, not rewritten
# difflib's time grows with the pairs of equal words (a model that repeats itself makes millions). A passage above these
# bounds is paired line by line in its order, and a line above its bound is marked as a whole.
LINE_PAIRS, WORD_PAIRS_OF_PASSAGE, WORD_PAIRS = 2_500, 400_000, 20_000
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")

Pair = tuple[int | None, int | None]


class Line(NamedTuple):
    """One side of a row: the line's number from 1, its HTML, and its sign ("" where the line is the same)."""

    number: int
    content: Html
    sign: str


class Row(NamedTuple):
    """A line of the baseline beside one of the steered solution; None where there is no counterpart."""

    left: Line | None
    right: Line | None


def side_by_side(baseline: str, steered: str) -> Html:
    """Returns both texts as a table of two columns, differing words marked; says so where they are the same."""
    left, right = _lines(baseline), _lines(steered)
    said = _cut(baseline, "baseline", left) + _cut(steered, "steered solution", right)
    if left == right and not said:
        nearly = "" if baseline == steered else ", but for the last line's end"
        same = _note(f"The two texts are the same{nearly}; shown once.")
        return joined(same, _table([Row(_same(left, n), None) for n in range(len(left))], ("Both",)))
    notes = [_note(line) for line in said]
    return joined(*notes, _table(list(rows(left, right)), ("− Baseline", "+ Steered")))


def rows(left: list[str], right: list[str]) -> Iterator[Row]:
    """Yields the rows that show the lines of both texts, each text's in their order."""
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                yield Row(_same(left, i), _same(right, j))
        else:
            for i, j in pairs(left[i1:i2], right[j1:j2]):
                yield _changed(left, None if i is None else i1 + i, right, None if j is None else j1 + j)


def pairs(left: list[str], right: list[str]) -> list[Pair]:
    """Returns the lines of a rewritten passage in pairs whose likeness is greatest in sum, each side in its order."""
    words = [[word for line in lines for word in _TOKEN.findall(line)] for lines in (left, right)]
    if len(left) * len(right) > LINE_PAIRS or _equal_pairs(*words) > WORD_PAIRS_OF_PASSAGE:
        return list(zip_longest(range(len(left)), range(len(right))))
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            together = _likeness(left[i], right[j]) + best[i + 1][j + 1]
            best[i][j] = max(together, best[i + 1][j], best[i][j + 1])
    return _beside(_traced(best))


def _traced(best: list[list[float]]) -> Iterator[Pair]:
    """Yields the steps of the best path: a pair of like lines, or a line of one side alone."""
    i = j = 0
    height, width = len(best) - 1, len(best[0]) - 1
    while i < height or j < width:
        if i < height and best[i][j] == best[i + 1][j]:
            yield i, None
            i += 1
        elif j < width and best[i][j] == best[i][j + 1]:
            yield None, j
            j += 1
        else:
            yield i, j
            i, j = i + 1, j + 1


def _beside(steps: Iterator[Pair]) -> list[Pair]:
    """Puts lines that stand alone beside each other where both sides have some at the same place."""
    found: list[Pair] = []
    lefts: list[int] = []
    rights: list[int] = []
    for i, j in steps:
        if i is not None and j is not None:
            found += [*zip_longest(lefts, rights), (i, j)]
            lefts, rights = [], []
        elif i is not None:
            lefts.append(i)
        elif j is not None:
            rights.append(j)
    return [*found, *zip_longest(lefts, rights)]


def _equal_pairs(left: list[str], right: list[str]) -> int:
    """Returns in how many ways a word of one side meets an equal one of the other."""
    there = Counter(right)
    return sum(count * there[word] for word, count in Counter(left).items())


@lru_cache(maxsize=4096)
def _likeness(left: str, right: str) -> float:
    """Returns how much of their words two lines share, from 0 to 1; 0 below `ALIKE`, and where counting takes long."""
    a, b = _TOKEN.findall(left.strip()), _TOKEN.findall(right.strip())
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if matcher.real_quick_ratio() < ALIKE or matcher.quick_ratio() < ALIKE or _equal_pairs(a, b) > WORD_PAIRS:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= ALIKE else 0.0


def _same(lines: list[str], index: int) -> Line:
    return Line(index + 1, text(lines[index]), "")


def _changed(left: list[str], i: int | None, right: list[str], j: int | None) -> Row:
    if i is not None and j is not None and _likeness(left[i], right[j]):
        before, after = _marked(left[i], right[j])
        return Row(Line(i + 1, before, "−"), Line(j + 1, after, "+"))
    removed = None if i is None else Line(i + 1, _wholly("del", left[i]), "−")
    return Row(removed, None if j is None else Line(j + 1, _wholly("ins", right[j]), "+"))


def _marked(left: str, right: str) -> tuple[Html, Html]:
    """Returns two lines with the words marked in which they differ."""
    a, b = _TOKEN.findall(left), _TOKEN.findall(right)
    before: list[Html] = []
    after: list[Html] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        removed, added = "".join(a[i1:i2]), "".join(b[j1:j2])
        before.append(text(removed) if tag == "equal" else _mark("del", removed))
        after.append(text(added) if tag == "equal" else _mark("ins", added))
    return joined(*before), joined(*after)


def _wholly(name: str, line: str) -> Html:
    """Returns a line marked as a whole, but for its indentation."""
    code = line.lstrip(" \t")
    return joined(text(line.removesuffix(code)), _mark(name, code)) if code else _mark(name, line)


def _mark(name: str, content: str) -> Html:
    return element(name, None, text(content)) if content else NOTHING


def _lines(program: str) -> list[str]:
    """Returns the lines that are shown: at most `MAX_LINES`, of `MAX_CHARACTERS` in all."""
    kept = program[:MAX_CHARACTERS].removesuffix("\n")
    return kept.split("\n")[:MAX_LINES] if kept else []


def _cut(program: str, name: str, shown: list[str]) -> list[str]:
    whole = program.removesuffix("\n")
    if "\n".join(shown) == whole:
        return []
    lines, characters = whole.count("\n") + 1, len(whole)
    return [f"Of the {name} the first {len(shown)} of {lines} lines ({characters:,} characters) are shown."]


def _note(said: str) -> Html:
    return element("p", {"class": "said"}, text(said))


def _table(shown: list[Row], titles: tuple[str, ...]) -> Html:
    heads = [element("th", {"colspan": 2, "scope": "colgroup"}, text(title)) for title in titles]
    if not shown:
        return _note("There is no text.")
    body = [_row(row, both=len(titles) > 1) for row in shown]
    attributes = {"class": "diff" if len(titles) > 1 else "diff one"}
    columns = [joined(element("col", {"class": "n"}), element("col")) for _ in titles]
    head = element("thead", None, element("tr", None, *heads))
    group = element("colgroup", None, *columns)
    return element("table", attributes, group, head, element("tbody", None, *body))


def _row(row: Row, *, both: bool) -> Html:
    left, right = _cells(row.left, "was"), _cells(row.right, "is") if both else NOTHING
    changed = any(line is not None and line.sign for line in row) or None in row and both
    return element("tr", {"class": "changed" if changed else None}, left, right)


def _cells(line: Line | None, side: str) -> Html:
    if line is None:
        return element("td", {"class": f"none {side}", "colspan": 2})
    number = element("td", {"class": "n"}, text(f"{line.number}{' ' if line.sign else ''}{line.sign}"))
    return joined(number, element("td", {"class": side if line.sign else None}, line.content))
