"""What HTTP asks of any answer: errors, formats, streams."""
