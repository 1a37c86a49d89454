"""Files of sequences: FASTA, FASTQ, GenBank and plain letters, also gzipped."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator

from tfbig.core.errors import UserError
from tfbig.prep.text import newlines

FASTA = (".fa", ".fasta", ".fna", ".ffn", ".frn", ".faa")
SUFFIXES = (*FASTA, ".fq", ".fastq", ".gb", ".gbk", ".genbank", ".gz")
GZIP = b"\x1f\x8b"
GENBANK = "LOCUS "  # how its files begin
MOST_BYTES = 1 << 30  # of a file, unpacked


def text_of(content: bytes, name: str) -> str:
    """A file's text, unpacked if it is packed."""
    if content.startswith(GZIP):
        try:
            content = _unpacked(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{name}: is no whole gzip file: {error}.") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{name}: expected at most {MOST_BYTES:,} bytes, unpacked. Cut it.")
    try:
        # Titles are in any letters; those of sequences are checked by their alphabet
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}: expected FASTA, FASTQ, GenBank or plain letters. Received: the byte"
            f" 0x{content[error.start]:02x}, at byte {error.start + 1:,}."
        ) from error


def _unpacked(content: bytes) -> bytes:
    """The content of a gzip file, but not more than is used of it."""
    with gzip.open(io.BytesIO(content)) as file:
        return file.read(MOST_BYTES + 1)


def records(text: str, name: str) -> Iterator[tuple[str, str]]:
    """The (title, letters) of FASTA, FASTQ or GenBank; of plain letters one without a title.

    Lines of letters are joined, blanks left out. A title is the word behind > or @, or GenBank's
    version.

    Raises:
        UserError: a record is torn, or holds no sequence.
    """
    if text.startswith(GENBANK):
        yield from _genbank(text, name)
        return
    lines = [line.strip() for line in newlines(text).split("\n")]
    lines = [line for line in lines if line]
    if lines and lines[0].startswith("@"):
        yield from _fastq(lines, name)
        return
    title, parts, number = "", [], 0
    for line in [*lines, ">"]:
        if line.startswith(">"):
            if parts or number:
                yield title, "".join(parts)
            number += 1
            words = line[1:].split()
            title = words[0] if words else f"{number}"
            parts = []
        elif not line.startswith(";"):  # comments of old files
            parts.append("".join(line.split()))


def _fastq(lines: list[str], name: str) -> Iterator[tuple[str, str]]:
    """Records of four lines: @title, letters, +, qualities."""
    for number, first in enumerate(range(0, len(lines), 4), 1):
        record = lines[first : first + 4]
        if len(record) < 4 or record[0][0] != "@" or record[2][0] != "+":
            raise UserError(f"{name}: expected FASTQ, four lines each. Record {number:,} is torn.")
        if len(record[1]) != len(record[3]):
            raise UserError(
                f"{name}: record {number:,}: expected as many qualities as letters,"
                f" {len(record[1]):,}. Received: {len(record[3]):,}."
            )
        yield (record[0][1:].split() or [str(number)])[0], record[1]


def _genbank(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Records as Biopython reads them."""
    try:
        from Bio import SeqIO
    except ImportError as error:
        raise UserError(
            f"{name}: needs biopython, not installed. Run pip install 'tfbig[biology]'."
        ) from error
    try:
        for record in SeqIO.parse(io.StringIO(text), "genbank"):
            yield record.id, str(record.seq)
    except Exception as error:  # the library's parser fails in many ways on broken files
        raise UserError(
            f"{name}: expected GenBank with its sequences. Received: {str(error)[:200]}."
        ) from error
