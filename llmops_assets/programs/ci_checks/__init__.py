"""The checks of the CI program, one module each: a tool run on a project's private copy, and its findings."""
