"""What is known of the words of many languages: how common each is, and where words end in scripts without spaces.

From the frequency lists of wordfreq (Speer 2022), read when their script is first met. No titles and no trends here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Final

from wordfreq import DATA_PATH, read_cBpack

FORM_ZIPF: Final = 5.5
"""From here on a word is one by which its language is told: some two hundred each, of form mostly."""
USUAL_ZIPF: Final = 4.5
"""A word that is so common in English tells no other language: man, war, pot."""
LISTED_ZIPF: Final = 4.0
"""Of languages in Latin script other than English, the words from here on are known: some 7,000 each."""
FORM_WORDS: Final = 2
"""So many of them tell a language, where English has fewer in the same text."""
MAX_WORD_CHARS: Final = 12
"""Longest word that is looked for in a run of a script without spaces."""
MAX_RUN_CHARS: Final = 256
"""A longer run is cut in pieces of so many characters."""
MAX_NAME_CHARS: Final = 4
"""So many neighbouring characters that are no known word together are taken for one name."""
PLAIN_CHAR_ZIPF: Final = 5.5
"""A character that is so common by itself belongs to no name."""
RUNS_CACHED: Final = 4_096

KANA: Final = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
HAN: Final = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
HANGUL: Final = "\uac00-\ud7af"
CJK: Final = KANA + HAN + HANGUL
UNSPACED: Final = CJK + "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Scripts that write words without spaces (Thai, Lao, Burmese and Khmer beside CJK), and Hangul, whose particles cling
to words. A character class, as all of these."""
MARKS: Final = "\u0300-\u036f\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc-\u09d7\u0a01-\u0dff"
"""Signs that stand within words and are no letters to `re`: combining accents, the vowels of Indian scripts."""

LATIN: Final = ("de", "es", "fr", "it", "nl", "pt", "pl", "sv", "nb", "da", "fi", "cs", "hu", "ro", "tr", "id", "vi")
_SCRIPTS: Final = (
    (0x0370, 0x03FF, ("el",)), (0x0400, 0x052F, ("ru", "uk", "bg")), (0x0590, 0x05FF, ("he",)),
    (0x0600, 0x077F, ("ar", "fa", "ur")), (0x0900, 0x097F, ("hi",)), (0x0980, 0x09FF, ("bn",)),
    (0x0B80, 0x0BFF, ("ta",)), (0x3040, 0x30FF, ("ja",)), (0x3400, 0x9FFF, ("zh", "ja")), (0xAC00, 0xD7AF, ("ko",)),
)  # fmt: skip
_KANA_RUN = re.compile(f"[{KANA}]")
_HANGUL_RUN = re.compile(f"[{HANGUL}]")
_HAN_CHAR = re.compile(f"[{HAN}]")
_HIRAGANA = re.compile("[\u3040-\u309f]+$")
_PIECES = re.compile("[\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f]+|[a-z0-9]+|.", re.DOTALL)


def zipf(word: str, lang: str | None = None) -> float | None:
    """log10 of a word's occurrences in 10^9 words; None where no list has it.

    Latin letters are looked for in English and in ``lang``, others in all languages of their script.
    """
    known = listed("en").get(word)
    if lang in LATIN:
        elsewhere = _common(lang).get(word)
        return max(known, elsewhere) if known is not None and elsewhere is not None else known or elsewhere
    if known is None and not word.isascii():
        code = max(map(ord, word))
        for first, last, langs in _SCRIPTS:
            if first <= code <= last:
                return max((f for each in langs if (f := listed(each).get(word)) is not None), default=None)
    return known


def language_of(words: Sequence[str]) -> str | None:
    """The language in Latin script, other than English, that case-folded words are in, by words of form that English
    does not have; None where there are too few of them to tell."""
    forms = _forms()
    met = [langs for word in words if (langs := forms.get(word)) is not None]
    if len(met) < FORM_WORDS:
        return None
    counts = Counter(lang for langs in met for lang in langs)
    english = listed("en")
    usual = sum(1 for word in words if english.get(word, 0.0) >= FORM_ZIPF)
    lang, count = max(counts.items(), key=lambda entry: (entry[1], entry[0]))
    return lang if count >= FORM_WORDS and count > usual else None


