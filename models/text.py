"""What an item says, as text: titles cleaned, tokens and salient terms, the text to embed, canonical URLs.

Pure functions. Which terms matter over time is counted in ``models.clustering``; vectors are ``models.embedding``'s.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, urlsplit

from models.languages import CJK, MARKS, UNSPACED, segmented, zipf
from streams.records import Observation

MAX_TITLE_CHARS: Final = 1_000
"""A longer title is cut: what stands after a thousand characters is no title any more."""
TITLES_CACHED: Final = 4_096
"""An item's title is cleaned by several steps soon after one another."""
SHORT_TITLE_TOKENS: Final = 4
"""A title with fewer tokens says too little alone: a piece of the body is embedded with it."""
BODY_PIECE_CHARS: Final = 300
"""At most so much of a body is embedded: embedding time grows with length, and titles say nearly all."""
MAX_TOKENS: Final = 256
"""At most so many tokens of a text are looked at."""
UNKNOWN_SALIENCE: Final = 8.0
"""Salience of a word that the frequency list does not have: names, mostly."""
NUMBER_SALIENCE: Final = 2.0
"""Salience of a token without any letter."""
MIN_TERM_SALIENCE: Final = 2.0
"""Words more common than this (zipf frequency above 6: the, and, new) are no terms."""
SALIENCE_CACHE_WORDS: Final = 65_536
"""Bound of the look-up cache."""
URLS_CACHED: Final = 8_192
MAX_URL_CHARS: Final = 2_048
"""A longer URL is not compared."""

# ---------------------------------------------------------------------------------------------------------- titles

_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ud800-\udfff]")
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|center|cite|code|del|div|em|font|h[1-6]|hr|i|img|ins|li|mark|ol|p|pre|q|s|small"
    r"|span|strike|strong|sub|sup|table|tbody|td|th|tr|tt|u|ul|wbr)(?:\s[^<>]{0,500})?/?>|<!--.{0,500}?-->",
    re.IGNORECASE | re.DOTALL,
)
_PREFIX = re.compile(
    r"^(?:(?:show|ask|tell|launch|offer)\s+hn\b\s*[:\-–—|,.]*|\[(?:d|r|p|n|oc|video|pdf|audio)\]|til:|eli5:|psa:"
    r"|rt\s+@\w{1,40}:?)\s*",
    re.IGNORECASE,
)
_PREFIX_BEGINS: Final = frozenset("satloeprSATLOEPR[")
_SUFFIX_ENDS: Final = frozenset(")] ")
_SUFFIX = re.compile(
    r"\s*(?:[\[(](?:pdf|video|audio|slides|ppt|txt|epub|gif|image|images|pics|oc|d|r|p|n|x-post[^\])]{0,40})[\])]"
    r"|[\[(](?:19|20)\d\d[\])])\s*$",
    re.IGNORECASE,
)
_SEPARATED = re.compile(r"\s[-–—|·•:»]+\s")
_SITE_PREFIX = re.compile(r"^(?P<site>[^|–—·•»]{2,60}?)\s+[-–—|·•»]+\s+(?P<title>\S.*)$", re.DOTALL)
_SITE_SUFFIX = re.compile(r"^(?P<title>.*\S)\s+[-–—|·•:»]+\s+(?P<site>[^|–—·•»]{2,60})$", re.DOTALL)
_NOT_WORD = re.compile(r"[\W_]+")
_EMOJI: Final = (
    "\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\u3030\u303d\ufe0e\ufe0f\u20e3\U0001f000-\U0001faff\U000e0020-\U000e007f"
)
_EMOJI_AROUND = re.compile(rf"^[\s{_EMOJI}]+|[\s{_EMOJI}]+$")


