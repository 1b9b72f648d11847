"""The command's first moment. Nothing is imported before it but names: Ctrl-C while all else is loaded is quiet."""

INTERRUPTED = 130
"""`ExitStatus.INTERRUPTED`, which cannot be imported yet."""


def main() -> int:
    """Run the command and return its exit status."""
    try:
        from supervisor.cli.main import main as run_command

        return run_command()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
