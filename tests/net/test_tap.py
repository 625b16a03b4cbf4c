"""The TAP device itself: names, permission, addresses, carrier, its queue, and its end."""
