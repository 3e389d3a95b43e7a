"""What HTTP asks of any answer: errors, tokens, formats, caching, streams."""
