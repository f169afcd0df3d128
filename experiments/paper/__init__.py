"""Tables of finished runs, as the paper's."""
