"""`run.py export --csv`: every table of every complete phase, for spreadsheets, R and the like."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import say
from cli.parser import resolved_config
from cli.places import refuse_unwritable
from common.errors import Interrupted
from common.text_table import text_table

if TYPE_CHECKING:
    from common.csv_export import Export

PLACE = "csv"


def export(parsed: argparse.Namespace) -> int:
    """Writes the tables and says which, and what a spreadsheet would make of them."""
    from common.csv_export import export_csv

    config = resolved_config(parsed).config
    out = parsed.out or Path(config.data_dir) / PLACE
    if parsed.out is not None:
        refuse_unwritable("--out", parsed.out)
    try:
        found = export_csv(config, out, overwrite=parsed.overwrite, for_spreadsheets=parsed.for_spreadsheets)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {out} is as it was, run the same command again") from None
    for line in _lines(found, for_spreadsheets=parsed.for_spreadsheets):
        say(line)
    return 0


def _lines(found: Export, *, for_spreadsheets: bool) -> Iterator[str]:
    yield text_table([(one.phase, one.path, f"{one.rows:,}") for one in found.files], ("phase", "file", "rows"))
    yield from found.remarks()
    formulas = sum(one.formulas for one in found.files)
    if formulas and for_spreadsheets:
        yield f"{formulas:,} texts that a spreadsheet would take for formulas have a ' in front"
    elif formulas:
        yield f"{formulas:,} texts begin like a formula: import them as text, or export with --for-spreadsheets"
    yield f"{'replaced' if found.replaced else 'written'}: {found.out}/ (README.txt says how values are written)"
