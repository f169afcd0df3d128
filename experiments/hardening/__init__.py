"""What breaks: damaged files, and runs that are killed."""
