"""Everything that writes to Kafka: the relay of outcomes and dead letters, and upstream's publisher."""
