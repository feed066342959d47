"""The public shapes: inbound events, outcomes, dead letters, and the documents generated from them.

Everything here is pure: no input or output, no clock, no randomness; and nothing of the other
folders is imported.
"""
