"""Python environments for the tests of projects."""
