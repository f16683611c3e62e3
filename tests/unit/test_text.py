"""Text: titles without decoration, tokens that keep names whole, salient terms, URLs that are equal when pages are."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.languages import language_of, segmented
from models.text import (
    BODY_PIECE_CHARS,
    MAX_TOKENS,
    canonical_url,
    clean_title,
    embedding_text,
    is_front_page,
    salience,
    terms,
    text_hash,
    tokens,
)
from streams.records import Kind, Observation

AT = datetime(2016, 9, 7, tzinfo=UTC)


def observation(title: str, body: str = "", publisher: str | None = None, url: str | None = None) -> Observation:
    return Observation(
        item_id="i", source="test", external_id="1", kind=Kind.POST, title=title, body=body, publisher=publisher,
        url=url, observed_at=AT, published_at=AT, trend_id="t",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Show HN: A tiny compiler", "A tiny compiler"),
        ("Ask HN: Show HN:  Is this fine?", "Is this fine?"),
        ("Show your work", "Show your work"),
        ("Things I Hate About PostgreSQL (2013)", "Things I Hate About PostgreSQL"),
        ("A paper on queues [pdf] (2014)", "A paper on queues"),
        ("A talk (2014) [video]", "A talk"),
        ("Blade Runner 2049", "Blade Runner 2049"),
        ("1984 (1984)", "1984"),
        ("Tom &amp; Jerry &amp;lt;3", "Tom & Jerry <3"),
        ("A <b>bold</b> claim<br/>again", "A bold claim again"),
        ("Why List<String> is not List<Object>", "Why List<String> is not List<Object>"),
        ("zero\u200bwidth and\x07 bell\n\n next", "zerowidth and bell next"),
        ("Show HN:", "Show HN:"),
        ("RT @someone: The bridge is open", "The bridge is open"),
        ("\U0001f525\U0001f525 Rates rise \U0001f4c8\ufe0f", "Rates rise"),
        ("\U0001f600", "\U0001f600"),
        ("I \u2764\ufe0f trains", "I \u2764\ufe0f trains"),
        ("", ""),
    ],
)
def test_decoration_goes_and_the_title_stays(raw: str, clean: str) -> None:
    assert clean_title(raw) == clean


@pytest.mark.parametrize(
    ("title", "publisher", "url", "clean"),
    [
        ("Rates rise - Reuters", "Reuters", None, "Rates rise"),
        ("Rates rise | The Verge", "The Verge", None, "Rates rise"),
        ("Rates rise | The Verge", "theverge.com", None, "Rates rise"),
        ("Rates rise | Ars Technica", None, "https://arstechnica.com/x", "Rates rise"),
        ("Rates rise - what now", "Reuters", "https://reuters.com/x", "Rates rise - what now"),
        ("Rates rise - Reuters", None, None, "Rates rise - Reuters"),
        ("The Verge | Rates rise", "The Verge", None, "Rates rise"),
        ("GitHub - a tiny compiler", None, "https://github.com/x/y", "a tiny compiler"),
        ("Reuters: rates rise", "Reuters", None, "Reuters: rates rise"),
    ],
)
def test_a_site_name_goes_only_where_it_is_the_publishers(
    title: str, publisher: str | None, url: str | None, clean: str
) -> None:
    assert clean_title(title, publisher, url) == clean


@given(st.text(max_size=80))
def test_no_title_makes_cleaning_fail_and_nothing_invisible_is_left(title: str) -> None:
    clean = clean_title(f"{title}\x00\x07\u200b\n{title}", "a publisher", title)
    assert clean == clean.strip()
    assert not any(ch in clean for ch in "\x00\x07\u200b\n")
    assert len(text_hash(clean)) == 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("C++ and C# beat Node.js, says GPT-4", ["c++", "and", "c#", "beat", "node.js", "says", "gpt-4"]),
        ("state-of-the-art", ["state", "of", "the", "art"]),
        ("The Fed's O'Reilly at AT&T", ["the", "fed", "o'reilly", "at", "at&t"]),
        ("700,000 users, v2.0", ["700000", "users", "v2.0"]),
        ("TCP/IP", ["tcp", "ip"]),
        ("Straße ÉCOLE", ["strasse", "école"]),
        ("OMeta# and F#, #energy", ["ometa", "and", "f#", "energy"]),
        ("昨晚上海地铁停运三小时", ["昨晚", "上海", "地铁", "停运", "三", "小时"]),
        ("札幌で大雪、空港が閉鎖", ["札幌", "で", "大雪", "空港", "が", "閉鎖"]),
        ("부산에서 기차가 멈췄다", ["부산", "에서", "기차", "가", "멈췄", "다"]),
        ("МОСКВА: новый мост через реку", ["москва", "новый", "мост", "через", "реку"]),
        ("الطُّلَّابُ في الجـــامعة", ["الطلاب", "في", "الجامعة"]),
        ("दिल्ली में बारिश", ["दिल्ली", "में", "बारिश"]),
        ("רַכֶּבֶת חדשה", ["רכבת", "חדשה"]),
        ("…!?", []),
    ],
)
def test_tokens_keep_names_whole(text: str, words: list[str]) -> None:
    assert tokens(text) == words


def test_tokens_are_bounded() -> None:
    assert len(tokens("word " * 10_000)) == MAX_TOKENS


def test_terms_are_the_salient_words_once_each() -> None:
    assert terms("The new iPhone and the new Samsung: iPhone wins") == ["iphone", "samsung", "wins"]


def test_names_are_more_salient_than_common_words_and_numbers_least() -> None:
    assert salience("kubernetes") > salience("iphone") > salience("company") > salience("the")
    assert salience("2016") <= 2.0 < salience("gpt-4")
    assert salience("hillary of") == salience("hillary")


@pytest.mark.parametrize(
    ("form", "subject"),
    [
        ("который", "бутан"),
        ("через", "самовар"),
        ("هذا", "زنجبار"),
        ("में", "नागालैंड"),
        ("的", "札幌"),
        ("에서", "울릉도"),
    ],
)
def test_words_of_form_tell_little_in_any_script(form: str, subject: str) -> None:
    assert salience(form) < 2.5 < salience(subject)


def test_words_of_another_language_in_latin_letters_are_common_where_it_is_known() -> None:
    assert salience("nicht") == 8.0
    assert salience("nicht", "de") < 2.0
    assert salience("kathmandu", "de") == salience("kathmandu")


def test_the_language_is_told_by_words_of_form_and_only_where_there_are_enough() -> None:
    assert language_of(tokens("Die Brücke ist nicht mehr für den Verkehr offen")) == "de"
    assert language_of(tokens("El puente está cerrado por la noche y nadie sabe cuándo abre")) == "es"
    assert language_of(tokens("The bridge is closed and nobody knows when it opens")) is None
    assert language_of(tokens("Man at war over pot, in a bar")) is None
    assert language_of([]) is None


@settings(deadline=None)  # lists of words are read when their script is first met
@given(st.text(alphabet="東京地震のニュース서울에서가北京发布abc1", max_size=40))
def test_cutting_into_words_loses_no_character(run: str) -> None:
    assert "".join(segmented(run)) == run


def test_a_body_is_embedded_only_where_the_title_is_short() -> None:
    body = "words " * 500
    assert embedding_text(observation("Four words are enough", body)) == "Four words are enough"
    short = embedding_text(observation("Help", "<p>My build fails</p>"))
    assert short == "Help. My build fails"
    assert len(embedding_text(observation("Help", body))) <= BODY_PIECE_CHARS + len("Help. ")
    assert embedding_text(observation("", "only a body")) == "only a body"
    assert embedding_text(observation("")) == ""


PAGE = "nytimes.com/2016/09/07/story"


@pytest.mark.parametrize(
    "url",
    [
        "https://www.nytimes.com/2016/09/07/story",
        "http://nytimes.com:80/2016/09/07/story/",
        "HTTPS://User:pw@M.NYTimes.com/2016/09/07/story#comments",
        "https://www.nytimes.com/2016/09/07/story?utm_source=x&fbclid=1&ref=2&smid=3",
        "https://mobile.nytimes.com/2016/09/07/story?amp=1",
        "https://amp.nytimes.com/2016/09/07/story.amp",
        "https://nytimes.com/2016/09/07/story/amp/",
        "https://nytimes.com/amp/2016/09/07/story",
        "https://nytimes.com/2016/09/07/story/index.html",
        "https://www.google.com/amp/s/www.nytimes.com/2016/09/07/story",
        "https://www-nytimes-com.cdn.ampproject.org/c/s/www.nytimes.com/2016/09/07/story",
        "//nytimes.com/2016/09/07/story",
        "nytimes.com/2016/09/07/story",
        "  https://nytimes.com/2016/09/07/story  ",
    ],
)
def test_links_to_one_page_are_equal(url: str) -> None:
    assert canonical_url(url) == PAGE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.com/x?id=1", "https://a.com/x?id=2"),
        ("https://a.com/x", "https://b.com/x"),
        ("https://a.com/forum/#!topic/1", "https://a.com/forum/#!topic/2"),
        ("https://a.com:8080/x", "https://a.com/x"),
    ],
)
def test_links_to_different_pages_differ(one: str, other: str) -> None:
    assert canonical_url(one) != canonical_url(other)


def test_the_order_of_a_query_does_not_matter() -> None:
    assert canonical_url("https://a.com/x?b=2&a=1") == canonical_url("https://a.com/x?a=1&b=2") == "a.com/x?a=1&b=2"


def test_aliases_of_one_site_are_equal() -> None:
    assert canonical_url("https://youtu.be/abc?t=4") == "youtube.com/watch?v=abc"
    assert canonical_url("https://twitter.com/a/status/1") == canonical_url("https://x.com/a/status/1")


@pytest.mark.parametrize(
    "url", [None, "", "   ", "http://", "http://[::1", "https://a.com:99999999/x", "ftp://a.com/x", "not a url",
            "javascript:alert(1)", "https://localhost/x", "https://a.com/" + "x" * 3_000]
)  # fmt: skip
def test_rubbish_has_no_canonical_url(url: str | None) -> None:
    assert canonical_url(url) is None


@given(st.text(max_size=60))
@example(".%A")
def test_no_rubbish_makes_it_fail(rubbish: str) -> None:
    for url in (rubbish, f"https://{rubbish}", f"https://a.com/{rubbish}"):
        key = canonical_url(url)
        host = re.split(r"[/?#]", key)[0] if key else "a.com"
        assert host == host.lower()
        assert "." in host


def test_a_front_page_is_told_from_a_story() -> None:
    assert is_front_page("nytimes.com")
    assert not is_front_page(PAGE)
