"""Vocabularies made elsewhere: which files hold one, and what tokenizer they describe.

A folder's tokenizer.json comes before all else, then GPT-2's two files, then BERT's vocab.txt, then
a SentencePiece model. The tokens around texts are those that tokenizer_config.json or
special_tokens_map.json name.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections import Counter
from pathlib import Path

from tfbig.core.errors import UserError
from tfbig.prep import wordpiece
from tfbig.prep.bpe import BPE, BYTES, byte_level, parts
from tfbig.prep.sentence_piece import SentencePiece
from tfbig.prep.tokenizers import MARK, SEPARATOR, Bytes, Characters, Tokenizer, optional

WHOLE = "tokenizer.json"
OF_RUN = "data.json"
PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
ALONE = (WHOLE, wordpiece.VOCABULARY)
BESIDE = ("tokenizer_config.json", "special_tokens_map.json")
SWITCHES = (
    "add_bos_token",
    "add_prefix_space",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
)
ENDS = (SEPARATOR, "<|end_of_text|>", "</s>")  # the usual names of what is behind a text
# What a tokenizer may do and still give every text back.
NORMALIZERS = ("NFC", "Prepend", "Replace")
PRE_TOKENIZERS = ("ByteLevel", "Digits", "Metaspace", "Punctuation", "Split", "UnicodeScripts")
PROBE = "The  1234 caf\u00e9s' \u6625\u7720 \U0001f600\n\n\tdon't WE'LL <|x|> end "


def from_json(saved: dict) -> Tokenizer:
    """The tokenizer that its `to_json` described."""
    if saved["kind"] == "characters":
        return Characters(saved["alphabet"], unknown=saved["unknown"], separator=saved["separator"])
    if saved["kind"] == "bytes":
        return Bytes()
    if saved["kind"] == "bpe":
        return BPE(saved["definition"], begin=saved.get("begin"), separator=saved.get("separator"))
    if saved["kind"] == "wordpiece":
        given = {name: value for name, value in saved.items() if name != "kind"}
        return wordpiece.WordPiece(**given)
    return SentencePiece(base64.b64decode(saved["model"]), begin=saved.get("begin"))


def ready(path: Path) -> Tokenizer:
    """The tokenizer of a vocabulary made elsewhere; see `ready_files`."""
    first, *_ = files = ready_files(path)
    try:
        beside = _settings(first.parent)
        if first.suffix == ".model":
            return _sentencepiece(first, beside)
        if first.name == WHOLE:
            return _whole(first, beside)
        if first.name == OF_RUN:
            return _of_run(first)
        if first.name == wordpiece.VOCABULARY:
            return wordpiece.from_vocabulary(first, beside)
        return _pair(first, files[1], beside)
    except OSError as error:
        raise UserError(
            f"data.vocabulary_path: {error.filename or first} cannot be read: {error.strerror}."
        ) from error


def ready_files(path: Path) -> list[Path]:
    """The files that decide a vocabulary made elsewhere, those that hold its tokens first.

    Args:
        path: a folder with tokenizer.json, with vocab.json and merges.txt (or encoder.json and
            vocab.bpe), with vocab.txt, or with one SentencePiece .model; or a tokenizer.json, a
            vocab.txt or a .model itself; or the directory of a run that has learnt one.
    """
    if path.is_file() and (path.suffix == ".model" or path.name in ALONE):
        chosen = [path]
    else:
        named = ((WHOLE,), *PAIRS, (wordpiece.VOCABULARY,), (OF_RUN,))
        sets = [[path / name for name in names] for names in named]
        models = sorted(path.glob("*.model")) if path.is_dir() else []
        sets += [models] * (len(models) == 1)
        chosen = next((files for files in sets if all(file.is_file() for file in files)), [])
    if not path.exists():
        raise UserError(
            f"data.vocabulary_path: {path} does not exist. Bring it back; a run that was trained"
            " with it takes another place by train --resume RUN data.vocabulary_path=PATH."
        )
    if not chosen:
        raise UserError(
            "data.vocabulary_path: expected a folder with tokenizer.json, or with vocab.json and "
            "merges.txt, or with vocab.txt, a SentencePiece .model file, or a run of text."
            f" Received: {path}."
        )
    return [*chosen, *(file for name in BESIDE if (file := chosen[0].parent / name).is_file())]


def _of_run(path: Path) -> Tokenizer:
    """The tokenizer that a run's data.json holds."""
    try:
        return from_json(json.loads(path.read_text("utf-8"))["facts"]["tokenizer"])
    except Exception as error:  # whatever a damaged file or a library may raise
        raise UserError(
            "data.vocabulary_path: expected a run of text, with its tokenizer in data.json."
            f" Received: {path.parent}."
        ) from error


