"""The rooms that know MSAL and the wire, and the only ones."""
