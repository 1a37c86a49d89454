"""Serve exported models over TensorFlow Serving's REST and gRPC, with a page to try them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tfbig.core import cli
from tfbig.core.errors import UserError

EXAMPLES = """  python -m tfbig.serve saved_models
  python -m tfbig.serve saved_models/mnist_mlp --engine onnx --port 9000 --grpc-port none
  python -m tfbig.serve saved_models --config saved_models/models.config
  python -m tfbig.serve saved_models --host 0.0.0.0 --token-file token.txt

Then open http://127.0.0.1:8501/ or ask with curl:
  curl http://127.0.0.1:8501/v1/models/mnist_mlp
  curl -d "{\\"instances\\": [{\\"b64\\": \\"$(base64 -w0 digit.png)\\"}]}" http://127.0.0.1:8501/v1/models/mnist_mlp:predict
  curl -N -d '{"model": "sotu_gpt", "prompt": "My fellow", "stream": true}' http://127.0.0.1:8501/v1/completions"""

MOST_MB = 2048


def door(arguments: list[str]) -> dict:
    parsed = _parser().parse_args(arguments)
    _check(parsed)
    from tfbig.deploy.server import run
    from tfbig.deploy.server.servable import ENGINES

    if parsed.engine not in ENGINES:
        raise UserError(f"--engine: expected {' or '.join(ENGINES)}. Received: {parsed.engine!r}.")
    limits = _limits(parsed)
    return run.serve(
        run.Settings(
            root=Path(parsed.folder),
            host=parsed.host,
            port=parsed.port,
            grpc_port=parsed.grpc_port,
            engine=parsed.engine,
            config=Path(parsed.config) if parsed.config else None,
            unverified=parsed.unverified,
            poll_s=parsed.poll,
            log_requests=parsed.log_requests,
            read_assets=_read_tokenizer,
            limits=limits,
        )
    )


def _parser() -> cli.Parser:
    """The command's arguments."""
    parser = cli.Parser("serve", __doc__, EXAMPLES)
    parser.add_argument(
        "folder", help="a directory of models (NAME/VERSION/...), or of one model's versions"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine alone)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8501,
        help="REST and the page (default: 8501; 0: any free one)",
    )
    parser.add_argument(
        "--grpc-port",
        type=_grpc_port,
        default=8500,
        metavar="PORT",
        help="gRPC (default: 8500; 0: any free one; none: no gRPC)",
    )
    parser.add_argument(
        "--engine",
        default="tensorflow",
        help=(
            "tensorflow (SavedModel) or onnx (model.onnx, by onnxruntime, which takes and gives"
            " numbers: see card.md)"
        ),
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=(
            "serve the models, versions and labels of a TensorFlow Serving models.config (default:"
            " all)"
        ),
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="ask for Authorization: Bearer with this file's content",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="listen on another address without a token"
    )
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="also serve models without artefact.json; their operations are still checked",
    )
    _add_limits(parser)
    return parser


def _add_limits(parser: cli.Parser) -> None:
    """Adds the options that limit and log requests."""
    parser.add_argument(
        "--poll",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds between looks for new versions (default: 2)",
    )
    parser.add_argument(
        "--max-body", type=float, default=8.0, metavar="MB", help="largest request (default: 8 MB)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds for one request (default: 30)",
    )
    parser.add_argument(
        "--log-requests",
        action="store_true",
        help="one line of JSON on stderr for each REST request",
    )


def _check(parsed: argparse.Namespace) -> None:
    """Refuses numbers that are out of range or collide."""
    for name, value in (
        ("poll", parsed.poll),
        ("max-body", parsed.max_body),
        ("timeout", parsed.timeout),
    ):
        if not 0 < value < 1e6:
            raise UserError(f"--{name}: expected more than 0. Received: {value}.")
    if parsed.port and parsed.port == parsed.grpc_port:
        raise UserError(
            f"--grpc-port: expected another port than --port. Received: {parsed.port} for both."
        )
    if parsed.max_body >= MOST_MB:
        raise UserError(
            f"--max-body: expected less than {MOST_MB}, the largest message that gRPC takes."
            f" Received: {parsed.max_body:g}."
        )


def _limits(parsed: argparse.Namespace):
    """The limits on requests; refuses an open address without a token."""
    from tfbig.deploy.server.admission import Limits, is_loopback

    token = _token(parsed.token_file)
    local = is_loopback(parsed.host)
    if not local and token is None and not parsed.insecure:
        raise UserError(
            f"--host {parsed.host}: others could reach the models there. Give --token-file FILE, or"
            " --insecure to serve without a token."
        )
    body = int(parsed.max_body * (1 << 20))
    return Limits(
        body=body,
        bodies=max(body, Limits.bodies),
        seconds=parsed.timeout,
        token=token,
        local=local and token is None,
    )


def _read_tokenizer(saved: dict):
    """A tokenizer, its streaming decoder and the preparation of its texts.

    They are read from tokenizer.json and generation.json.
    """
    from tfbig.decoding.text_stream import TextStream
    from tfbig.prep import text, vocabularies

    form = saved["generation"].get("normalize", "none")  # older artefacts do not say it
    if form not in text.FORMS:
        raise UserError(
            f"generation.json: normalize: expected one of {', '.join(text.FORMS)}. Received:"
            f" {form!r}."
        )
    return (
        vocabularies.from_json(saved["tokenizer"]),
        TextStream,
        lambda prompt: text.plain(prompt, form),
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535. Received: {text!r}")
    return int(text)


def _grpc_port(text: str) -> int | None:
    return None if text == "none" else _port(text)


def _token(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        token = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file {path}: cannot be read: {error}.") from error
    if len(token) < 16 or not token.isascii() or any(c.isspace() for c in token):
        raise UserError(
            f"--token-file {path}: expected one word of at least 16 ASCII characters. Received:"
            f" {len(token)}."
        )
    return token


def main(arguments: list[str] | None = None) -> int:
    return cli.run(door, arguments)


if __name__ == "__main__":
    sys.exit(main())
