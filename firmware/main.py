"""hardwire: starts the firmware. What it does is in app.py."""

from hardwire import start

start.main()
