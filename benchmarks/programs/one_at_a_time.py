"""One event, one transaction: the loop that everybody writes first."""

import argparse

from aiokafka import AIOKafkaConsumer
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.programs.ending import until_told
from benchmarks.programs.reading import validated
from benchmarks.programs.store import Relay, charge_one


async def main() -> None:
    """Run as the arguments say, until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--kafka", "--topic", "--group", "--database", "--to"):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()

    engine = create_async_engine(arguments.database)
    consumer = AIOKafkaConsumer(
        arguments.topic,
        bootstrap_servers=arguments.kafka,
        group_id=arguments.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
    )
    async with consumer, Relay(engine, arguments.kafka, arguments.to).running():
        while True:
            fetched = await consumer.getmany(timeout_ms=200, max_records=100)
            for records in fetched.values():
                for record in records:
                    event = validated(record)
                    async with engine.begin() as tx:
                        await charge_one(tx, event)
            if fetched:
                # What was applied and not committed is passed over when it comes again.
                await consumer.commit()


if __name__ == "__main__":
    until_told(main())
