"""The notebooks run from top to bottom, and what they hold of their outputs is small."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def named(path: Path) -> str:
    return path.stem


def test_both_notebooks_are_found() -> None:
    assert list(map(named, NOTEBOOKS)) == ["compare_rules", "train_a_pruning_policy"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_is_committed_with_small_outputs_of_one_run_from_the_top(path: Path) -> None:
    cells = code_cells(json.loads(path.read_text(encoding="utf-8")))
    assert len(json.dumps([cell["outputs"] for cell in cells])) <= 100_000
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert "error" not in kinds


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_runs_as_it_stands(path: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="an extra")
    pytest.importorskip("ipykernel", reason="an extra")
    pytest.importorskip("pandas", reason="an extra")
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    held = [[each.output_type for each in cell.outputs] for cell in code_cells(notebook)]
    where = {"metadata": {"path": str(tmp_path)}}
    shown = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    nbclient.NotebookClient(notebook, timeout=240, resources=where).execute(env=shown)
    cells = code_cells(notebook)
    warned = [each for cell in cells for each in cell.outputs if each.get("name") == "stderr"]
    assert warned == []
    assert [sorted({each.output_type for each in cell.outputs}) for cell in cells] == [
        sorted(set(kinds)) for kinds in held
    ]
    left = {file.suffix for file in (tmp_path / "results").rglob("*") if file.is_file()}
    assert left & {".pdf", ".npz"}
    for pdf in tmp_path.rglob("*.pdf"):
        assert pdf.read_bytes().startswith(b"%PDF")
