"""The command line, the settings, the embedded local stack and the process supervisor. The top floor."""