@lru_cache(maxsize=TITLES_CACHED)
def clean_title(title: str, publisher: str | None = None, url: str | None = None) -> str:
    """A title without markup, control characters, "Show HN:" and the like, "RT @name:", "[pdf]", "(2014)", emoji around
    it, and the site's own name.

    The part after a last " - " or " | ", or before a first one, goes only where it names the publisher, or the host of
    ``url``. A title that is nothing but decoration is returned with its spaces collapsed.
    """
    plain = strip_markup(title[:MAX_TITLE_CHARS])
    text = plain if plain.isascii() else _EMOJI_AROUND.sub("", plain)
    for _ in range(8):  # decorations stand beside each other: "Show HN: … (2014) [pdf]"
        before = text
        if text[:1] in _PREFIX_BEGINS:
            text = _PREFIX.sub("", text)
        if text[-1:] in _SUFFIX_ENDS:
            text = _SUFFIX.sub("", text)
        if text == before:
            break
    if (publisher or url) and _SEPARATED.search(text):
        for pattern in (_SITE_SUFFIX, _SITE_PREFIX):
            if (match := pattern.match(text)) and _is_site(match["site"], publisher, url):
                text = _SUFFIX.sub("", match["title"])
    return text.strip() or plain


def strip_markup(text: str) -> str:
    """Text without HTML entities and tags, without control and invisible characters, its spaces collapsed."""
    if "&" in text:
        text = html.unescape(html.unescape(text))  # feeds escape twice often enough
    if "<" in text:
        text = _TAG.sub(" ", text)
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(text.split())


def _is_site(name: str, publisher: str | None, url: str | None) -> bool:
    key = _NOT_WORD.sub("", name.casefold())
    if not key:
        return False
    known: set[str] = set()
    for site in (publisher, _host_of(url) if url else None):
        if site:
            labels = site.casefold().split(".")
            known.update((_NOT_WORD.sub("", site.casefold()), *(labels[:-1] if " " not in site else ())))
    return key in known or key.removeprefix("the") in known


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def embedding_text(item: Observation) -> str:
    """The text that stands for an item: its cleaned title, with a bounded piece of the body where it is short.

    Empty for an item without any text.
    """
    title = clean_title(item.title, item.publisher, item.url)
    if not item.body or len(tokens(title)) >= SHORT_TITLE_TOKENS:
        return title
    body = strip_markup(item.body[: 4 * BODY_PIECE_CHARS])
    if len(body) > BODY_PIECE_CHARS:
        body = body[:BODY_PIECE_CHARS].rsplit(" ", 1)[0]
    return f"{title}. {body}" if title and body else title or body


