from helpers.examples import manifest
from speech_emotion.evaluation.corpus_plots import choose_examples


def test_examples_share_speaker_and_text() -> None:
    rows = manifest()
    rows = rows[(rows["speaker"] == "B") | (rows["emotion"] != "sad")]  # only B has sad recordings

    chosen = choose_examples(rows)

    assert list(chosen["emotion"]) == ["angry", "happy", "sad"]
    assert set(chosen["speaker"]) == {"B"}
    assert chosen["text"].nunique() == 1
