"""Support for tests of several packages: projects, worlds, a live Dagster, a tiny model, servers, synthetic records."""
