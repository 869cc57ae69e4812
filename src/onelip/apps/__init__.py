"""Command line. Nothing heavy is imported before a command runs."""
