"""Every prompt, beside the parser of its reply; pure. docs/prompts.md says what each asks and what is accepted."""

from tapir.prompts.core import Prompt, Question, Unreadable
from tapir.prompts.expand import EXPAND, parse_instructions
from tapir.prompts.fence import Piece, conversation, fence_key, fenced
from tapir.prompts.judge import JUDGE_PAIR, JUDGE_SINGLE, PairVerdict, Verdict, parse_score, parse_scores
from tapir.prompts.label import DESCRIPTIONS, LABEL, parse_label
from tapir.prompts.refine import REFINE, parse_refined, parse_response

__all__ = [
    "DESCRIPTIONS",
    "EXPAND",
    "JUDGE_PAIR",
    "JUDGE_SINGLE",
    "LABEL",
    "REFINE",
    "PairVerdict",
    "Piece",
    "Prompt",
    "Question",
    "Unreadable",
    "Verdict",
    "conversation",
    "fence_key",
    "fenced",
    "parse_instructions",
    "parse_label",
    "parse_refined",
    "parse_response",
    "parse_score",
    "parse_scores",
]
