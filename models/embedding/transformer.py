"""The embedder for GPUs: any sentence-transformers model, by name or from a local folder. Needs the extra ``gpu``.

The library loads the model and knows how it pools; batches are made here, since its own are of so many texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.embedding.base import Floats, batches, unit
from streams.errors import SettingsError

GPU_BATCH_TOKENS: Final = 32_768
"""Tokens of one batch on a GPU, padding included."""
CPU_BATCH_TOKENS: Final = 512
"""Tokens of one batch on a CPU: as with ONNX, larger ones are slower (``benchmarks run embed``)."""
TOKENIZED_TEXTS: Final = 8_192
"""Texts that are on the device at once."""
MAX_TOKENS: Final = 256
"""Tokens of one text; the rest of a longer text is cut off."""
MAX_CHARS: Final = 8_192
"""Characters that are looked at: more than ``MAX_TOKENS`` tokens of any text that is written in words."""


class TransformerEmbedder:
    """sentence-transformers behind the common interface: half precision on a GPU, float32 on a CPU.

    Texts are sorted by length and cut into batches under a token budget. On a GPU batches go there from pinned memory,
    one behind the other without waiting; their vectors come back together. One process has one model on one device,
    for all partitions that it reads; for several GPUs run as many processes, each with its own ``cuda:N``.

    Args:
        model: a name of the model hub, or a local folder (then nothing is fetched).
        device: ``cuda``, ``cuda:1``, ``cpu``, …; None takes a GPU where there is one.

    Raises:
        SettingsError: the extra is not installed, there is no such device, the model cannot be loaded, or it is none
            of texts.
    """

    def __init__(
        self, model: str, *, name: str | None = None, device: str | None = None, batch_tokens: int | None = None
    ) -> None:
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise SettingsError(
                f"the sentence-transformers embedder needs the extra gpu ({error}): "
                "pip install 'trend-intelligence[gpu]'"
            ) from None
        if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
            raise SettingsError(
                f"there is no {device}: torch {torch.__version__} finds no GPU; cpu, or onnx, runs here"
            )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model: Any = SentenceTransformer(model, device=device)
        except (OSError, ValueError, RuntimeError) as error:
            raise SettingsError(f"the embedding model {model!r} cannot be loaded on {device}: {error}") from error
        self._torch: Any = torch
        self._device = torch.device(device)
        self._pinned = self._device.type == "cuda"
        self._tokenizer: Any = getattr(self._model, "tokenizer", None)
        if getattr(self._tokenizer, "pad_token_id", None) is None:
            raise SettingsError(f"the embedding model {model!r} has no tokenizer that pads: it is none of texts")
        if self._device.type != "cpu":
            self._model.half()
        self._model.eval()
        self._max_tokens = min(self._model.max_seq_length or MAX_TOKENS, MAX_TOKENS)
        self._prompt = (self._model.prompts or {}).get(self._model.default_prompt_name) or ""
        cpu_bound = CPU_BATCH_TOKENS if self._device.type == "cpu" else GPU_BATCH_TOKENS
        self._batch_tokens = max(batch_tokens or cpu_bound, self._max_tokens)
        self.name = name or Path(model).name
        self.dimensions = int(self._encode([self._tokens(["dimensions"])[0]]).shape[1])

    def embed(self, texts: Sequence[str]) -> Floats:
        """See :class:`models.embedding.base.Embedder`."""
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for begin in range(0, len(texts), TOKENIZED_TEXTS):
            tokens = self._tokens(texts[begin : begin + TOKENIZED_TEXTS])
            order = list(batches([len(ids) for ids in tokens], self._batch_tokens))
            found = [self._encode([tokens[i] for i in rows]) for rows in order]
            if found:
                rows = [begin + i for batch in order for i in batch]
                vectors[rows] = self._torch.cat(found).float().cpu().numpy()
        return unit(vectors)

    def close(self) -> None:
        """Lets the model go, and its GPU memory with it."""
        self._model = self._tokenizer = None
        if self._pinned:
            self._torch.cuda.empty_cache()

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        clean = [self._prompt + text[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8").strip() for text in texts]
        if not clean:
            return []
        ids: list[list[int]] = self._tokenizer(
            clean, truncation=True, max_length=self._max_tokens, padding=False, return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]  # fmt: skip
        return ids

    def _encode(self, tokens: Sequence[list[int]]) -> Any:
        """The vectors (b, d) of one batch, on the device, not waited for; its rows come sorted by length."""
        width = len(tokens[-1])
        ids: NDArray[np.int64] = np.full((len(tokens), width), self._tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        left = self._tokenizer.padding_side == "left"
        for row, values in enumerate(tokens):
            place = slice(width - len(values), width) if left else slice(0, len(values))
            ids[row, place] = values
            mask[row, place] = 1
        with self._torch.inference_mode():
            features = {"input_ids": self._on_device(ids), "attention_mask": self._on_device(mask)}
            return self._model(features)["sentence_embedding"]

    def _on_device(self, array: NDArray[np.int64]) -> Any:
        tensor = self._torch.from_numpy(array)
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._pinned else tensor.to(self._device)
