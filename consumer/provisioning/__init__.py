"""Provisioning: LiteLLM brought into line with what `org.created` and `user.joined` ask for.

Read, compare, write the difference, read back; what is written down before each call says what may be taken
back if it all comes to nothing.
"""
