"""SDKs that have a protocol of their own for whoever gives them tokens: one module for each."""
