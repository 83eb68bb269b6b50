"""The project's Git repository and its DVC data, read at a revision."""