@cache
def _forms() -> dict[str, tuple[str, ...]]:
    """Words that tell a language, with those that they tell; none is English, so that English texts pay little."""
    english = listed("en")
    found: dict[str, tuple[str, ...]] = {}
    for lang in LATIN:
        for word in _read(lang, FORM_ZIPF):
            if english.get(word, 0.0) < USUAL_ZIPF:
                found[word] = (*found.get(word, ()), lang)
    return found


@cache
def listed(lang: str) -> dict[str, float]:
    """Zipf frequency by word, of the words of a language above 3: some 30,000 (5 MB).

    Read here instead of by ``wordfreq.zipf_frequency``, which tokenises each word again and loads the list of 300,000
    words, whose last nine tenths differ from an unknown word by less than two.
    """
    return _read(lang, 0.0)


@cache
def _common(lang: str) -> dict[str, float]:
    return _read(lang, LISTED_ZIPF)


def _read(lang: str, least: float) -> dict[str, float]:
    buckets = read_cBpack(str(DATA_PATH / f"small_{lang}.msgpack.gz"))
    found: dict[str, float] = {}
    for centibels, words in enumerate(buckets):  # bucket i: frequency 10^(−i/100), zipf = 9 − i/100
        if (frequency := 9.0 - centibels / 100.0) < least:
            break
        found.update(dict.fromkeys(words, frequency))
    return found


@lru_cache(maxsize=RUNS_CACHED)
def segmented(run: str) -> tuple[str, ...]:
    """The words of a run of Chinese, Japanese or Korean characters: the most probable way to cut it, by frequency.

    A unigram model solved by dynamic programming (as in Sproat et al. 1996). Characters between known words that are
    none themselves are put together as a name, of four at most; katakana stays whole.
    """
    if len(run) > MAX_RUN_CHARS:
        return tuple(w for i in range(0, len(run), MAX_RUN_CHARS) for w in segmented(run[i : i + MAX_RUN_CHARS]))
    lang = "ko" if _HANGUL_RUN.search(run) else "ja" if _KANA_RUN.search(run) else "zh"
    return tuple(_named(_cut(run, listed(lang)), listed(lang)))


def _cut(run: str, frequency: dict[str, float]) -> Iterator[str]:
    pieces = [(m.start(), m.end()) for m in _PIECES.finditer(run)]
    begins = {begin for begin, _ in pieces}
    whole = dict(pieces)
    best: list[tuple[float, int]] = [(0.0, 0)] + [(-1e9, 0)] * len(run)
    for begin in range(len(run)):
        if begin not in begins:
            continue
        here = best[begin][0]
        least = whole[begin]
        for end in range(least, min(len(run), max(least, begin + MAX_WORD_CHARS)) + 1):
            if end < len(run) and end not in begins:
                continue
            known = frequency.get(run[begin:end])
            if known is None and end > least:
                continue
            cost = here + (known if known is not None else 0.0) - 9.0
            if cost > best[end][0]:
                best[end] = (cost, begin)
    ends, at = [], len(run)
    while at > 0:
        ends.append(at)
        at = best[at][1]
    begin = 0
    for end in reversed(ends):
        yield run[begin:end]
        begin = end


def _named(words: Iterator[str], frequency: dict[str, float]) -> Iterator[str]:
    """Puts single uncommon characters that stand side by side together: names that no list has."""
    name = ""
    for word in words:
        loose = len(word) == 1 and not _HIRAGANA.match(word) and frequency.get(word, 0.0) < PLAIN_CHAR_ZIPF
        if loose and len(name) < MAX_NAME_CHARS:
            name += word
            continue
        if name:
            yield name
        name = word if loose else ""
        if not loose:
            yield word
    if name:
        yield name
