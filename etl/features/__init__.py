"""The table ``features`` as its readers ask for it: from query strings to rows."""
