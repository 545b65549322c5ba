"""Command line of tttkit: parses, calls the library, renders. One file per verb."""
