"""The demo: the whole chain on embedded parts, with nothing to set up."""
