"""What the commands show. Nothing here calls the library's work; it renders what a command was given."""
