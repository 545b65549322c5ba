"""Our models inside other tools. Modules here may import those tools, so the rest of tttkit does not load them."""
