"""Who asks, and whom: the authority, and what proves who the app is."""
