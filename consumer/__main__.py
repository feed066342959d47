"""The entry point: `quartermaster ...` and `python -m consumer ...`."""

import sys
import traceback
from types import TracebackType

from consumer.cli.main import OWN_PROCESS, cli
from consumer.harmless import escaped


def main() -> None:
    """Run the command line and exit with 0 (done), 1 (failed) or 2 (wrong use)."""
    sys.excepthook = show_defect
    cli(prog_name="quartermaster", obj=OWN_PROCESS)


def show_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a defect; what the exception quotes steers no terminal."""
    sys.stderr.write(escaped("".join(traceback.format_exception(kind, error, trace)), keep="\n"))


if __name__ == "__main__":
    main()
