"""HTTP to the authority."""

__all__ = ["CONNECT_TIMEOUT"]

#: Seconds that one attempt to connect may take.
CONNECT_TIMEOUT = 5.0
