"""A Kafka in memory, for simulated worlds: one broker, and clients that quack like aiokafka's.

It knows no real time, no chance and no thread. Whatever happens in it happens in an edge of a client, in a
timer of the running loop, or in a call of the test's.
"""

from tests.simulation.edges import Edge
from tests.simulation.kafka_broker import MAX_BATCH_BYTES, SimBroker
from tests.simulation.kafka_consumer import SimConsumer
from tests.simulation.kafka_link import Request, at_once
from tests.simulation.kafka_producer import SimProducer

__all__ = ["MAX_BATCH_BYTES", "Edge", "Request", "SimBroker", "SimConsumer", "SimProducer", "at_once"]
