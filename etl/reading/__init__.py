"""Reading the table ``features``: from query strings to rows."""
