"""`python -m hardwire_host.cli` is `hardwire`."""

from . import main

main()
