"""Known traps of machine-written instruction sets: inputs and responses that stand for something never written.

Measured on 17,387 rows of Stanford Alpaca (9,229 of them a uniform sample), every hit read by a person; the counts
beside the rules are hits in those rows and, after the slash, hits that were wrong. A legitimate "None", "No" or
"[Table]" stays: each rule looks at what was asked before it takes a short text for a placeholder.
"""

import re
from typing import NamedTuple

from tapir.corpus.raw import Repair
from tapir.rows import Turns, excerpt


class Trap(NamedTuple):
    """Why a row cannot be taught."""

    reason: str
    detail: str


_EDGES = re.compile(r"^[\W_]+|[\W_]+$")
_INNER = re.compile(r"[\W_]+")
_NO_INPUT = re.compile(
    r"no(?:additional|specific|further)?inputs?e?(?:(?:is|was)?(?:required|needed|necessary|provided|given|available|specified))?(?:for(?:this|the)(?:task|instruction|prompt|question))?"
    r"|nocontext(?:(?:is|was)?(?:required|needed|necessary|provided|given|available))?"
    r"|(?:thereis|without)(?:no|any)?input"
    r"|input(?:is)?not(?:required|needed|applicable|necessary)|notapplicable",
)
_EMPTY_WORD = re.compile(r"(?:none|null|nil|nan|empty|blank|n/a)", re.IGNORECASE)
_BARE_EMPTY = re.compile(r"(?:none|null|nan|n/a)\.?", re.IGNORECASE)
_POINTS_AT_INPUT = re.compile(
    r"\b(?:following|given|this|these|below|provided)\b"
    r"|\b(?:the|an?|that|each|your) (?:word|term|phrase|value|text|string|sentence|name|number)\b",
    re.IGNORECASE,
)
_SPELLS_OUT = re.compile(r":\s*\S")
_LINE = re.compile(r"(?:<\s*no[ _-]?inputs?\s*>|\[\s*no[ _-]?inputs?\s*\]|noinput)[.,]?", re.IGNORECASE)
_LEADING_LINE = re.compile(r"<\s*no[ _-]?input\s*>[ \t]*\n+", re.IGNORECASE)

_NO_OUTPUT = re.compile(r"no(?:out|in)puts?(?:(?:is|was)?(?:required|needed|possible|provided|available|generated))?")
_NO_OUTPUT_BRACKET = re.compile(r"[<\[(]\s*no[ _-]?(?:out|in)put\b", re.IGNORECASE)
_NO_OUTPUT_BECAUSE = re.compile(r"no[ _-]?output\b[\s,.:-]*(?:as|because|since|possible|is possible)\b", re.IGNORECASE)
_ASKS_FOR_OUTPUT = re.compile(
    r"\b(?:what|which|predict|determine|find|give|state)\b.*\b(?:output|outputs|print|prints|printed|returns?|display|result)\b",
    re.IGNORECASE | re.DOTALL,
)
_UNABLE = re.compile(
    r"^(?:i'?m |we are )?sorry,? (?:but )?(?:the|this) (?:given )?(?:task|instruction) "
    r"(?:involves|requires|cannot|can't|is not)"
    r"|^(?:the|this) (?:task|instruction) (?:cannot|can't|can not) be (?:completed|done|performed|executed) "
    r"(?:by|with|using) "
    r"|\b(?:GPT|language) models? (?:cannot|can't|can not|is unable|are unable|is not able|are not able)\b"
    r"|\bbeyond the (?:capability|capabilities|scope) of (?:the|this|a) (?:language )?model\b"
    r"|\bnot (?:possible|suitable) (?:for|with) (?:a |the )?(?:GPT|language model)",
    re.IGNORECASE,
)
_UNABLE_CHARS = 300

_MEDIA = (
    r"image|img|picture|photo|photos|photograph|drawing|sketch|illustration|painting|artwork|logo|audio|sound|song|music|"
    r"musical piece|melody|video|clip|animation|diagram|chart|graph|infographic|screenshot|banner|poster|flow ?chart|"
    r"word cloud|file|attachment"
)
_MEDIA_WORD = re.compile(rf"\b(?:{_MEDIA})\b", re.IGNORECASE)
_ABSENT_WORD = re.compile(
    rf"\b(?:{_MEDIA}|article|document|dataset|data ?table|spreadsheet|excel|link|url|web ?page|pdf|podcast|recording|"
    r"attached)\b",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"<([^<>\n]{1,160})>|\[([^\[\]\n]{1,160})\]|\(([^()\n]{1,160})\)")
