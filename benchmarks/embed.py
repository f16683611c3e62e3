"""The onnx embedder against batches of a fixed size, and against sentence-transformers where it is installed.

All on one thread, the same titles in the same order; what is compared is titles a second of a worker process. With
``--device cuda`` sentence-transformers runs on the GPU, our batches against the library's own.
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
from typing import Any, TypeAlias

import numpy as np

from benchmarks.harness import Result, Row, in_turns, timed
from connectors.synthetic import SyntheticOptions, World
from models.embedding.base import Floats
from models.embedding.onnx import _TOKENIZER, OnnxEmbedder, _packaged
from models.text import clean_title
from streams.errors import SettingsError

ITEMS = 2_048
WARM_UP = 64

Embed: TypeAlias = Callable[[list[str]], Floats]


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
    embeds: dict[str, Embed] = {
        "onnx": OnnxEmbedder().embed,
        "onnx, batches of 32": FixedBatches(32).embed,
        "onnx, batches of 512": FixedBatches(512).embed,
    }
    device = args.device or "cpu"
    if args.device or _installed():
        made_here, batched = _sentence_transformers(device)
        embeds[f"sentence-transformers on {device}"], rows[f"sentence-transformers on {device}"] = (
            made_here,
            ("sorted by length, batches under a token budget; " + ("float32" if device == "cpu" else "half precision")),
        )
        for size in (32, 512):
            name = f"its own encode on {device}, batches of {size}"
            embeds[name], rows[name] = batched(size), "as they come, same precision"
    reference = {name: embed(titles[:WARM_UP]) for name, embed in embeds.items()}

    def rate(embed: Embed) -> Callable[[], float]:
        return lambda: len(titles) / timed(lambda: embed(titles))

    rates = in_turns(args.rounds, {name: rate(embed) for name, embed in embeds.items()}, tell)
    made = tuple(Row(name, tuple(rates[name]), note) for name, note in rows.items())
    ratios = {f"onnx / {row.name}": made[0].median / row.median for row in made[1:]}
    ours = next((row for row in made if row.name.startswith("sentence")), None)
    if ours is not None:
        ratios |= {f"{ours.name} / {r.name}": ours.median / r.median for r in made if r.name.startswith("its own")}
    facts: dict[str, object] = {
        "titles": f"{len(titles)} of {args.data.name if args.data else 'the synthetic world'}",
        "mean characters": round(float(np.mean([len(title) for title in titles])), 1),
    }
    if theirs := next((name for name in reference if name.startswith("sentence")), None):
        cosines = np.sum(reference["onnx"] * reference[theirs], axis=1)
        facts[f"cosine of onnx to {theirs}"] = f"mean {cosines.mean():.4f}, least {cosines.min():.4f}"
    else:
        facts["sentence-transformers"] = "not installed (the extra gpu)"
    return Result("embed", "titles/s, one thread of a CPU", made, ratios, facts)


def _installed() -> bool:
    weights = _packaged(*_TOKENIZER).parent / "model.safetensors"
    return find_spec("sentence_transformers") is not None and find_spec("torch") is not None and weights.is_file()


def _sentence_transformers(device: str) -> tuple[Embed, Callable[[int], Embed]]:
    """Our embedder on a device, and the library's own ``encode`` in batches of so many texts, with the same model.

    Raises:
        SettingsError: torch or the device is not there.
    """
    folder = str(_packaged(*_TOKENIZER).parent)
    from models.embedding.transformer import TransformerEmbedder

    embedder = TransformerEmbedder(folder, device=device)
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    library: Any = SentenceTransformer(folder, device=device)
    if device != "cpu":
        library.half()

    def batched(size: int) -> Embed:
        def embed(texts: list[str]) -> Floats:
            # One call a batch: within a call the library sorts by length, which a stream of batches cannot.
            parts = [
                library.encode(texts[i : i + size], batch_size=size, normalize_embeddings=True, show_progress_bar=False)
                for i in range(0, len(texts), size)
            ]
            vectors: Floats = np.concatenate(parts).astype(np.float32)
            return vectors

        return embed

    return embedder.embed, batched


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