def _settings(folder: Path) -> dict:
    """The settings in the files beside a vocabulary, bos_token and eos_token as plain words."""
    settings: dict = {}
    for name in reversed(BESIDE):
        path = folder / name
        try:
            content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: expected a JSON object. Received: {error}.") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected a JSON object. Received: {type(content).__name__}.")
        settings |= {key: value for key, value in content.items() if value is not None}
    for key in SWITCHES:
        if not isinstance(settings.get(key, False), bool):
            raise UserError(
                f"{folder}: expected {key} to be true or false, in {' or '.join(BESIDE)}. Received:"
                f" {json.dumps(settings[key])[:40]}."
            )
    for key in ("bos_token", "eos_token"):
        word = settings.get(key)
        settings[key] = word.get("content") if isinstance(word, dict) else word
    return settings


def _token(settings: dict, key: str, tokens: dict[str, int]) -> int | None:
    """The number of the token that the settings name, if they name one of the vocabulary."""
    word = settings.get(key)
    return tokens.get(word) if isinstance(word, str) else None


def _begin(settings: dict, tokens: dict[str, int], usual: int | None) -> int | None:
    """The token before each text: as the settings say, else the vocabulary's own."""
    is_added = settings.get("add_bos_token")
    if is_added is None:
        return usual
    named = _token(settings, "bos_token", tokens)
    if not is_added:
        return None
    return usual if named is None else named


def _end(settings: dict, tokens: dict[str, int], usual: int | None = None) -> int | None:
    """The token behind each text: as the settings say, else the vocabulary's own or usual one."""
    named = _token(settings, "eos_token", tokens)
    known = [named, usual, *map(tokens.get, ENDS)]
    return next((token for token in known if token is not None), None)


def _sentencepiece(path: Path, settings: dict) -> SentencePiece:
    content = path.read_bytes()
    tokenizer = SentencePiece(content)
    begin = tokenizer.control("bos")
    _refuse_changing(path, content)
    _refuse_unlike(path, tokenizer, "".join(filter(tokenizer.knows, PROBE)))
    is_added = settings.get("add_bos_token", True)
    return SentencePiece(content, begin=begin if is_added else None)


def _refuse_changing(path: Path, content: bytes) -> None:
    """Refuses a SentencePiece model that does not give every text back.

    Its trainer's defaults do not.
    """
    model = optional("sentencepiece.sentencepiece_model_pb2").ModelProto.FromString(content)
    normalizer = model.normalizer_spec
    changes = {
        f"normalises it ({normalizer.name or 'by rules of its own'}: set"
        " normalization_rule_name=identity)": bool(normalizer.precompiled_charsmap),
        "drops spaces (set remove_extra_whitespaces=false)": normalizer.remove_extra_whitespaces,
        "takes spaces for the ends of words (set treat_whitespace_as_suffix=false)": (
            model.trainer_spec.treat_whitespace_as_suffix
        ),
    }
    reasons = [reason for reason, is_so in changes.items() if is_so]
    if reasons:
        raise UserError(
            f"{path}: expected a model that gives every text back. Received: one that"
            f" {', and '.join(reasons)}. Train it with these settings, or give another vocabulary."
        )


def _pair(vocabulary: Path, merges: Path, settings: dict) -> BPE:
    """GPT-2's two files: a JSON object token -> number, and the merges in order, one a line."""
    models = optional("tokenizers").models
    with _one_message(f"{vocabulary.parent}: holds no GPT-2 vocabulary that can be read"):
        lines = [line.rstrip("\r") for line in merges.read_text("utf-8").split("\n")]
        pairs = [
            tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")
        ]
        numbers = json.loads(vocabulary.read_text("utf-8"))
        _check_numbers(numbers)
        spaced = settings.get("add_prefix_space") is True
        definition = byte_level(models.BPE(numbers, pairs), add_prefix_space=spaced).to_str()
        begin, end = _begin(settings, numbers, None), _end(settings, numbers)
        tokenizer = BPE(definition, begin=begin, separator=end)
    _refuse_missing_bytes(vocabulary, BYTES.keys() - numbers.keys())
    return tokenizer


def _whole(path: Path, settings: dict) -> Tokenizer:
    """A tokenizer.json: its normaliser, its cuts, its merges, and its tokens around texts."""
    with _one_message(f"{path}: is no tokenizer that can be read"):
        content = path.read_text("utf-8")
        numbers = json.loads(content)["model"]["vocab"]
        if not isinstance(numbers, list):  # scores, of a kind that is refused by its name
            _check_numbers(numbers)
        parsed = optional("tokenizers").Tokenizer.from_str(content)
        definition = parsed.to_str()
        if json.loads(definition)["model"]["type"] == "WordPiece":
            return wordpiece.from_definition(path, json.loads(definition))
        tokens = parsed.get_vocab(with_added_tokens=True)
        _refuse_what_loses_text(path, json.loads(definition), tokens)
        before, behind = _around(parsed)
        begin, end = _begin(settings, tokens, before), _end(settings, tokens, behind)
        tokenizer = BPE(definition, begin=begin, separator=end)
        _refuse_changed_text(path, tokenizer, json.loads(definition)["added_tokens"])
    return tokenizer


