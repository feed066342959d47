"""A LiteLLM proxy in memory: the part of it that Quartermaster talks to, and what its keys can then do.

It behaves as the released proxy was measured to, wrong statuses and misleading answers included; one
conformance suite runs against both. It serves the demo and fast tests, on the loopback interface alone, and
forgets everything at its end.
"""

from consumer.standin.faults import Fault
from consumer.standin.server import StandIn
from consumer.standin.state import ProxySettings

__all__ = ["Fault", "ProxySettings", "StandIn"]