def text_hash(text: str) -> str:
    """sha256 (hex, 64 characters) of a text, in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


# ------------------------------------------------------------------------------------------------- tokens and terms

_TOKEN = re.compile(
    r"\d{1,3}(?:,\d{3})+(?![\d,])"  # 700,000
    r"|[a-z0-9]+(?:[.'&\-_/][a-z0-9]+)*(?:\+\+|(?<=\b[a-z])\#)?"  # u.s, node.js, o'reilly, at&t, gpt-4, tcp/ip, c++, c#
)
"""Of a lower-case ASCII text; the other one takes three times as long."""
_LETTERS = rf"(?:(?![{UNSPACED}])[^\W_][{MARKS}]*)+"
_ANY_TOKEN = re.compile(
    rf"[{UNSPACED}]+|\d{{1,3}}(?:,\d{{3}})+(?![\d,])"
    rf"|{_LETTERS}(?:[.'’&\-_/]{_LETTERS})*(?:\+\+|(?<=\b[a-z])\#)?"
)
_CJK = re.compile(f"[{CJK}]")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_POINTS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]")
"""Vowel points of Hebrew and Arabic, and the stroke that stretches Arabic words: most people leave them out."""
_PARTS = re.compile(r"[\-_/]")
_POSSESSIVE = re.compile(r"['’]s$")
_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[^\W\d_]")


def tokens(text: str) -> list[str]:
    """The words of a text, in order, case-folded: at most 256.

    Names with inner marks stay whole (``node.js``, ``c++``, ``at&t``, and with a digit ``gpt-4``); other compounds are
    taken apart (``state-of-the-art``); a possessive ``'s`` goes. Chinese, Japanese and Korean are cut into words, other
    scripts without spaces into pairs of characters; vowel points of Arabic and Hebrew go.
    """
    if text.isascii():
        whole = _TOKEN.findall(text.lower())
        if all(map(str.isalnum, whole)):
            return whole[:MAX_TOKENS]
    else:
        whole = _ANY_TOKEN.findall(folded(text))
    found: list[str] = []
    for word in whole[:MAX_TOKENS]:
        if not word.isascii() and _UNSPACED.match(word):
            found += segmented(word) if _CJK.match(word) else [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        elif word.isalnum():
            found.append(word)
        elif "," in word:
            found.append(word.replace(",", ""))
        else:
            found += _split(word)
    return found[:MAX_TOKENS]


def folded(text: str) -> str:
    """A text as it is compared: NFKC, case-folded, without the vowel points that most writers leave out."""
    return text.lower() if text.isascii() else _POINTS.sub("", unicodedata.normalize("NFKC", text).casefold())


def _split(word: str) -> Iterator[str]:
    """A word with inner marks as one token or several."""
    word = _POSSESSIVE.sub("", word).replace("’", "'")
    if "/" not in word and ("." in word or _DIGIT.search(word)) and len(word) <= 24:
        yield word
    else:
        yield from (part for part in _PARTS.split(word) if part)


def terms(text: str) -> list[str]:
    """The distinct salient terms of a text, in order of appearance: what tells it from other texts."""
    return salient(tokens(text))


def salient(words: Iterable[str]) -> list[str]:
    """The distinct salient ones among the tokens of a text, in order of appearance."""
    return [word for word in dict.fromkeys(words) if len(word) > 1 and salience(word) >= MIN_TERM_SALIENCE]


@lru_cache(maxsize=SALIENCE_CACHE_WORDS)
def salience(term: str, lang: str | None = None) -> float:
    """How much a term tells, 0 … 8: 8 − its zipf frequency (log10 of occurrences in 10^9 words) in the languages of
    its script; of Latin ones in English, and in ``lang`` too where it is given.

    Words that no list has are names, mostly: 8. A token without letters: 2. Terms of several words are as salient as
    their rarest word. Source of the measure: Speer, wordfreq (2022).
    """
    if " " in term:
        return max(salience(word, lang) for word in term.split(" ") if word)
    if not _LETTER.search(term):
        return NUMBER_SALIENCE
    frequency = zipf(term, lang)
    return UNKNOWN_SALIENCE if frequency is None else min(UNKNOWN_SALIENCE, max(0.0, UNKNOWN_SALIENCE - frequency))


# ------------------------------------------------------------------------------------------------------------- URLs

_TRACKING = re.compile(
    r"^(?:utm_.*|ga_.*|mc_(?:cid|eid)|pk_.*|mtm_.*|hsa_.*|_hs.*|at_.*|fb_.*|fbclid|gclid|gclsrc|dclid|gbraid|wbraid|msclkid"
    r"|yclid|twclid|igshid|igsh|mkt_tok|mkwid|oly_.*|vero_.*|wt_mc|wt\.mc_id|ncid|ocid|cmpid|cmp|campaign|s_cid|_ga|_gl"
    r"|spm|si|feature|ref|refsrc|ref_src|ref_url|referrer|referer|source|src|via|share|shared|smid|smtyp|partner|rss"
    r"|feedtype|feedname|xtor|trk|trackingid|cid|ito|ftag|soc_src|soc_trk|__twitter_impression|guccounter|amp|outputtype)$",
    re.IGNORECASE,
)
_DROPPED_LABELS = frozenset({"www", "m", "mobile", "amp", "old", "np", "www2", "touch", "wap"})
_HOST = re.compile(r"^[^\s/?#@\\<>\"]+$")
_PLAIN_URL = re.compile(
    r"https?://((?![a-z0-9.-]*(?:google\.|ampproject|youtu\.be))[a-z0-9-]+(?:\.[a-z0-9-]+)+)((?:/[A-Za-z0-9_.,~+-]*)*)"
)
"""Without query, fragment, port, user and escapes, and of no host that is treated in its own way."""
_AMP_PREFIX = re.compile(r"^/amp/(?=.)")
_AMP_SUFFIX = re.compile(r"(?:/amp(?:\.html?)?|\.amp(?P<html>\.html?)?)$", re.IGNORECASE)
_ROUTE_FRAGMENT = re.compile(r"^(?:!|/).")
"""A fragment that says which page is shown, in applications of one page."""
_INDEX_SUFFIX = re.compile(r"/index\.(?:html?|php)$", re.IGNORECASE)
_AMP_CACHE = re.compile(r"^/(?:amp/|[cvi]/)(?:s/)?(?P<rest>[^/]+\..*)$")
_HOST_ALIASES = {"twitter.com": "x.com", "youtube-nocookie.com": "youtube.com"}


@lru_cache(maxsize=URLS_CACHED)
def canonical_url(url: str | None) -> str | None:
    """A URL by which two links to the same page are equal; None where there is nothing to compare.

    Scheme, user, ``www.``/``m.``/``amp.``, default ports, AMP paths and caches, tracking parameters, fragments (unless
    they route: ``#!…``, ``#/…``) and the trailing slash go; the host is lower-case, the query sorted. A key to compare
    by, not for clicking on. Never raises.
    """
    if not url or len(url) > MAX_URL_CHARS:
        return None
    try:
        return _canonical(url.strip())
    except ValueError:
        return None


def is_front_page(canonical: str) -> bool:
    """Whether a canonical URL is that of a whole site, which tells nothing about which story it was."""
    return not any(mark in canonical for mark in "/?#")


def _canonical(url: str) -> str | None:
    if plain := _PLAIN_URL.fullmatch(url):  # most are, and splitting any URL takes five times as long
        return _canonical_host(plain[1]) + _canonical_path(plain[2])
    if "://" not in url[:16]:
        url = f"https:{url}" if url.startswith("//") else f"https://{url}"
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")  # what follows a % in a host keeps its capitals
    if parts.scheme not in ("http", "https") or "." not in host or not _HOST.match(host):
        return None
    cached = _AMP_CACHE.match(parts.path) if host.endswith("cdn.ampproject.org") or "google." in host else None
    if cached:
        return _canonical(f"https://{cached['rest']}" + (f"?{parts.query}" if parts.query else ""))
    port = parts.port
    host = _canonical_host(host)
    pairs = sorted({pair for pair in parts.query.split("&") if pair and not _TRACKING.match(pair.split("=", 1)[0])})
    path = _canonical_path(parts.path)
    if host == "youtu.be" and path.count("/") == 1:
        host, path, pairs = "youtube.com", "/watch", [f"v={path[1:]}"]
    netloc = host if port in (None, 80, 443) else f"{host}:{port}"
    fragment = f"#{parts.fragment}" if _ROUTE_FRAGMENT.match(parts.fragment) else ""
    return netloc + path + ("?" + "&".join(pairs) if pairs else "") + fragment


def _canonical_host(host: str) -> str:
    labels = host.split(".")
    kept = [label for label in labels[:-2] if label not in _DROPPED_LABELS] + labels[-2:]
    name = ".".join(kept)
    return _HOST_ALIASES.get(name, name)


def _canonical_path(path: str) -> str:
    if "%" in path:
        path = unquote(path, errors="replace")
    path = path.rstrip("/")
    if "amp" in path[:5] or "amp" in path[-9:].lower():
        path = _AMP_SUFFIX.sub(lambda m: m["html"] or "", _AMP_PREFIX.sub("/", path))
    if "/index." in path[-11:].lower():
        path = _INDEX_SUFFIX.sub("", path)
    return path.rstrip("/")
