"""Where embedded datasets come from."""
