"""Facts and tables on contamination."""

from tapir.report.formats import count, share
from tapir.report.overlap import Overlap
from tapir.report.table import Fact, Table


def facts(found: Overlap) -> tuple[Fact, ...]:
    """What was kept out, and what is left."""
    rule = f"Rows that share {found.ngram} words in a row with an evaluation item, or equal a shorter one."
    kept_out = found.refused_corpus + found.refused_new
    return (
        Fact("Kept out", f"{kept_out:,} rows", f"{found.refused_corpus:,} of D, {found.refused_new:,} new. {rule}"),
        Fact("Left in the training data", share(found.found, found.searched), _left(found)),
    )


def _left(found: Overlap) -> str:
    sampled = "" if found.searched == found.of else f" (a part of {found.of:,})"
    text = f"{found.found:,} of {count(found.searched, 'instruction')} searched{sampled} repeat an evaluation item. "
    if not found.found:
        return text + "The evaluation measures skill, not memory."
    if not found.is_refusing:
        return text + "Refusing them is off in this run: read accuracy on those items as memory."
    return text + "Read accuracy on those items as memory."


def examples_table(found: Overlap) -> Table:
    """Some of the rows that were kept out."""
    return Table(("what is shared", "row"), found.examples)
