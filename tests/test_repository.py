"""What is kept under version control."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_BYTES = 10_000_000


def too_large(root, names):
    """The files that every clone would carry for ever; only the package's own data may be large."""
    files = [root / name for name in names if not name.startswith("tfbig/data/")]
    return [
        str(file.relative_to(root))
        for file in files
        if file.is_file() and file.stat().st_size > MOST_BYTES
    ]


def test_no_large_file_is_tracked(tmp_path):
    (tmp_path / "arrays.npz").write_bytes(b"\0" * (MOST_BYTES + 1))
    (tmp_path / "small.py").write_text("")
    assert too_large(tmp_path, ["arrays.npz", "small.py", "deleted.py"]) == ["arrays.npz"]
    if not (ROOT / ".git").exists():
        pytest.skip("this copy has no version control")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = listing.strip("\0").split("\0")
    assert "setup.cfg" in names and too_large(ROOT, names) == []
