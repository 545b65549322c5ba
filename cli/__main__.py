"""`python -m tttkit_cli`, which torchrun starts on every rank, is the `tttkit` command."""

from tttkit_cli.app import main

main()
