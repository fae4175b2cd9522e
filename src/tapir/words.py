"""Words of a text in any script, for comparing texts: one normal form for near-duplicates and contamination."""

import re
from unicodedata import normalize

_SPACELESS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_BRACKETS = r"[()\[\]{}<>]{2,}"
_MARKS = "\u0300-\u036f\u0900-\u0dff"
_WORD = re.compile(
    rf"[{_SPACELESS}]"
    rf"|[^\W_{_SPACELESS}]+(?:[{_MARKS}]+[^\W_{_SPACELESS}]*)*"
    r"""|[^\w\s\x00-\x1f\x7f-\x9f.,;:!?'"()\[\]{}<>…“”‘’«»`´–—\u200b-\u200f\ufeff¿¡。，、！？；：（）「」『』《》]"""
    rf"|{_BRACKETS}"
)
_ASCII_WORD = re.compile(rf"""[^\W_]+|[^\w\s\x00-\x1f\x7f.,;:!?'"()\[\]{{}}<>`]|{_BRACKETS}""", re.ASCII)


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and white space.

    A character of a script that is written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) is a word of
    its own, and so is a symbol that carries meaning (+ - * / = % $ and emoji). A run of brackets is a word too: texts
    about code or nesting may differ in nothing else. Accents stay, compatibility forms (full width, ligatures) are the
    same as plain ones (NFKC); an empty list for a text of punctuation alone.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(normalize("NFKC", text).casefold())
