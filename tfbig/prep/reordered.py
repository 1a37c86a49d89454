"""A byte-pair vocabulary with new numbers: tokens of one language first, then all others.

A model that writes only that language then scores the first so many tokens, and no others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tfbig.prep.bpe import BPE


def first_tokens(tokenizer: BPE, first: Iterable[int]) -> tuple[BPE, int]:
    """The same tokenizer with `first` as its tokens 0, 1, ...

    Behind these stand the separator and one number without a token, for what is none of them.

    Returns:
        (tokenizer, how many numbers come before all the others).
    """
    saved = tokenizer.to_json()
    definition = json.loads(saved["definition"])
    order = [int(token) for token in first if token != tokenizer.separator]
    number = {token: place for place, token in enumerate(order)}
    scored = len(order) + 2
    vocabulary = definition["model"]["vocab"]
    others = sorted(set(vocabulary.values()) - number.keys())
    number |= {token: scored + place for place, token in enumerate(others)}
    definition["model"]["vocab"] = {word: number[token] for word, token in vocabulary.items()}
    text = json.dumps(definition, ensure_ascii=False)
    return BPE(text, separator=len(order)), scored
