"""CSV files as bytes: read, cut into blocks, told plain from odd. No database here."""
