"""What an embedder is: texts in, unit vectors out. Which ones there are stands in the modules beside this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors. The vector of a text depends on that text alone, never on its neighbours."""

    @property
    def name(self) -> str:
        """The model, as it stands in every record: the same name means comparable vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """How many components a vector has."""
        ...

    def embed(self, texts: Sequence[str]) -> Floats:
        """The vectors of the texts, in their order: float32 of shape (n, dimensions), each of length 1.

        Raises:
            UnavailableError: a remote model cannot be reached or does not answer properly.
            SettingsError: a remote model refuses the requests as they are.
        """
        ...

    def close(self) -> None:
        """Gives connections and memory back; may be called twice."""
        ...


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Rows of about equal length, the shortest first: each batch at most so many tokens with its padding, or one row.

    Args:
        lengths: tokens of each row.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[i] > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def unit(vectors: Floats) -> Floats:
    """Vectors of shape (n, d) scaled to length 1; one without any direction becomes the first axis."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    flat = lengths[:, 0] < 1e-12
    result: Floats = (vectors / np.where(lengths < 1e-12, 1.0, lengths)).astype(np.float32, copy=False)
    if flat.any():
        result[flat] = 0.0
        result[flat, 0] = 1.0
    return result
