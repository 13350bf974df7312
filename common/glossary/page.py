"""`docs/outputs.md`, made from the glossary and the registry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from common.glossary.files import EXPORT, FILES, KNOWN_ANSWERS, REPORT, UNFINISHED
from common.glossary.pathway_results import PATHWAY_FILES
from common.glossary.records import ADDED, EVERY
from common.glossary.words import Each, Field, File, Kind, Maybe, Rows, Shape
from common.phases import PHASES, PhaseSpec

ABOUT = """# The files of a run

Made by `make docs` from `common/glossary/`; not written by hand. Tests hold every name and type below against the
schemas in the code and the files of a real run, both ways: no column or key without a meaning, and none described that
is not there.

Everything lies under the data directory: `data/`, `data/organism/` for the bundled model. A phase's directory holds its
files and its record, `metadata.json`, which is written last: the files that it names are whole, and `complete` says
whether they cover the split. What else lies there while a phase runs (`segments/`, `snapshots/`, `slices/`, `locks/`,
`logs/`, `superseded/`) is told in [runs.md](runs.md), what the figures mean in [methodology.md](methodology.md).

In these tables `<word>` stands for what varies, `[]` for the items of a list, and a linked type for an object that is
described once, [at the end](#objects-that-recur). What could not be computed is null, with the reason beside it; JSON
holds no NaN. A key marked *sometimes* stands only where it applies. A share without a unit lies between 0 and 1.
*Activation* is an SAE's own unit. Tables are parquet (zstd, page checksums), arrays npz without pickle.
"""
_COLUMNS = ("column", "type", "unit", "meaning")
_KEYS = ("key", "type", "unit", "meaning")


def outputs_page() -> str:
    """Returns the page."""
    page = _Page()
    parts = [ABOUT, "## Every phase\n", page.shared(), *(page.phase(spec) for spec in PHASES)]
    parts += [page.elsewhere(), page.pathway(), page.objects()]
    return "\n".join(parts)


def as_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def anchor(heading: str) -> str:
    """Returns the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class _Page:
    """The page as it grows: where each content was described first, and which objects recur."""

    def __init__(self) -> None:
        self._at: dict[int, str] = {}
        self._named: dict[str, Shape] = {}
        of_phases = [[id(file) for file in files] for files in FILES.values()]
        several = {one for files in of_phases for one in files if sum(one in other for other in of_phases) > 1}
        every = {id(file): file for files in FILES.values() for file in files if id(file) in several}
        self._shared = list(every.values())

    def shared(self) -> str:
        """Describes the record, and the files that several phases write."""
        record = File(
            "metadata.json", "the record of the phase: what a reader needs to trust it, or to repeat it", EVERY
        )
        return "\n".join(self._file(file, "") for file in (record, UNFINISHED, *self._shared))

    def phase(self, spec: PhaseSpec) -> str:
        """Describes what one phase writes."""
        directory = f"phase{spec.id.replace('.', '_')}/"
        own = [file for file in FILES[spec.id] if file not in self._shared]
        parts = [f"## Phase {spec.id}: {spec.name}\n", f"In `{directory}`.\n", self._list(FILES[spec.id])]
        parts += [self._file(file, directory) for file in own if file.holds is not None]
        added = File("metadata.json", "what this phase adds to its record", ADDED[spec.id])
        return "\n".join([*parts, self._file(added, directory)])

    def elsewhere(self) -> str:
        """Describes what lies beside the phases' directories."""
        listed = self._list((KNOWN_ANSWERS, REPORT, EXPORT))
        return "\n".join(["## Beside the phases\n", "In the data directory.\n", listed, self._file(KNOWN_ANSWERS, "")])

    def pathway(self) -> str:
        """Describes the files of the pathway analysis."""
        about = "In `pathway/`; what it does is told in [pathway.md](pathway.md).\n"
        described = [self._file(file, "pathway/") for file in PATHWAY_FILES if file.holds is not None]
        return "\n".join(["## Pathway and token analysis\n", about, self._list(PATHWAY_FILES), *described])

    def objects(self) -> str:
        """Describes the objects that recur; describing one may bring up another."""
        described: dict[str, str] = {}
        while left := [shape for name, shape in self._named.items() if name not in described]:
            for shape in left:
                rows = as_table(_KEYS, self._rows(shape, ""))
                described[shape.name] = f"### {shape.name}\n\n{shape.about}\n\n{rows}"
        return "\n".join(["## Objects that recur\n", *(described[name] for name in sorted(described, key=str.lower))])

    def _list(self, files: Iterable[File]) -> str:
        alike: dict[tuple[str, str, str], list[str]] = {}  # a plot's PNG and SVG share a line
        for file in files:
            alike.setdefault((file.name.rpartition(".")[0], file.what, file.when), []).append(f"`{file.name}`")
        rows = [(", ".join(names), what, when or "always") for (_, what, when), names in alike.items()]
        return as_table(("file", "what", "when"), rows)

    def _file(self, file: File, directory: str) -> str:
        heading = f"`{directory}{file.name}`"
        lines = [f"### {heading}\n", f"{file.what[0].upper()}{file.what[1:]}{self._extent(file)}.\n"]
        before = self._at.setdefault(id(file.holds), heading)
        if before != heading:
            return "\n".join([*lines, f"{self._word(file)} as [{before}](#{anchor(before)}).\n"])
        kind = file.holds
        while isinstance(kind, Each | Rows):
            kind = kind.of
        assert isinstance(kind, Shape), file.name
        return "\n".join([*lines, as_table(_COLUMNS if file.row else _KEYS, self._rows(kind, ""))])

    def _extent(self, file: File) -> str:
        what = f"; one row {file.row}" if file.row else ""
        if isinstance(file.holds, Rows | Each):
            what = f"; {self._type(file.holds)}"
        return f"{what} ({file.when})" if file.when else what

    def _word(self, file: File) -> str:
        return "Columns" if file.row else "Keys"

    def _rows(self, shape: Shape, above: str) -> Iterator[tuple[str, ...]]:
        for part in shape.parts:
            yield f"`{above}.…`" if above else "…", self._type(part), "", "all of its keys"
        for name, field in shape.own():
            path = f"{above}.{name}" if above else name
            meaning = field.meaning if field.always else f"*sometimes*: {field.meaning}"
            yield f"`{path}`", self._type_of(field), field.unit, meaning
            yield from self._inside(field.kind, path)

    def _inside(self, kind: Kind, path: str) -> Iterator[tuple[str, ...]]:
        if isinstance(kind, Each):
            yield from self._inside(kind.of, f"{path}.<{kind.by}>")
        elif isinstance(kind, Rows):
            yield from self._inside(kind.of, f"{path}[]")
        elif isinstance(kind, Maybe):
            yield from self._inside(kind.of, path)
        elif isinstance(kind, Shape) and not kind.name:
            yield from self._rows(kind, path)

    def _type_of(self, field: Field) -> str:
        return f"{self._type(field.kind)} or null" if field.null else self._type(field.kind)

    def _type(self, kind: Kind) -> str:
        if isinstance(kind, str):
            return kind
        if isinstance(kind, Maybe):
            return f"{self._type(kind.of)} or null"
        if isinstance(kind, Rows):
            return f"list of {self._type(kind.of)}"
        if isinstance(kind, Each):
            return f"{self._type(kind.of)} by {kind.by}"
        if not kind.name:
            return "object"
        self._named[kind.name] = kind
        return f"[{kind.name}](#{anchor(kind.name)})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
