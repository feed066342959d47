"""The parts of the benchmarks, each a question with a table for an answer."""
