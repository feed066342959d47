"""`python -m consumer.standin`: the stand-in on its own, to try a client against."""

import argparse
import asyncio
import contextlib
import signal

from consumer.standin.server import MASTER_KEY, StandIn


async def _serve(port: int, master_key: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    async with StandIn(port=port, master_key=master_key) as standin:
        print(f"LiteLLM stand-in at {standin.url}, master key {master_key}", flush=True)  # noqa: T201
        await stop.wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m consumer.standin", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=4000, help="on 127.0.0.1; 0: any free one (default: %(default)s)"
    )
    parser.add_argument("--master-key", default=MASTER_KEY, help="the admin key (default: %(default)s)")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.master_key))


if __name__ == "__main__":
    main()
