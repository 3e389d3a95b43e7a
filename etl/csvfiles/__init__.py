"""CSV files as bytes: headers, blocks of whole records, regular or not. No database."""
