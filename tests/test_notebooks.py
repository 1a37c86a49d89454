"""Every notebook runs from top to bottom, says what it should, and is kept with what it said."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.long

FOLDER = Path(__file__).parent.parent / "notebooks"
STEPS = 24  # of a training, in place of a notebook's own


def kinds(cell) -> set[str]:
    """What a cell has put out: MIME types, and "stdout"; the log on stderr is no result."""
    streams = {output.name for output in cell.outputs if output.output_type == "stream"} - {
        "stderr"
    }
    return streams.union(*(output.data for output in cell.outputs if "data" in output))


def shortened(notebook):
    """The notebook with trainings of a few steps, where it says how many there are."""
    for cell in notebook.cells:
        cell.source = re.sub(r"^STEPS = \d+$", f"STEPS = {STEPS}", cell.source, flags=re.MULTILINE)
    return notebook


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    kept = [kinds(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert path.stat().st_size < 300_000 and "site-packages" not in path.read_text("utf-8")
    client = nbclient.NotebookClient(shortened(notebook), timeout=300, kernel_name="python3")
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = "".join(str(output) for cell in cells for output in cell.outputs)
    assert (
        "image/png" in text
        and "Did you mean optim.learning_rate?" in text
        and "report.html" in text
    )
    assert [kinds(cell) for cell in cells] == kept, (
        "the notebook's outputs are of an earlier version of it: save them again"
    )
