"""What models write: repetition, loops, diversity and fluency of continuations of real text."""
