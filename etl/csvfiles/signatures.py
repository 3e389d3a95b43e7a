"""What a file is that is no text in UTF-8, recognised by its first bytes."""

from __future__ import annotations

UNPACK = "unpack it, and put the CSV file in its place"
EXPORT = "save the data as CSV in UTF-8"

#: First bytes of formats that people save under the name of a CSV file, what each is,
#: and what to do. A longer signature comes before one that it begins with.
SIGNATURES = (
    (b"\x1f\x8b", "is compressed (gzip)", UNPACK),
    (b"PK\x03\x04", "is a ZIP archive or an Excel workbook", f"{UNPACK}, or {EXPORT}"),
    (b"PK\x05\x06", "is a ZIP archive without files", EXPORT),
    (b"BZh", "is compressed (bzip2)", UNPACK),
    (b"\xfd7zXZ\0", "is compressed (xz)", UNPACK),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd)", UNPACK),
    (b"\x04\x22\x4d\x18", "is compressed (lz4)", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel workbook", EXPORT),
    (b"PAR1", "is a Parquet file", EXPORT),
    (b"SQLite format 3\0", "is an SQLite database", EXPORT),
    (b"%PDF-", "is a PDF document", EXPORT),
    (b"\xff\xfe\0\0", "is UTF-32", EXPORT),
    (b"\0\0\xfe\xff", "is UTF-32", EXPORT),
    (b"\xff\xfe", "is UTF-16", EXPORT),
    (b"\xfe\xff", "is UTF-16", EXPORT),
)

#: Which of the first four bytes are zero where there is no byte-order mark: a header
#: begins with ASCII.
ZERO_BYTES = {
    (False, True, True, True): "UTF-32",
    (True, True, True, False): "UTF-32",
    (False, True, False, True): "UTF-16",
    (True, False, True, False): "UTF-16",
}

#: Bytes that are enough to recognise all of these.
LONGEST_SIGNATURE = max(len(signature) for signature, *_ in SIGNATURES)


def describe_binary(data: bytes) -> str | None:
    """What a file is that begins with ``data``, and what to do; None for text."""
    for signature, what, remedy in SIGNATURES:
        if data.startswith(signature):
            return f"{what}: {remedy}"
    zeros = tuple(byte == 0 for byte in data[:4])
    for places, encoding in ZERO_BYTES.items():
        if zeros == places:
            return f"is {encoding}: {EXPORT}"
    return None
