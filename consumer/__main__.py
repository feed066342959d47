"""The entry point: `quartermaster ...` and `python -m consumer ...`."""

from consumer.cli.main import cli


def main() -> None:
    """Run the command line and exit with 0 (done), 1 (failed) or 2 (wrong use)."""
    cli(prog_name="quartermaster")


if __name__ == "__main__":
    main()
