"""Web APIs: who calls, by a bearer that is validated; one module per framework."""
