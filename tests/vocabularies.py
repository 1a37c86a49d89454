"""Ready vocabularies as tests make them: a SentencePiece model, GPT-2's two files."""

import io
import json


def sentencepiece_model(text, add_dummy_prefix=False, byte_fallback=True):
    """The content of a .model file, learnt from a text."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=made, vocab_size=300, model_type="bpe", byte_fallback=byte_fallback, minloglevel=2,
        normalization_rule_name="identity", add_dummy_prefix=add_dummy_prefix, remove_extra_whitespaces=False, hard_vocab_limit=False,
    )  # fmt: skip
    return made.getvalue()


def write_gpt2(folder, *merges):
    """vocab.json and merges.txt with the 256 bytes and these merges; returns the words."""
    letters = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]  # printable bytes stand for themselves
    letters += [chr(256 + i) for i in range(256 - len(letters))]
    words = [*letters, *(pair.replace(" ", "") for pair in merges), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return words
