"""Measures of agreement between clusterings, against values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.quality import agreement

labels = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


def test_bcubed_by_hand() -> None:
    # clusters {a a b} {b}: items' precision 2/3 2/3 1/3 1, recall 1 1 1/2 1/2
    measured = agreement([1, 1, 1, 2], ["a", "a", "b", "b"])
    assert measured.precision == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)
    assert measured.recall == pytest.approx(3 / 4)
    assert measured.f1 == pytest.approx(2 * measured.precision * 0.75 / (measured.precision + 0.75))
    assert (measured.items, measured.clusters, measured.classes) == (4, 2, 2)


def test_nmi_and_ari_by_hand() -> None:
    measured = agreement([1, 1, 1, 2], ["a", "a", "b", "b"])
    found = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    mutual = 0.5 * math.log(0.5 / (0.75 * 0.5)) + 0.25 * math.log(0.25 / (0.75 * 0.5)) + 0.25 * math.log(0.25 / 0.125)
    assert measured.nmi == pytest.approx(mutual / ((found + math.log(2)) / 2))
    # one pair together in both, three in clusters, two in classes, six in all
    assert measured.ari == pytest.approx((1 - 3 * 2 / 6) / ((3 + 2) / 2 - 3 * 2 / 6))
    # of class a all are in one cluster; of class b half each way
    assert measured.completeness == pytest.approx(1 - 0.5 * math.log(2) / found)


@given(labels)
def test_only_the_grouping_counts_not_the_names(pairs: list[tuple[int, int]]) -> None:
    found, truth = [a for a, _ in pairs], [b for _, b in pairs]
    one, other = agreement(found, truth), agreement([f"c{9 - a}" for a in found], truth)
    assert one == other


@given(labels)
def test_all_measures_are_one_for_the_same_clustering_and_within_bounds_otherwise(pairs: list[tuple[int, int]]) -> None:
    found, truth = [a for a, _ in pairs], [b for _, b in pairs]
    same = agreement(truth, [f"x{b}" for b in truth])
    assert (same.precision, same.recall, same.f1, same.ari) == (1.0, 1.0, 1.0, 1.0)
    assert same.nmi == pytest.approx(1.0)
    other = agreement(found, truth)
    assert 0.0 < other.f1 <= 1.0
    assert 0.0 <= other.nmi <= 1.0
    assert -1.0 <= other.ari <= 1.0


@given(labels)
def test_precision_one_way_is_recall_the_other(pairs: list[tuple[int, int]]) -> None:
    found, truth = [a for a, _ in pairs], [b for _, b in pairs]
    assert agreement(found, truth).precision == pytest.approx(agreement(truth, found).recall)


@pytest.mark.parametrize(("found", "truth"), [([], []), ([1], [1, 2])])
def test_labellings_that_do_not_match_are_refused(found: list[int], truth: list[int]) -> None:
    with pytest.raises(ValueError, match="one of each per item"):
        agreement(found, truth)
