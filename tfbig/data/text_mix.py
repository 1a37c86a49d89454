"""Several text corpora as one: windows of tokens from the documents of other datasets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from tfbig.core import knobs, registry
from tfbig.core.component import knob
from tfbig.core.errors import Needed, UserError
from tfbig.data._text import TextWindows


@dataclass(frozen=True, kw_only=True)
class TextMix(TextWindows):
    """Several text corpora as one, such as for pre-training.

    Of labelled texts the training split alone is read, without its labels, so that nothing that
    they are tested by is seen.

    Example: data.sources=sotu,tfds_text:builder=glue/sst2
    """

    sources: tuple[str, ...] = knob(
        (), "datasets by name, each with its settings: NAME or NAME:KEY=VALUE:KEY=VALUE"
    )

    @classmethod
    def smallest(cls, folder):
        """Verses and the sentences of a table."""
        (folder / "song.txt").write_text(
            "\n\n".join(f"{i} green bottles hanging on the wall." for i in range(200)), "utf-8"
        )
        rows = "".join(f"row {i} of a table,{i % 2}\n" for i in range(90))
        (folder / "rows.csv").write_text(f"text,label\n{rows}", "utf-8")
        table = f"text_table:path={folder / 'rows.csv'}"
        song = f"text_files:path={folder / 'song.txt'}"
        return cls(sources=(song, table), context=16, tokenizer="wordpiece", vocabulary=300)

    def problems(self):
        yield from super().problems()
        if not self.sources:
            message = (
                "expected the datasets that are mixed. Received: none. Set data.sources=NAME,NAME."
            )
            yield "sources", Needed(message)
            return
        try:
            _ = self._parts
        except (UserError, ValueError) as error:
            yield "sources", str(error)

    @cached_property
    def _parts(self) -> list:
        """The datasets that are mixed."""
        parts = []
        for source in self.sources:
            name, *pairs = source.split(":")
            kind = registry.component("data", name)
            if not hasattr(kind, "documents"):
                raise UserError(f"expected datasets of texts. Received: {name}, which is none.")
            hints = knobs.hints(kind)
            settings = {}
            for pair in pairs:
                key, equals, value = pair.partition("=")
                if not equals or key not in hints:
                    raise UserError(
                        f"expected KEY=VALUE with a setting of {name}. Received: {pair}."
                    )
                settings[key] = knobs.parse(value, hints[key])
            parts.append(knobs.component(kind, settings))
        return parts

    def check(self):
        for part in self._parts:
            part.check()

    def documents(self):
        for number, part in enumerate(self._parts):
            for _, name, text in part.documents():
                yield None, f"{number}: {name}", text

    def content(self):
        digest = hashlib.sha256()
        for part in self._parts:
            # Which rows are held out is decided by the settings, too
            digest.update(repr((self.sources, part.content())).encode())
        return digest.hexdigest()

    def source_card(self):
        cards = [part.source_card() for part in self._parts]
        joined = {name: "; ".join(card[name] for card in cards) for name in cards[0]}
        return {**joined, "title": " and ".join(card["title"] for card in cards)}
