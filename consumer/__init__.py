"""Quartermaster's running side: ingest, provisioning, commands, endpoints, and the root that wires them."""
