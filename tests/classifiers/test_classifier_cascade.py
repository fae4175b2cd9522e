"""The cascade of a local classifier and a chat model."""

from pathlib import Path

import pytest

from tapir.classifiers.cascade import CascadeClassifier, unsure_share
from tapir.config import CascadeClassifierConfig, EndpointConfig
from tapir.rows import Label, Refused
from tapir.tasks import Task

from classifier_support import Fixed, Noting, examples  # isort: skip

CONFIG = CascadeClassifierConfig(
    kind="cascade", endpoint=EndpointConfig(base_url="http://localhost/v1", model="m"), margin=0.3
)
LOCAL = {
    "sure": (Task.MATH, 0.9),
    "edge": (Task.ART, 0.3),
    "unsure": (Task.LAW, 0.1),
    "refused": None,
    "lost": (Task.LAW, 0.0),
}
ORACLE = {"unsure": (Task.ETHICS, 1.0), "lost": None}


async def test_only_small_margins_reach_the_oracle_and_the_order_is_kept(tmp_path: Path) -> None:
    local, oracle = Fixed(LOCAL), Fixed(ORACLE)
    stage = Noting(tmp_path)
    found = [one async for one in CascadeClassifier(CONFIG, local, oracle).label(stage, examples(LOCAL))]
    assert oracle.asked == ["unsure", "lost"]
    assert [one.task if isinstance(one, Label) else one.reason for one in found] == [
        Task.MATH,
        Task.ART,
        Task.ETHICS,
        "unreadable",
        "unreadable",
    ]
    assert stage.expected == 5
    assert stage.notes == {"passed_on": 2, "passed_on_share": 0.4}


async def test_what_neither_can_label_is_refused_not_guessed(tmp_path: Path) -> None:
    rows = examples(["lost"])
    (found,) = [
        one async for one in CascadeClassifier(CONFIG, Fixed(LOCAL), Fixed(ORACLE)).label(Noting(tmp_path), rows)
    ]
    assert isinstance(found, Refused)


@pytest.mark.parametrize(("margin", "share"), [(0.0, 0.0), (0.3, 0.4), (0.31, 0.6), (1.0, 0.8)])
async def test_the_share_passed_on_can_be_measured_beforehand(margin: float, share: float) -> None:
    assert await unsure_share(Fixed(LOCAL), examples(LOCAL), margin) == pytest.approx(share)


async def test_no_rows_pass_nothing_on(tmp_path: Path) -> None:
    assert await unsure_share(Fixed({}), [], 0.5) == 0.0
    cascade = CascadeClassifier(CONFIG, Fixed({}), Fixed({}))
    assert [one async for one in cascade.label(Noting(tmp_path), [])] == []


def test_identity_changes_with_the_margin() -> None:
    other = CONFIG.model_copy(update={"margin": 0.5})
    roles = Fixed({}), Fixed({})
    assert CascadeClassifier(CONFIG, *roles).identity("label") != CascadeClassifier(other, *roles).identity("label")
