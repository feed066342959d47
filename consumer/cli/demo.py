"""`quartermaster demo`: the whole chain on embedded parts."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import click

from consumer.cli.command import CommandFailed, asynchronous
from consumer.cli.output import json_option, say
from consumer.demo.broker import BrokerMissing
from consumer.demo.chain import ChainBroken, run_chain
from consumer.demo.display import Display, LiveDisplay, PlainDisplay, SilentDisplay
from consumer.demo.stage import ServiceEnded


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the chain: exit 0 where every expected outcome came.")
@json_option
@asynchronous
async def demo(*, once: bool, as_json: bool) -> None:
    """Run the whole chain on embedded parts: a broker, SQLite and a stand-in of LiteLLM. Needs no set-up.

    Publishes a sample organization, its users and jobs, shows the outcomes as they come and the
    organization's books at the end, then stays up to be looked at until Ctrl-C. Nothing is left behind.

    \b
    Example:
      quartermaster demo
      quartermaster demo --once --json
    """
    display: Display
    if as_json:
        display = SilentDisplay()
    elif sys.stdout.isatty():
        display = LiveDisplay()
    else:
        display = PlainDisplay()
    if not as_json:
        say("Starting a broker, a stand-in of LiteLLM and the service; about 10 seconds ...")
    try:
        await _until_interrupted(run_chain(display, once=once, as_json=as_json))
    except (BrokerMissing, ServiceEnded, ChainBroken) as error:
        raise CommandFailed(str(error)) from error


async def _until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; the first SIGINT or SIGTERM cancels it, and it takes down what it has set up."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        await task
    except asyncio.CancelledError:
        if not interrupted:
            raise
        raise CommandFailed("interrupted before every expected outcome came") from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
