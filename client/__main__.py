"""`python -m client` is the `asym` command, for where its script is not on the PATH."""

from client.cli import main

main()
