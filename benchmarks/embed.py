"""The onnx embedder against batches of a fixed size, and against sentence-transformers where it is installed.

All on one thread, the same titles in the same order; what is compared is titles a second of a worker process.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.harness import Result, Row, in_turns, timed
from connectors.synthetic import SyntheticOptions, World
from models.embedding.base import Floats
from models.embedding.onnx import _TOKENIZER, OnnxEmbedder, _packaged
from models.text import clean_title
from streams.errors import SettingsError

ITEMS = 2_048
WARM_UP = 64


class FixedBatches(OnnxEmbedder):
    """The same model with batches of so many texts, in the order in which they come: what most services do."""

    def __init__(self, texts: int, threads: int = 1) -> None:
        super().__init__(threads=threads)
        self._texts = texts

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        for start in range(0, len(lengths), self._texts):
            yield sorted(range(start, min(start + self._texts, len(lengths))), key=lengths.__getitem__)


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Result:
    """Titles a second."""
    titles = list(islice(_titles(args.data), args.items or ITEMS))
    if not titles:
        raise SettingsError(f"{args.data} has no titles")
    rows = {
        "onnx": "sorted by length, at most 512 tokens a batch",
        "onnx, batches of 32": "as they come",
        "onnx, batches of 512": "as they come",
    }
    embeds: dict[str, Callable[[list[str]], Floats]] = {
        "onnx": OnnxEmbedder().embed,
        "onnx, batches of 32": FixedBatches(32).embed,
        "onnx, batches of 512": FixedBatches(512).embed,
    }
    for size in (32, 512):
        if encode := _sentence_transformers(size):
            name = f"sentence-transformers, batches of {size}"
            embeds[name], rows[name] = encode, "float32, as they come"
    reference = {name: embed(titles[:WARM_UP]) for name, embed in embeds.items()}

    def rate(embed: Callable[[list[str]], Floats]) -> Callable[[], float]:
        return lambda: len(titles) / timed(lambda: embed(titles))

    rates = in_turns(args.rounds, {name: rate(embed) for name, embed in embeds.items()}, tell)
    made = tuple(Row(name, tuple(rates[name]), note) for name, note in rows.items())
    ratios = {f"onnx / {row.name}": made[0].median / row.median for row in made[1:]}
    facts: dict[str, object] = {
        "titles": f"{len(titles)} of {args.data.name if args.data else 'the synthetic world'}",
        "mean characters": round(float(np.mean([len(title) for title in titles])), 1),
    }
    last = list(reference)[-1]
    if last.startswith("sentence"):
        cosines = np.sum(reference["onnx"] * reference[last], axis=1)
        facts["cosine to sentence-transformers"] = f"mean {cosines.mean():.4f}, least {cosines.min():.4f}"
    else:
        facts["sentence-transformers"] = "not installed (the extra gpu)"
    return Result("embed", "titles/s, one thread", made, ratios, facts)


def _sentence_transformers(size: int) -> Callable[[list[str]], Floats] | None:
    folder = _packaged(*_TOKENIZER).parent
    weights = folder / "model.safetensors"
    if find_spec("sentence_transformers") is None or find_spec("torch") is None or not weights.is_file():
        return None
    import torch

    from models.embedding.transformer import TransformerEmbedder

    torch.set_num_threads(1)
    embedder = TransformerEmbedder(str(folder), device="cpu", batch_texts=size)

    def embed(texts: list[str]) -> Floats:
        # One call a batch: within a call the library sorts by length, which a stream of batches cannot.
        parts = [embedder.embed(texts[i : i + size]) for i in range(0, len(texts), size)]
        return np.concatenate(parts)

    return embed


def _titles(path: Path | None) -> Iterator[str]:
    """Cleaned titles: of the column or field ``title`` of a file, else of the synthetic world."""
    if path is None:
        for sighting in World(SyntheticOptions()):
            yield clean_title(sighting.title)
        return
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        if path.suffixes[:1] == [".csv"]:
            records: Iterator[dict[str, str]] = csv.DictReader(lines)
        else:
            records = (json.loads(line) for line in lines if line.strip())
        for record in records:
            if title := clean_title(record.get("title") or ""):
                yield title
