"""What leaves with a trained model, and how it is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

MEDIA = ("picture", "text", "tokens", "samples", "video", "sequence", "state")
"""What people can give: "samples" of a recording, a "sequence" such as DNA, the "state" of a
game."""

KINDS = ("label", "probabilities", "text", "tokens", "number", "picture", "boxes", "audio", "state")
"""What people are answered: labels, the likeliest first, and their probabilities in that order;
text; numbers; ..."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """What people give a served model and are answered, by the names of its default signature.

    Attributes:
        takes: input -> one of MEDIA; inputs that no person gives are left out.
        gives: output -> one of KINDS; outputs that no person reads are left out.
    """

    takes: dict[str, str] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for side, known in (("takes", MEDIA), ("gives", KINDS)):
            for name, kind in getattr(self, side).items():
                if kind not in known:
                    raise ValueError(
                        f"media.{side}.{name}: expected one of {', '.join(known)}. Received:"
                        f" {kind!r}."
                    )

    def to_json(self) -> dict[str, dict[str, str]]:
        return asdict(self)
