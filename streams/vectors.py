"""Vectors on the wire: base64 of little-endian float16 (768 bytes for 384 dimensions, 1,024 characters)."""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def encode_vector(vector: Floats) -> str:
    """Base64 text of a vector of shape (d,), rounded to float16."""
    return base64.b64encode(np.asarray(vector, dtype="<f2").tobytes()).decode("ascii")


def decode_vector(text: str, dimensions: int) -> Floats:
    """The float32 vector of shape (dimensions,) behind some base64 text.

    Raises:
        ValueError: not base64, another number of dimensions, or a component that is not finite.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"vector is not base64: {error}") from None
    if len(raw) != 2 * dimensions:
        raise ValueError(f"vector has {len(raw)} bytes, {dimensions} dimensions of float16 need {2 * dimensions}")
    vector = np.frombuffer(raw, dtype="<f2").astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("vector has a component that is not a finite number")
    return vector
