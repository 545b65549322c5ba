"""What a model remembers of the text it has read: tasks beyond perplexity by position."""
