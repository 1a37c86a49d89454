"""Errors as TensorFlow Serving sends them.

One code for gRPC, the HTTP status that belongs to it, one message.
"""

from __future__ import annotations

# google.rpc.Code number and HTTP status of each code, as in TensorFlow Serving's http_server.cc.
CODES = {
    "CANCELLED": (1, 499),
    "UNKNOWN": (2, 500),
    "INVALID_ARGUMENT": (3, 400),
    "DEADLINE_EXCEEDED": (4, 504),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "PERMISSION_DENIED": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 400),
    "ABORTED": (10, 409),
    "OUT_OF_RANGE": (11, 400),
    "UNIMPLEMENTED": (12, 501),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "DATA_LOSS": (15, 500),
    "UNAUTHENTICATED": (16, 401),
}
LONGEST = 1024  # characters of a message sent to a client


class Failure(Exception):
    """A request that cannot be answered.

    Attributes:
        code: one of CODES.
        http: the HTTP status.
        told: whether the client knows already, or can be told no more, because the answer had
            begun.
    """

    def __init__(self, code: str, message: str, http: int | None = None):
        # What a client sent may hold half a character
        message = message.encode("utf-8", "replace").decode()
        message = message if len(message) <= LONGEST else message[: LONGEST - 4] + " ..."
        super().__init__(message)
        self.code = code
        self.message = message
        self.http = http or CODES[code][1]
        self.told = False


def invalid(message: str) -> Failure:
    return Failure("INVALID_ARGUMENT", message)
