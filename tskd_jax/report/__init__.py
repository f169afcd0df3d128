"""What a finished run leaves behind."""
