"""The embed benchmark runs, and compares what it says."""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.embed import FixedBatches, run
from models.embedding.onnx import OnnxEmbedder
from streams.errors import SettingsError


def arguments(data: Path | None) -> argparse.Namespace:
    return argparse.Namespace(items=8, rounds=1, data=data, device=None)


@pytest.mark.parametrize("name", ["titles.csv", "titles.jsonl", "titles.jsonl.gz", None])
def test_titles_come_from_a_file_or_from_the_synthetic_world(tmp_path: Path, name: str | None) -> None:
    path = tmp_path / name if name else None
    if path is not None:
        text = 'id,title\n1,"Harbour opens, boats return"\n2,\n' if ".csv" in path.name else '{"title": "Harbour"}\n\n'
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    result = run(arguments(path), lambda line: None)
    assert {row.name for row in result.rows} >= {"onnx", "onnx, batches of 32", "onnx, batches of 512"}
    assert all(row.median > 0 for row in result.rows)
    assert result.ratios["onnx / onnx, batches of 32"] > 0


def test_a_file_without_titles_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id\n1\n")
    with pytest.raises(SettingsError, match=r"x\.csv has no titles"):
        run(arguments(tmp_path / "x.csv"), lambda line: None)


def test_a_device_that_is_not_there_is_said_and_nothing_else_is_measured_in_its_place() -> None:
    with pytest.raises(SettingsError, match=r"there is no cuda|needs the extra gpu"):
        run(argparse.Namespace(items=8, rounds=1, data=None, device="cuda:7"), lambda line: None)


def test_fixed_batches_compute_the_same_vectors() -> None:
    titles = ["Harbour opens", "Boats return to the old harbour of Lindau", "Storm"]
    assert np.allclose(FixedBatches(2).embed(titles), OnnxEmbedder().embed(titles), atol=1e-5)
