"""Figures on the judge's health."""

from tapir.report.charts.columns import paired
from tapir.report.charts.svg import HALF, NARROW
from tapir.report.formats import count, share, signed
from tapir.report.judging import SCORES, Agreement, JudgeHealth, OrderEffect
from tapir.report.table import Fact, Figure, Table

MUCH_UNREADABLE = 0.02
MUCH_ORDER = 0.3
"""Judge points gained by standing first, from which the order should be swapped."""
PILED = 0.6
"""Share of rows on one score, from which the scale is hardly used."""


def scores_figure(health: JudgeHealth) -> Figure:
    """How the judge spends its scale on both answers."""
    title = "Scores of the teacher and the student"
    labels = [str(one) for one in SCORES]
    styles = ("k-rival", "k-hard")
    drawn = [
        paired(labels, health.teacher, health.student, styles, (width, 260), title, "judge's score, rounded")
        for width in (HALF, NARROW)
    ]
    rows = tuple(zip(labels, health.teacher, health.student, strict=True))
    return Figure(
        key="scores",
        title=title,
        conclusion=_conclude(health),
        wide=drawn[0],
        narrow=drawn[1],
        table=Table(("score", "teacher", "student"), rows),
        legend=(("k-ochre", "teacher"), ("k-hard", "student")),
    )


def _conclude(health: JudgeHealth) -> str:
    most = max(range(10), key=lambda place: health.teacher[place])
    text = f"The teacher's most frequent score is {most + 1} ({share(health.teacher[most], health.rows)} of rows). "
    if max(health.student) / health.rows > PILED:
        text += "The student's scores pile up on one value: the judge hardly tells its answers apart."
    elif health.student_wins > health.rows / 10:
        text += (
            f"The student beats the teacher on {share(health.student_wins, health.rows)}: look at some of those rows."
        )
    else:
        text += "The student's scores spread over the scale: the judge tells its answers apart."
    return text


def facts(health: JudgeHealth) -> tuple[Fact, ...]:
    """What else is known of the judge, each with what it means."""
    found = [_unreadable(health), _ties(health)]
    found.append(_order(health.order))
    if health.repeats is not None:
        found.append(_repeats(health.repeats))
    if health.length is not None:
        found.append(_length(health.length))
    return tuple(found)


def _unreadable(health: JudgeHealth) -> Fact:
    lost = health.unreadable
    meaning = f"{count(health.refused, 'row')} of {health.asked:,} got no verdict at all. "
    if health.asked_again:
        meaning += f"{count(health.asked_again, 'reply', 'replies')} had to be asked for again. "
    if lost > MUCH_UNREADABLE * health.asked:
        meaning += "That many unreadable replies call for another judge, or for structured output."
    else:
        meaning += "Few enough to leave the rest as it is."
    return Fact("Unreadable replies", share(lost, health.asked), meaning)


def _ties(health: JudgeHealth) -> Fact:
    meaning = "Rows on which both answers score the same. They are easy by definition; many ties mean a blunt judge."
    return Fact("Ties", share(health.ties, health.rows), meaning)


def _order(effect: OrderEffect | None) -> Fact:
    if effect is None:
        meaning = "The answers were not judged in both orders, so a preference for the first cannot be seen."
        return Fact("Order effect", "not measured", meaning)
    meaning = (
        f"What an answer gains by standing first, over {count(effect.rows, 'row')} judged in both orders; "
        f"the better answer changes with the order on {share(effect.flipped, effect.rows)}, and "
        f"{share(effect.agreement.same, effect.agreement.pairs)} of all scores stay within half a point. "
    )
    meaning += (
        "Averaging both orders takes it out." if abs(effect.gain) < MUCH_ORDER else "Keep the swap on: it matters."
    )
    return Fact("Order effect", f"{signed(effect.gain, 2)} points", meaning)


def _repeats(found: Agreement) -> Fact:
    meaning = (
        f"Equal answers to the same item, scored again in a later round: {count(found.pairs, 'pair')}, "
        f"{found.mean_gap:.2f} points apart on average. Disagreement here is noise in every score."
    )
    return Fact("Agreement on repeats", share(found.same, found.pairs), meaning)


def _length(correlation: float) -> Fact:
    meaning = "Correlation of the student's score with the length of its answer. "
    if correlation > 0.4:
        meaning += "Longer answers score higher; check that this is not padding."
    else:
        meaning += "No sign that length alone is rewarded."
    return Fact("Length", signed(correlation, 2), meaning)
