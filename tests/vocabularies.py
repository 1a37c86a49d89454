"""Ready vocabularies as tests make them.

A SentencePiece model, GPT-2's two files, a tokenizer.json.
"""

import io
import json


def sentencepiece_model(
    text, add_dummy_prefix=False, byte_fallback=True, remove_extra_whitespaces=False, **options
):
    """The content of a .model file, learnt from a text."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")),
        model_writer=made,
        vocab_size=300,
        model_type="bpe",
        byte_fallback=byte_fallback,
        minloglevel=2,
        add_dummy_prefix=add_dummy_prefix,
        remove_extra_whitespaces=remove_extra_whitespaces,
        hard_vocab_limit=False,
        **{"normalization_rule_name": "identity", **options},
    )
    return made.getvalue()


def write_gpt2(folder, *merges):
    """vocab.json and merges.txt with the 256 bytes and these merges; returns the words."""
    letters = [
        chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))
    ]  # printable bytes stand for themselves
    letters += [chr(256 + i) for i in range(256 - len(letters))]
    words = [*letters, *(pair.replace(" ", "") for pair in merges), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return words


def tokenizer_json(words, merges=(), added=(), **steps):
    """The content of a tokenizer.json.

    The 256 bytes as GPT-2 names them, these words and merges, and other steps.

    Args:
        words: tokens besides the bytes and what the merges make.
        merges: pairs in order, such as "h e".
        added: words looked for before all else, (content, whether it is a control token).
        steps: replace what a byte-level tokenizer has.
    """
    letters = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + i) for i in range(256 - len(letters))]
    names = dict.fromkeys(
        [
            *words,
            *letters,
            *(pair.replace(" ", "") for pair in merges),
            *(word for word, _ in added),
        ]
    )
    vocabulary = {word: i for i, word in enumerate(names)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary[word], "content": word, "special": special, **flags}
            for word, special in added
        ],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [pair.split(" ") for pair in merges],
        },
        **steps,
    }


def llama_json(**steps):
    """The content of a tokenizer.json as Llama has it.

    Spaces as marks, one put before a text, bytes to fall back to, <s> first.
    """
    around = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    special = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    content = tokenizer_json([])
    words = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581",
        *"<s>/abcde",
        "\u2581a",
        "ab",
        "\u2581ab",
    ]
    content["model"] |= {
        "vocab": {word: i for i, word in enumerate(dict.fromkeys(words))},
        "byte_fallback": True,
        "fuse_unk": True,
        "unk_token": "<unk>",
        "merges": [["a", "b"], ["\u2581", "ab"], ["\u2581", "a"]],
    }
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    spaces = [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    ]
    return {
        **content,
        "added_tokens": [{"id": i, "content": word, **flags} for i, word in enumerate(words[:3])],
        "normalizer": {"type": "Sequence", "normalizers": spaces},
        "pre_tokenizer": None,
        "decoder": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": list(around),
            "pair": list(around),
            "special_tokens": special,
        },
        **steps,
    }