_EMBEDDED = re.compile(
    r"!\[[^\]\n]*\]\([^)\s]*\)|<(?:img|audio|video)\b[^<>]*>(?:[^<>]*</(?:audio|video)>)?", re.IGNORECASE
)
_MEDIA_TOKEN = re.compile(r"^[ \t]*<(?:image|img|video|audio|speech)>[ \t]*$", re.IGNORECASE | re.MULTILINE)
_TEMPLATE_FIELD = re.compile(r"[<\[{]\s*(?:output|response|answer|completion)\s*[>\]}]", re.IGNORECASE)
_LABEL = re.compile(r"^[A-Za-z][\w ]{0,24}:\s*")
_ABOUT_MARKUP = re.compile(
    r"\b(?:html|tags?|xml|svg|markup|markdown|elements?|code|script|sql|regex|placeholder|template|variable)\b",
    re.IGNORECASE,
)

_URL = re.compile(r"(?:https?://|www\.)[^\s\])>]+", re.IGNORECASE)
_READS_CONTENT = re.compile(
    r"summar|describ|description|analy|evaluat|review|critique|\brate\b|(?:main|key) (?:idea|point|concept)|"
    r"interpret|caption|transcri",
    re.IGNORECASE,
)
_ABOUT_CONTENT = re.compile(
    r"\b(?:article|photo|picture|image|painting|artwork|art|piece|song|video|trailer|web ?site|web ?page|homepage|"
    r"document|pdf|spreadsheet|cartoon|comic|figure|bird|data|source|post|passage|story|news)\b",
    re.IGNORECASE,
)
_ABOUT_THE_ADDRESS = re.compile(
    r"\b(?:urls?|uris?|domains?|links?|hyperlinks?|http|https|request|api|endpoint|regex|parse|normali[sz]e|valid\w*|"
    r"click|protocol|html|code|script|program|function|algorithm)\b",
    re.IGNORECASE,
)

_MERGED = re.compile(r"\n(?:[^\w\n]|_)*\d{1,3}\s*\.\s*Instruction:|\n#{2,}\s*Instruction:")
_MERGED_ANSWER = re.compile(r"\n(?:[^\w\n]|_)*\d{1,3}\s*\.\s*Output:|\n#{2,}\s*(?:Response|Output):")
_RULE = re.compile(r"[\W_]*")
_DESCRIPTION_WORDS = 8
"""From so many words on, what stands for an image describes it well enough to be answered."""


def _core(text: str) -> str:
    return _INNER.sub("", _EDGES.sub("", text)).lower() if len(text) <= 60 else ""


def _bracketed(text: str) -> str | None:
    """What stands in brackets where the whole of `text` does."""
    match = _BRACKETED.fullmatch(text)
    return next(part for part in match.groups() if part is not None) if match else None


def _points_at_input(instruction: str) -> bool:
    return _POINTS_AT_INPUT.search(instruction) is not None and not _SPELLS_OUT.search(instruction)


def mend_input(instruction: str, given: str) -> tuple[str, Repair | None]:
    """The input without the words that say that there is none (250/0 whole inputs, 2/0 lines).

    "N/A" and "none" without brackets stay where the instruction points at an input ("the following word").
    """
    text = given.strip()
    if not text:
        return given, None
    inner = _bracketed(text)
    if (
        _NO_INPUT.fullmatch(_core(text))
        or (inner is not None and _EMPTY_WORD.fullmatch(inner.strip()))
        or (_BARE_EMPTY.fullmatch(text) and not _points_at_input(instruction))
    ):
        return "", Repair("placeholder-input", excerpt(given), "")
    if "input" not in text.lower() or "\n" not in text:
        return given, None
    kept = "\n".join(line for line in text.split("\n") if not _LINE.fullmatch(line.strip())).strip()
    return (kept, Repair("placeholder-line", excerpt(given), excerpt(kept))) if kept != text else (given, None)


def mend_response(response: str) -> tuple[str, list[Repair]]:
    """The response without a leading `<noinput>` line (5/0) and without a second instruction after it (21/0)."""
    repairs = []
    match = _LEADING_LINE.match(response)
    if match:
        repairs.append(Repair("placeholder-line", excerpt(response), excerpt(response[match.end() :])))
        response = response[match.end() :]
    merged = _MERGED.search(response) if "nstruction:" in response else None
    if merged and _MERGED_ANSWER.search(response, merged.end()):
        kept = _without_rules(response[: merged.start()])
        repairs.append(Repair("merged-instruction", excerpt(response[merged.start() :].strip()), excerpt(kept)))
        response = kept
    return response, repairs


