"""`python -m sono` is `sono`."""

from sono.cli import main

main()
