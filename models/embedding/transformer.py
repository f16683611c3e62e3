"""The embedder for GPUs: any sentence-transformers model, by name or from a local folder. Needs the extra ``gpu``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.embedding.base import Floats, unit
from streams.errors import SettingsError

GPU_BATCH: Final = 512
"""Texts of one batch on a GPU."""
CPU_BATCH: Final = 32
"""Texts of one batch on a CPU: larger ones are slower (``benchmarks run embed``)."""
MAX_TOKENS: Final = 256
"""Tokens of one text; the rest of a longer text is cut off."""


class TransformerEmbedder:
    """sentence-transformers behind the common interface: half precision on a GPU, float32 on a CPU.

    Args:
        model: a name of the model hub, or a local folder (then nothing is fetched).
        device: ``cuda``, ``cuda:1``, ``cpu``, …; None takes a GPU where there is one.

    Raises:
        SettingsError: the extra is not installed, or the model cannot be loaded.
    """

    def __init__(
        self, model: str, *, name: str | None = None, device: str | None = None, batch_texts: int | None = None
    ) -> None:
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise SettingsError(
                f"the sentence-transformers embedder needs the extra gpu ({error}): "
                "pip install 'trend-intelligence[gpu]'"
            ) from None
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model: Any = SentenceTransformer(model, device=device)
        except (OSError, ValueError, RuntimeError) as error:
            raise SettingsError(f"the embedding model {model!r} cannot be loaded on {device}: {error}") from error
        self._batch = batch_texts or (CPU_BATCH if device == "cpu" else GPU_BATCH)
        if device != "cpu":
            self._model.half()
        self._model.max_seq_length = min(self._model.max_seq_length or MAX_TOKENS, MAX_TOKENS)
        self.name = name or Path(model).name
        self.dimensions = len(self._model.encode("dimensions"))

    def embed(self, texts: Sequence[str]) -> Floats:
        """See :class:`models.embedding.base.Embedder`. The library sorts by length within a call."""
        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        vectors = self._model.encode(
            [text.encode("utf-8", "replace").decode("utf-8") for text in texts],
            batch_size=self._batch,
            convert_to_numpy=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return unit(np.asarray(vectors, dtype=np.float32))

    def close(self) -> None:
        """Lets the model go, and its GPU memory with it."""
        self._model = None
