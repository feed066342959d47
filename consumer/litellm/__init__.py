"""LiteLLM's management API as the provisioner uses it: a client, its errors, and a gate on its health."""
