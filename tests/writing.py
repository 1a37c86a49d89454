"""Made-up text that the tests of text share."""

import random


def any_text(seed, length=400):
    """Characters from all of Unicode but surrogates."""
    choose = random.Random(seed)
    ranges = [(1, 0x7F), (0x80, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    return "".join(chr(choose.randint(*choose.choice(ranges))) for _ in range(length))


def prose(seed, words=120):
    choose = random.Random(seed)
    return (
        " ".join(
            "".join(choose.choice("abcdefghijklmnop") for _ in range(choose.randint(2, 9)))
            for _ in range(words)
        )
        + "\n"
    )
