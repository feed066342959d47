"""From Kafka into the database: decode, dedupe, charge, keep what must wait, then commit the offsets."""
