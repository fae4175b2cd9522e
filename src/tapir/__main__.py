"""`python -m tapir`."""

from tapir.cli import main

main()
