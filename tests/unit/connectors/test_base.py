"""What every sighting promises, and how times, counts, HTML and names of sources are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import KINDS, connector_of, pairs
from connectors.base import Clockwork, Limits, Sighting, bounded_id, count_of, host_of, printable
from connectors.html import plain_text
from connectors.times import parse_time
from streams.codec import decode, encode
from streams.errors import SettingsError
from streams.ids import item_id_of
from streams.records import Kind, Observation
from tests.unit.connectors.helpers import NOW, Home, sighting

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=200)
WHEN = st.integers(126_230_400 * 10**6, 7_258_000_000 * 10**6).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
"""1974 … 2199."""


@given(st.text(min_size=1, max_size=700), ANY_TEXT, ANY_TEXT, ANY_TEXT, st.lists(ANY_TEXT, max_size=4))
def test_every_sighting_becomes_a_record_that_its_reader_accepts(
    external_id: str, title: str, body: str, name: str, tags: list[str]
) -> None:
    seen = Sighting(
        source="rss", external_id=external_id, kind=Kind.ARTICLE, title=title, body=body, author=name, publisher=name,
        category=name, lang=name, url=name, tags=tuple(tags), observed_at=NOW, published_at=NOW,
    )  # fmt: skip
    record = seen.routed(Home("t", ("m",)))
    assert decode(Observation, encode(record)) == record
    assert record.item_id == item_id_of("rss", seen.external_id)
    assert "\n" not in record.title
    assert (record.trend_id, record.mentions) == ("t", ("m",))


def test_sighting_without_id_or_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="external id"):
        sighting(title="x").__class__(
            source="rss", external_id="", kind=Kind.POST, title="x", observed_at=NOW, published_at=NOW
        )
    with pytest.raises(ValueError, match="zone"):
        Sighting(
            source="rss", external_id="1", kind=Kind.POST, title="x", observed_at=NOW,
            published_at=datetime(2026, 1, 1),  # noqa: DTZ001
        )  # fmt: skip


@given(ANY_TEXT)
def test_printable_text_can_be_encoded_and_stays_when_it_is_clean(text: str) -> None:
    assert "\x00" not in printable(text)
    printable(text).encode()
    assert printable(printable(text)) == printable(text)


@given(st.text(min_size=1, max_size=2_000))
def test_bounded_ids_are_short_and_stable(text: str) -> None:
    assert 0 < len(bounded_id(text)) <= 512
    assert bounded_id(text) == bounded_id(text)


def test_long_ids_stay_different() -> None:
    assert bounded_id("x" * 600) != bounded_id("x" * 601)


# -- times -------------------------------------------------------------------------------------------------------------


@given(WHEN, st.integers(-14 * 60, 14 * 60))
def test_a_time_is_the_same_instant_in_every_notation(when: datetime, offset_min: int) -> None:
    second = when.replace(microsecond=0)
    epoch = int((second - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    elsewhere = second.astimezone(timezone(timedelta(minutes=offset_min)))
    for text in (
        second.isoformat(), second.isoformat().replace("+00:00", "Z"), f"{second:%Y-%m-%d %H:%M:%S}",
        f"{second:%Y-%m-%d %H:%M:%S} UTC", elsewhere.isoformat(), format_datetime(elsewhere),
        str(epoch), str(epoch * 1000), epoch, epoch * 1000, epoch * 1_000_000, float(epoch), f" {epoch} ",
    ):  # fmt: skip
        assert parse_time(text) == second, text


@given(WHEN)
def test_milliseconds_are_kept(when: datetime) -> None:
    exact = when.replace(microsecond=when.microsecond // 1000 * 1000)
    milliseconds = (exact - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert abs(parse_time(milliseconds) - exact) < timedelta(microseconds=500)


@given(ANY_TEXT | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers()))
def test_whatever_is_no_time_is_a_value_error(value: object) -> None:
    try:
        when = parse_time(value)
    except ValueError:
        return
    assert when.tzinfo is UTC
    assert 1970 <= when.year < 2200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20140310", datetime(2014, 3, 10, tzinfo=UTC)),
        ("2014-03-10", datetime(2014, 3, 10, tzinfo=UTC)),
        ("2014-03-10T12:00:00+02", datetime(2014, 3, 10, 10, tzinfo=UTC)),
        ("2014-03-10T12:00:00.123456789Z", datetime(2014, 3, 10, 12, 0, 0, 123456, tzinfo=UTC)),
        ("Mon, 10 Mar 2014 12:00 EST", datetime(2014, 3, 10, 17, tzinfo=UTC)),
        (1394470370698, datetime(2014, 3, 10, 16, 52, 50, 698000, tzinfo=UTC)),
    ],
)
def test_odd_notations_of_times(text: object, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["", "  ", "soon", "2014", "12345", "2014-13-01", "0001-01-01", "9999-12-31", "1e400", True, None])  # fmt: skip  # noqa: E501
def test_no_times(text: object) -> None:
    with pytest.raises(ValueError):
        parse_time(text)


# -- small readers -----------------------------------------------------------------------------------------------------


@given(ANY_TEXT | st.integers() | st.floats() | st.none() | st.lists(st.integers()))
def test_a_count_is_always_a_number_that_json_holds(value: object) -> None:
    assert -(2**53) <= count_of(value) <= 2**53


def test_counts_in_the_notations_of_sources() -> None:
    assert [count_of(v) for v in (3, 3.7, "1,234", "12.0", "many", None, -2)] == [3, 3, 1234, 12, 0, 0, -2]


def test_host_is_lower_case_and_without_www() -> None:
    assert host_of("https://WWW.Example.org:8443/a?b") == "example.org"
    assert host_of("http://[broken") is None
    assert host_of("no url") is None
    assert host_of(None) is None


def test_html_becomes_text() -> None:
    html = "<p>One &amp; <b>two</b></p><script>x()</script><ul><li>three</li><li>fo&#117;r</li></ul><br/>end<"
    assert plain_text(html) == "One & two\nthree\nfour\nend<"
    assert plain_text("a < b and c > d") == "a < b and c > d"


@given(ANY_TEXT)
def test_html_is_never_fatal(text: str) -> None:
    assert isinstance(plain_text("<p>" + text + "<![if"), str)


def test_backoff_grows_has_jitter_and_ends() -> None:
    limits = Limits(backoff_s=1.0, backoff_max_s=10.0)
    high, low = Clockwork(random=lambda: 0.999), Clockwork(random=lambda: 0.0)
    waits = [high.backoff_s(n, limits) for n in range(1, 9)]
    assert waits == sorted(waits)
    assert waits[-1] < 10.0
    assert waits[0] < 1.0
    assert 0 < low.backoff_s(3, limits) < high.backoff_s(3, limits)
    assert high.backoff_s(10_000, limits) < 10.0


# -- the registry ------------------------------------------------------------------------------------------------------


def test_every_connector_explains_itself_and_its_options() -> None:
    for kind in KINDS.values():
        assert kind.help.endswith(".")
        assert kind.options
        assert all(option.help.endswith(".") for option in kind.options), kind.name


def test_options_come_as_text() -> None:
    connector = connector_of("synthetic", {"items": "12", "noise": "0.5", "start": "2020-01-01T00:00:00Z"})
    assert connector.source == "synthetic"
    assert connector_of("synthetic", {"items": "12"}).name == connector_of("synthetic").name


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("nowhere", {}, "no source 'nowhere'; there are: file"),
        ("file", {}, "needs a target"),
        ("file:/no/such/file.csv", {}, "no file"),
        ("synthetic:x", {}, "takes no target"),
        ("synthetic", {"size": "1"}, "no option 'size'"),
        ("synthetic", {"items": "many"}, "items"),
        ("synthetic", {"items": "0"}, "items"),
        ("file:-", {"source": "myspace"}, "no source 'myspace'"),
        ("file:-", {"map.header": "x"}, "no field 'header'"),
        ("file:-", {"encoding": "klingon"}, "no encoding"),
    ],
)
def test_wrong_names_and_options_say_what_there_is(name: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        connector_of(name, options)


def test_pairs() -> None:
    assert pairs(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(SettingsError, match="key=value"):
        pairs(["a"])
