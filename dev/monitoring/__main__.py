"""Writes the files in `monitoring/`, or says which of them differ from the code."""

from __future__ import annotations

import argparse
import sys

from dev.monitoring.files import FOLDER, files


def main() -> int:
    """Returns the exit code: 1 if a file differs and is not written."""
    parser = argparse.ArgumentParser(prog="python -m dev.monitoring")
    parser.add_argument("--write", action="store_true", help="write the files")
    write = parser.parse_args().write
    differ = 0
    for name, text in files().items():
        path = FOLDER / name
        if path.exists() and path.read_text() == text:
            continue
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        else:
            print(f"{path} differs. Run: python -m dev.monitoring --write", file=sys.stderr)
            differ = 1
    return differ


if __name__ == "__main__":
    sys.exit(main())
