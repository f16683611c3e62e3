"""How well a clustering agrees with a known one: BCubed precision, recall, F1; NMI, adjusted Rand index, completeness.

All from the contingency table of two labellings of the same items; numpy only. Which clustering is measured is the
caller's affair.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The measures, each 1.0 where the two labellings are the same up to names."""

    items: int
    clusters: int
    classes: int
    precision: float
    """BCubed: of an item's cluster, the share that is of its class; mean over items."""
    recall: float
    """BCubed: of an item's class, the share that is in its cluster; mean over items."""
    f1: float
    """Harmonic mean of the two (Bagga and Baldwin 1998; Amigó et al. 2009)."""
    nmi: float
    """Mutual information over the arithmetic mean of the entropies (Strehl and Ghosh 2002)."""
    ari: float
    """Rand index adjusted for chance (Hubert and Arabie 1985)."""
    completeness: float
    """How far a class is together: 1 - H(cluster | class) / H(cluster) (Rosenberg and Hirschberg 2007)."""


def agreement(found: Sequence[Hashable], truth: Sequence[Hashable]) -> Agreement:
    """Compares the clusters that were found with the true classes: one label per item in each.

    Raises:
        ValueError: the labellings are of different length, or empty.
    """
    if len(found) != len(truth) or not found:
        raise ValueError(f"{len(found)} found and {len(truth)} true labels: need one of each per item, and an item")
    cluster, classes = _codes(found), _codes(truth)
    cells, counts = np.unique(np.stack([cluster, classes]), axis=1, return_counts=True)
    n = np.asarray(counts, dtype=np.float64)
    of_cluster = np.bincount(cluster).astype(np.float64)
    of_class = np.bincount(classes).astype(np.float64)
    total = float(len(found))
    precision = float((n * n / of_cluster[cells[0]]).sum() / total)
    recall = float((n * n / of_class[cells[1]]).sum() / total)
    return Agreement(
        items=len(found),
        clusters=len(of_cluster),
        classes=len(of_class),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall),
        nmi=_nmi(n, of_cluster[cells[0]], of_class[cells[1]], of_cluster, of_class, total),
        ari=_ari(n, of_cluster, of_class, total),
        completeness=_completeness(n, of_class[cells[1]], of_cluster, total),
    )


def _codes(labels: Sequence[Hashable]) -> Ints:
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(label, len(numbers)) for label in labels), np.int64, len(labels))


def _entropy(counts: Floats, total: float) -> float:
    share = counts / total
    return float(-(share * np.log(share)).sum())


def _nmi(n: Floats, rows: Floats, columns: Floats, clusters: Floats, classes: Floats, total: float) -> float:
    mean = (_entropy(clusters, total) + _entropy(classes, total)) / 2
    if mean <= 0.0:
        return 1.0  # one cluster, one class
    mutual = float((n / total * np.log(n * total / (rows * columns))).sum())
    return min(1.0, max(0.0, mutual / mean))


def _completeness(n: Floats, columns: Floats, clusters: Floats, total: float) -> float:
    entropy = _entropy(clusters, total)
    if entropy <= 0.0:
        return 1.0  # one cluster
    return min(1.0, max(0.0, 1.0 + float((n / total * np.log(n / columns)).sum()) / entropy))


def _pairs(counts: Floats) -> float:
    return float((counts * (counts - 1) / 2).sum())


def _ari(n: Floats, clusters: Floats, classes: Floats, total: float) -> float:
    together, in_clusters, in_classes = _pairs(n), _pairs(clusters), _pairs(classes)
    expected = in_clusters * in_classes / max(1.0, total * (total - 1) / 2)
    best = (in_clusters + in_classes) / 2
    return 1.0 if best == expected else (together - expected) / (best - expected)
