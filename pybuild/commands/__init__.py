"""One module a command, or a few that belong together; imported when the command is used."""
