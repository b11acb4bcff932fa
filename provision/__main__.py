"""`python -m provision` and the `provision` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line. Imported late: a shell that completes a word should not pay for more than it needs."""
    from provision.cli import run

    run()


if __name__ == "__main__":
    main()
