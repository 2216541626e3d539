"""Messages compiled by proto/generate.sh; not written by hand."""
