"""The notebook of the documentation on a whole run of the bundled tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.notebook import executed, kinds, stored

pytestmark = pytest.mark.slow


def test_the_stored_notebook_shows_what_a_run_of_it_shows(answered: Path) -> None:
    assert kinds(executed(answered)) == kinds(stored())
