"""WordPiece: words cut into the longest pieces of a vocabulary, as BERT reads text.

A text is cleaned, lower-cased unless the vocabulary is cased, and cut at spaces, punctuation and
around Chinese characters; each word is then cut greedily. What is lost on the way is not given
back: case, accents, white space, and words that no pieces make up, which become [UNK].
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.core.lazy import np
from tfbig.prep.bpe import in_short_words, parts
from tfbig.prep.tokenizers import Tokenizer, optional

PAD, UNK, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSIDE = "##"  # begins a piece that stands inside of a word
LONGEST = 100  # characters of a word that is cut into pieces; longer ones are unknown
MOST_LETTERS = 1000  # characters that a learnt vocabulary has pieces for, the most frequent ones
VOCABULARY = "vocab.txt"


class WordPiece(Tokenizer):
    """WordPiece (Schuster and Nakajima 2012) with BERT's rules for words (Devlin et al. 2019).

    The cutting is done by the `tokenizers` library; `prep.graph_wordpiece` does it in a graph.

    Args:
        words: the vocabulary in the order of the numbers; pieces inside of words begin with ##.
        lowercase: whether letters become small ones.
        strip_accents: whether accents are dropped; None: where letters become small.
        split_chinese: whether each Chinese character is a word.

    Attributes:
        pad, unknown, begin, separator, mask: the numbers of [PAD], [UNK], [CLS], [SEP], [MASK];
            no text is ever encoded to [PAD], [CLS], [SEP] or [MASK].

    Example:
        WordPiece.train(texts, 8192).encode("Unbelievably good!")
    """

    kind = "wordpiece"
    lossless = False

    def __init__(
        self,
        words: list[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
    ):
        library = optional("tokenizers")
        self.words = list(words)
        numbers = {word: number for number, word in enumerate(self.words)}
        if len(numbers) < len(self.words):
            twice = next(word for i, word in enumerate(self.words) if numbers[word] != i)
            raise UserError(
                f"tokenizer: expected each word of the vocabulary once. Received: {twice!r} twice."
            )
        missing = [word for word in SPECIAL if word not in numbers]
        if missing:
            raise UserError(
                f"tokenizer: expected a WordPiece vocabulary with {', '.join(SPECIAL)}. Missing:"
                f" {', '.join(missing)}."
            )
        self.size = len(self.words)
        self.lowercase, self.split_chinese = lowercase, split_chinese
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.pad, self.unknown, self.begin, self.separator, self.mask = map(numbers.get, SPECIAL)
        self._whole = library.Tokenizer(
            library.models.WordPiece(numbers, unk_token=UNK, max_input_chars_per_word=LONGEST)
        )
        self._whole.normalizer, self._whole.pre_tokenizer = self.rules()
        self._special = {numbers[word] for word in SPECIAL}

    def rules(self):
        """The library's normaliser and its cutter of words."""
        return _rules(self.lowercase, self.strip_accents, self.split_chinese)

    @classmethod
    def train(cls, texts: Iterable[str], size: int, *, lowercase: bool = True) -> WordPiece:
        """Learns a vocabulary of at most `size` pieces, the special ones among them.

        The same texts give the same vocabulary: letters are numbered here, for the library numbers
        those inside of words as they come out of a table of random order.
        """
        library = optional("tokenizers")
        normalizer, cutter = _rules(lowercase, lowercase, True)
        cleaned = [normalizer.normalize_str(text) for text in texts]
        counts = Counter(letter for text in cleaned for letter in text if letter != " ")
        most = min(MOST_LETTERS, size // 4)
        alphabet = sorted(sorted(counts, key=lambda letter: (-counts[letter], letter))[:most])
        inside = [f"{INSIDE}{letter}" for letter in alphabet]
        learner = library.Tokenizer(library.models.WordPiece(unk_token=UNK))
        learner.pre_tokenizer = in_short_words(cutter, LONGEST)
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=size,
            special_tokens=[*SPECIAL, *alphabet, *inside],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            continuing_subword_prefix=INSIDE,
            show_progress=False,
        )
        learner.train_from_iterator(cleaned, trainer)
        numbers = learner.get_vocab()
        return cls(sorted(numbers, key=numbers.get), lowercase=lowercase)

    def encode(self, text):
        return np.array(self._whole.encode(text, add_special_tokens=False).ids, np.int32)

    def encode_all(self, texts):
        encodings = self._whole.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, tokens):
        words = [self.words[token] for token in self._kept(tokens) if token != self.pad]
        return " ".join(words).replace(f" {INSIDE}", "").removeprefix(INSIDE)

    def respelled(self, tokens: Iterable[int]) -> str:
        """A text that `encode` cuts into these tokens, which it made of another one."""
        strange = "x" * (LONGEST + 1)
        words = (strange if token == self.unknown else self.words[token] for token in tokens)
        return " ".join(words).replace(f" {INSIDE}", "")

    @cached_property
    def continues(self) -> np.ndarray:
        """Whether each token goes on with the word of the token before it, bool [size]."""
        return np.array([word.startswith(INSIDE) for word in self.words])

    @cached_property
    def is_special(self) -> np.ndarray:
        """Whether each token is one of the special ones, bool [size]."""
        return np.isin(np.arange(self.size), list(self._special))

    def to_json(self):
        names = ("lowercase", "strip_accents", "split_chinese")
        options = {name: getattr(self, name) for name in names}
        return {"kind": self.kind, "words": self.words, **options}