@contextlib.contextmanager
def _one_message(message: str):
    """A context that raises the library's errors as one message; its panics are no `Exception`."""
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise UserError(f"{message}: {type(error).__name__}: {str(error)[:200]}.") from error


def _check_numbers(numbers: dict[str, int]) -> None:
    """Refuses numbers that leave many out: the library would count through all of them."""
    if not isinstance(numbers, dict):
        raise ValueError(
            f"expected a JSON object of tokens and numbers; received {type(numbers).__name__}"
        )
    most = 2 * len(numbers) + 1000
    wrong = next((n for n in numbers.values() if type(n) is not int or not 0 <= n < most), None)
    if wrong is not None:
        raise ValueError(
            f"expected numbers of {len(numbers):,} tokens, with few left out; received {wrong!r}"
        )
    twice = [number for number, count in Counter(numbers.values()).items() if count > 1]
    if twice:
        raise ValueError(f"expected each token to have a number of its own; {twice[0]} is twice")


def _around(parsed) -> tuple[int | None, int | None]:
    """The tokens that a tokenizer puts before a text and behind it."""
    plain = parsed.encode("a", add_special_tokens=False).ids
    whole = parsed.encode("a", add_special_tokens=True).ids
    at = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
    before = whole[:at]
    behind = whole[at + len(plain) :]
    if len(before) > 1 or len(behind) > 1:
        raise ValueError(
            f"it puts {len(before)} tokens before a text and {len(behind)} behind it; "
            "one each is possible"
        )
    return next(iter(before), None), next(iter(behind), None)


def _refuse_what_loses_text(path: Path, definition: dict, tokens: dict[str, int]) -> None:
    """Refuses steps after which a text could not be written again, nor its bytes be counted."""
    model = definition["model"]
    if model["type"] != "BPE":
        raise UserError(
            f"{path}: expected a model of the kind BPE or WordPiece. Received: {model['type']}. "
            "Give a byte-level vocabulary, or a SentencePiece .model file by itself."
        )
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise UserError(f"{path}: expected a model without {name}. Received: {model[name]!r}.")
    for stage, known in (("normalizer", NORMALIZERS), ("pre_tokenizer", PRE_TOKENIZERS)):
        for step in parts(definition[stage]):
            if not _keeps_text(step, known):
                raise UserError(
                    f"{path}: expected a {stage} that keeps every text: {', '.join(known)}. "
                    f"Received: {json.dumps(step, ensure_ascii=False)}. Give another vocabulary."
                )
    if any(step["type"] == "ByteLevel" for step in parts(definition["pre_tokenizer"])):
        _refuse_missing_bytes(path, BYTES.keys() - tokens.keys())
    elif model["byte_fallback"]:
        _refuse_missing_bytes(path, {f"<0x{byte:02X}>" for byte in range(256)} - tokens.keys())
    else:
        raise UserError(
            f"{path}: expected tokens of bytes (ByteLevel or byte_fallback), so that any text can "
            "be encoded. Received: neither. Give another vocabulary."
        )


def _keeps_text(step: dict, known: tuple[str, ...]) -> bool:
    """Whether a step is of a known kind and takes nothing away."""
    spaces = ({"String": " "}, MARK)
    replaced = step["type"] == "Replace" and (step["pattern"], step["content"]) != spaces
    return step["type"] in known and step.get("behavior") != "Removed" and not replaced


def _refuse_missing_bytes(path: Path, missing: set[str]) -> None:
    """Refuses a vocabulary without a token for each byte: the library would drop the others."""
    if missing:
        named = ", ".join(sorted(missing)[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"{path}: expected a token for each of the 256 bytes, so that any text can be encoded. "
            f"Received: none for {len(missing)} of them ({named}). Give a byte-level vocabulary, "
            "or set data.tokenizer=bpe to learn one."
        )


def _refuse_changed_text(path: Path, tokenizer: BPE, added: list[dict]) -> None:
    """Refuses a tokenizer that does not give texts back, as where added words swallow spaces.

    The words of control tokens are text, too, where a text holds them.
    """
    words = [word["content"] for word in added]
    for text in (PROBE, *(f"a {word} b" for word in words), *(f"a{word}b" for word in words)):
        _refuse_unlike(path, tokenizer, text)


def _refuse_unlike(path: Path, tokenizer: Tokenizer, text: str) -> None:
    """Refuses a tokenizer that does not give this text back."""
    again = tokenizer.decode(tokenizer.encode(text))
    if again != text:
        raise UserError(
            f"{path}: expected a tokenizer that gives every text back. Received: one that"
            f" makes {again!r} of {text!r}. Give another vocabulary."
        )
