"""What tests of several rooms share: projects and worlds, a live Dagster, a tiny model, servers, made-up records."""
