"""BLEU and chrF from counts that add up are sacreBLEU's own."""

import numpy as np
import pytest
import sacrebleu

from tfbig.metrics import bleu

PAIRS = [
    ("A man in an orange hat is staring at it.", "A man in an orange hat starring at something."),
    ("The dog, a terrier, runs 3.5-4 km/h!", 'The "dog" (a terrier) ran 3.5-4 km/h.'),
    ("I don't know &amp; don't care; $1,000.50", "I do not know & don't care: $1,000.50"),
    ("", "Nothing at all."),
    ("我喜歡 tea，3.5 杯…", "我喜欢 tea，3.5 杯茶。"),
    ("一只狗在跑", "一只狗跑得很快"),
    ("x_y [z] {w} ~ ^ 1-2-3", "x_y [z] {w} ~ ^ 1-2-3"),
]
# Of sacreBLEU 2.6.0 on these pairs, each way of dividing texts, and chrF2
FIGURES = {
    "13a": 55.0080488699748,
    "zh": 49.641752762380726,
    "char": 61.143976622283624,
    "none": 36.16915681899286,
    "chrf": 56.88013542741521,
}


def corpus(pairs, words):
    return bleu.bleu(bleu.bleu_counts(*zip(*pairs, strict=True), words))


def chrf(pairs):
    return bleu.chrf(bleu.chrf_counts(*zip(*pairs, strict=True)))


def test_figures_are_those_of_sacrebleu():
    for words in bleu.TOKENIZERS:
        assert corpus(PAIRS, words) == pytest.approx(FIGURES[words], abs=1e-9)
    assert chrf(PAIRS) == pytest.approx(FIGURES["chrf"], abs=1e-9)


def test_ends_of_the_scale():
    same = [(text, text) for _, text in PAIRS]
    assert corpus(same, "13a") == pytest.approx(100) and chrf(same) == pytest.approx(100)
    nothing = [("", text) for _, text in PAIRS]
    assert corpus(nothing, "13a") == chrf(nothing) == 0
    assert corpus([("a b c", "x y z")], "13a") == chrf([("abc", "xyz")]) == 0
    assert 0 < corpus([("a b c d e", "a x c y e")], "none") < 20  # smoothed where no pair matches


def test_shorter_translations_are_punished():
    reference = "the cat sat on the mat and slept"
    short, whole = ("the cat sat on the mat", reference), (reference, reference)
    assert corpus([short], "13a") == pytest.approx(100 * np.exp(1 - 8 / 6))
    assert corpus([whole], "13a") == pytest.approx(100)


def test_against_the_library():
    """Any part of a corpus scores as the library scores it by itself."""
    random = np.random.default_rng(0)
    letters = list("abc  ,.-'\"&;3茶。…(é")
    texts = ["".join(random.choice(letters, size)) for size in random.integers(0, 40, 200)]
    pairs = [*PAIRS, *zip(texts[::2], texts[1::2], strict=True)]
    rows = random.integers(0, len(pairs), len(pairs))
    own, references = (list(side) for side in zip(*(pairs[i] for i in rows), strict=True))
    for words in bleu.TOKENIZERS:
        counts = bleu.bleu_counts(*zip(*pairs, strict=True), words)[rows]
        expected = sacrebleu.BLEU(tokenize=words).corpus_score(own, [references]).score
        assert bleu.bleu(counts) == pytest.approx(expected, abs=1e-9)
        assert f"tok:{words}" in bleu.bleu_signature(words)
    counts = bleu.chrf_counts(*zip(*pairs, strict=True))[rows]
    expected = sacrebleu.CHRF().corpus_score(own, [references]).score
    assert bleu.chrf(counts) == pytest.approx(expected, abs=1e-9)
    assert bleu.chrf_signature().startswith(
        "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:"
    )