def _rules(lowercase: bool, strip_accents: bool, split_chinese: bool):
    library = optional("tokenizers")
    normalizer = library.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=split_chinese,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    return normalizer, library.pre_tokenizers.BertPreTokenizer()


def from_vocabulary(path: Path, settings: dict) -> WordPiece:
    """The tokenizer of a vocab.txt, one piece a line.

    Args:
        path: the file.
        settings: of tokenizer_config.json beside it: do_lower_case, strip_accents,
            tokenize_chinese_chars.
    """
    try:
        words = path.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected text in UTF-8. Received: {error}.") from error
    words = [word.rstrip("\r") for word in words]
    while words and not words[-1]:
        words.pop()
    lowercase = settings.get("do_lower_case")
    # A vocabulary that says nothing is cased if it has pieces with large letters
    if lowercase is None:
        lowercase = not any(word != word.lower() for word in words if word not in SPECIAL)
    return WordPiece(
        words,
        lowercase=bool(lowercase),
        strip_accents=settings.get("strip_accents"),
        split_chinese=settings.get("tokenize_chinese_chars", True),
    )


def from_definition(path: Path, definition: dict) -> WordPiece:
    """The tokenizer of a tokenizer.json whose model is WordPiece, with BERT's own rules.

    Raises:
        UserError: it cleans or cuts text in another way.
    """
    model = definition["model"]
    named = {"unk_token": UNK, "continuing_subword_prefix": INSIDE}
    named["max_input_chars_per_word"] = LONGEST
    for name, expected in named.items():
        if model.get(name, expected) != expected:
            raise UserError(
                f"{path}: expected {name}={expected!r}, as BERT has it. Received: {model[name]!r}."
            )
    steps = {name: parts(definition.get(name)) for name in ("normalizer", "pre_tokenizer")}
    kinds = [step["type"] for name in steps for step in steps[name]]
    normalizer = steps["normalizer"][0] if steps["normalizer"] else {}
    if kinds != ["BertNormalizer", "BertPreTokenizer"] or not normalizer.get("clean_text", True):
        raise UserError(
            f"{path}: expected WordPiece with BertNormalizer, cleaning text, and BertPreTokenizer."
            f" Received: {json.dumps([normalizer, *kinds])[:200]}. Give another vocabulary."
        )
    numbers = model["vocab"]
    words = sorted(numbers, key=numbers.get)
    if [numbers[word] for word in words] != list(range(len(words))):
        raise UserError(f"{path}: expected tokens numbered from 0 on, none left out.")
    return WordPiece(
        words,
        lowercase=normalizer.get("lowercase", True),
        strip_accents=normalizer.get("strip_accents"),
        split_chinese=normalizer.get("handle_chinese_chars", True),
    )