def _without_rules(text: str) -> str:
    """`text` without lines at its end that hold no letter and no digit."""
    lines = text.split("\n")
    while lines and _RULE.fullmatch(lines[-1]):
        lines.pop()
    return "\n".join(lines).rstrip()


def find_trap(instruction: str, given: str, response: str, *, had_placeholder: bool) -> Trap | None:
    """Why a row of one exchange cannot be taught; None for a sound one.

    `given` and `response` are mended already; `had_placeholder` says that the input was a placeholder.
    """
    return (
        _instruction_trap(instruction)
        or response_trap(instruction, given, response, had_placeholder=had_placeholder)
        or _media_trap(instruction, given)
        or _link_trap(instruction, given)
    )


def _instruction_trap(instruction: str) -> Trap | None:
    inner = _bracketed(instruction)
    if (
        _NO_INPUT.fullmatch(_core(instruction))
        or _BARE_EMPTY.fullmatch(instruction)
        or (
            inner is not None
            and (_EMPTY_WORD.fullmatch(inner) or inner.lower() in ("instruction", "prompt", "question"))
        )
    ):
        return Trap("placeholder-instruction", f"the instruction is {instruction!r}")
    return None


def response_trap(instruction: str, given: str, response: str, *, had_placeholder: bool) -> Trap | None:
    """Why a response is none: a placeholder (30/0), a language model's apology (13/0), or media (24/0)."""
    if _is_placeholder(instruction, given, response, had_placeholder=had_placeholder):
        return Trap("placeholder-response", f"the response is {excerpt(response)!r}")
    if len(response) <= _UNABLE_CHARS and _UNABLE.search(response):
        return Trap("unable-response", f"the response is {excerpt(response)!r}")
    inner = _bracketed(response)
    is_media = _EMBEDDED.fullmatch(response) is not None
    if inner is not None and _MEDIA_WORD.search(inner):
        is_media = response.startswith("<") or " " in inner.strip()
    if is_media and not _ABOUT_MARKUP.search(instruction):
        return Trap("media-response", f"the response is {excerpt(response)!r}")
    return None


def _is_placeholder(instruction: str, given: str, response: str, *, had_placeholder: bool) -> bool:
    if _NO_OUTPUT_BRACKET.match(response) and len(response) <= _UNABLE_CHARS:
        return True
    if _NO_OUTPUT.fullmatch(_core(response)) or _NO_OUTPUT_BECAUSE.match(response):
        return not _ASKS_FOR_OUTPUT.search(instruction[:2000])
    if response.startswith("<") and (inner := _bracketed(response)) and _EMPTY_WORD.fullmatch(inner.strip()):
        return True
    if _TEMPLATE_FIELD.fullmatch(response) and not _ABOUT_MARKUP.search(instruction):
        return True
    is_not_applicable = response.lower().rstrip(".") == "n/a" and "n/a" not in instruction.lower()
    return is_not_applicable and (had_placeholder or not given) and "?" not in instruction


def _media_trap(instruction: str, given: str) -> Trap | None:
    """An input that is only a placeholder for an image, a sound or a document (40/1)."""
    if not given or len(given) > 400:
        return None
    for text in (given, _LABEL.sub("", given)):
        inner = _bracketed(text)
        is_absent = (
            inner is not None
            and _ABSENT_WORD.search(inner) is not None
            and len(_URL.sub("", inner).split()) < _DESCRIPTION_WORDS
        )
        if (is_absent or _EMBEDDED.fullmatch(text)) and not _ABOUT_MARKUP.search(instruction):
            return Trap("missing-media", f"the input is only {excerpt(given)!r}")
    return None


def media_token(turns: Turns) -> Trap | None:
    """A turn with the mark of an image, a video or a sound on a line of its own, as in visual instruction sets."""
    for turn in turns:
        match = _MEDIA_TOKEN.search(turn.content) if "<" in turn.content else None
        if match and not _ABOUT_MARKUP.search(_MEDIA_TOKEN.sub("", turn.content)):
            return Trap("missing-media", f"the {turn.role} shows {match.group().strip()}, which is not in the row")
    return None


def _link_trap(instruction: str, given: str) -> Trap | None:
    """An input that is only an address whose content is asked about (50/1); addresses asked about as such stay."""
    if not given or len(given) > 400 or not _URL.search(given):
        return None
    rest = _INNER.sub("", _URL.sub("", _LABEL.sub("", given)))
    if len(rest) > 12:
        return None
    if _READS_CONTENT.search(instruction) or (
        _ABOUT_CONTENT.search(instruction) and not _ABOUT_THE_ADDRESS.search(instruction)
    ):
        return Trap("missing-link", f"the input is only {excerpt(given)!r}, whose content is not in the row")
    return None
