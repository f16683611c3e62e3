"""Embedders behind one interface, and ``create``, which makes one by kind. What is embedded is models.text's affair."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from models.budget import DailyBudget
from models.embedding.base import Embedder, Floats
from models.embedding.cache import CachedEmbedder, EmbeddingCache
from streams.errors import SettingsError

EmbedderKind = Literal["onnx", "null", "sentence-transformers", "openai"]

KINDS: tuple[EmbedderKind, ...] = ("onnx", "null", "sentence-transformers", "openai")


def create(
    kind: str,
    *,
    model: str | None = None,
    name: str | None = None,
    threads: int = 1,
    device: str | None = None,
    dimensions: int | None = None,
    url: str | None = None,
    api_key: str | None = None,
    timeout_s: float = 30.0,
    budget: DailyBudget | None = None,
) -> Embedder:
    """An embedder by kind; only what that kind needs is imported.

    Args:
        kind: one of ``KINDS``.
        model: onnx: a folder with model.onnx and tokenizer.json (None: the packaged all-MiniLM-L6-v2);
            sentence-transformers: a name or folder; openai: the model's name at the endpoint.
        name: as records carry the model (None: its own name, the last part of a path).
        threads: onnx: threads of one call.
        device: sentence-transformers: the torch device (None: a GPU where there is one).
        dimensions: null: of its vectors; openai: those expected (None: asked of the endpoint).
        url: openai: the API's base, such as ``http://localhost:8000/v1``.
        api_key: openai: sent as a bearer token.
        timeout_s: openai: for one request, its answer included.
        budget: openai: the tokens that may be used in a day (None: as many as are asked for).

    Raises:
        SettingsError: unknown kind, or something that the kind needs is missing; the message says what to do.
        UnavailableError: openai without ``dimensions``: the endpoint does not answer.
    """
    if kind == "onnx":
        from models.embedding.onnx import OnnxEmbedder

        return OnnxEmbedder(Path(model) if model else None, name=name, threads=threads)
    if kind == "null":
        from models.embedding.null import NullEmbedder

        return NullEmbedder(dimensions or 384)
    if kind == "sentence-transformers":
        from models.embedding.transformer import TransformerEmbedder

        return TransformerEmbedder(model or "sentence-transformers/all-MiniLM-L6-v2", name=name, device=device)
    if kind == "openai":
        from models.embedding.openai import OpenAIEmbedder

        if not url or not model:
            raise SettingsError("the openai embedder needs the address of the API (…/v1) and the name of the model")
        return OpenAIEmbedder(
            url, model, name=name, api_key=api_key, dimensions=dimensions, timeout_s=timeout_s, budget=budget
        )
    raise SettingsError(f"no embedder {kind!r}; there are: {', '.join(KINDS)}")


__all__ = ["KINDS", "CachedEmbedder", "Embedder", "EmbedderKind", "EmbeddingCache", "Floats", "create"]
