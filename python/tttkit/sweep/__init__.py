"""Studies: many runs over settings and seeds, each an ordinary `tttkit train` in its own run directory."""
